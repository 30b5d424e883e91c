"""The door of reading: every kind of source, its name, and its errors."""

import base64
import io
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from toplabel.errors import ERROR_CODES, ImageError
from toplabel.image.decoded_image import DecodedImage
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image, source_name

COLOURS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(name: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, name)
    return file.getvalue()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded())
    return path


def failure(source: object, **options: object) -> ImageError:
    with pytest.raises(ImageError, match="^cannot read ") as caught:
        read_image(source, options=ReadOptions(**options))
    assert caught.value.code in ERROR_CODES
    assert "\n" not in caught.value.message
    return caught.value


def test_every_kind_of_source_gives_the_same_pixels(photo: Path) -> None:
    sources: list[object] = [
        str(photo),
        photo,
        encoded(),
        bytearray(encoded()),
        memoryview(encoded()),
        memoryview(encoded() * 2)[::1][: len(encoded())],
        io.BytesIO(encoded()),
        Image.fromarray(COLOURS),
        COLOURS,
    ]
    for source in sources:
        picture = read_image(source)
        assert isinstance(picture, DecodedImage)
        assert np.array_equal(picture.pixels, COLOURS)
    with photo.open("rb") as file:
        assert np.array_equal(read_image(file).pixels, COLOURS)
        assert np.array_equal(read_image(file).pixels, COLOURS)  # it is rewound


def test_a_file_object_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"header" + encoded())
    file.seek(6)
    assert np.array_equal(read_image(file).pixels, COLOURS)


def test_a_lazily_opened_pillow_image_is_loaded_and_stays_usable(photo: Path) -> None:
    with Image.open(photo) as image:
        assert np.array_equal(read_image(image).pixels, COLOURS)
        assert image.getpixel((0, 0)) == tuple(COLOURS[0, 0])


def test_a_pillow_image_that_cannot_be_loaded_is_an_image_error() -> None:
    image = Image.open(io.BytesIO(encoded()[:200]))
    assert failure(image).code in ("truncated", "corrupt")


def test_standard_input_is_read() -> None:
    program = (
        "from toplabel.image.reading import read_image\n"
        "try: print(read_image('-').pixels.shape)\n"
        "except ValueError as error: print(error.code)"
    )
    command = [sys.executable, "-c", program]
    assert b"(20, 30, 3)" in subprocess.run(command, input=encoded(), capture_output=True).stdout
    assert b"empty" in subprocess.run(command, input=b"", capture_output=True).stdout


def test_no_standard_input_is_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert failure("-").code == "not_found"


@pytest.mark.parametrize("source", [None, 7, 3.5, {"a": 1}, ["a.jpg"], object(), Path])
def test_other_types_are_a_type_error_that_lists_what_is_accepted(source: object) -> None:
    with pytest.raises(TypeError, match="expected a path, a URL, bytes"):
        read_image(source)


def test_a_text_file_object_is_a_type_error() -> None:
    with pytest.raises(TypeError, match='open.path, "rb"'):
        read_image(io.StringIO("text"))


def test_sources_have_names(photo: Path) -> None:
    assert source_name("a/b.jpg", 0) == "a/b.jpg"
    assert source_name(Path("a/b.jpg"), 0) == "a/b.jpg"
    assert source_name("-", 4) == "-"
    assert source_name("http://x/y.jpg", 0) == "http://x/y.jpg"
    assert source_name(b"", 3) == "<bytes 3>"
    assert source_name(bytearray(), 3) == "<bytes 3>"
    assert source_name(COLOURS, 1) == "<array 1>"
    assert source_name(Image.new("L", (1, 1)), 2) == "<image 2>"
    assert source_name(io.BytesIO(), 5) == "<file 5>"
    with photo.open("rb") as file:
        assert source_name(file, 0) == str(photo)
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert source_name(file, 6) == "<file 6>"
    assert os.fsencode(source_name("caf\udce9.jpg", 0)) == b"caf\xe9.jpg"


@pytest.mark.torch
def test_tensors_are_called_arrays() -> None:
    torch = pytest.importorskip("torch")
    assert source_name(torch.zeros(3, 4, 4), 8) == "<array 8>"


# Special files: one error each, and no waiting.


def test_special_files_have_their_codes(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket.jpg"))
    expected = {
        "empty.jpg": "empty",
        "folder.jpg": "not_a_file",
        "pipe.jpg": "not_a_file",
        "dangling.jpg": "not_found",
        "loop.jpg": "not_found",
        "zero.jpg": "not_a_file",
        "socket.jpg": "not_a_file",
        "missing.jpg": "not_found",
        "empty.jpg/below.jpg": "not_found",
        "x" * 300: "not_found",
        "nul\0.jpg": "not_found",
        "\ud800.jpg": "not_found",
    }
    for name, code in expected.items():
        error = failure(f"{tmp_path}/{name}")
        assert error.code == code, name
        assert len(error.message) > 30
    server.close()
    assert failure("/dev/zero").code == "not_a_file"
    assert failure("").code == "not_found"
    assert failure("s3://bucket/photo.jpg").code == "not_found"


def test_files_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(encoded())
    path.chmod(0)
    folder = tmp_path / "closed"
    folder.mkdir(0)
    if os.access(path, os.R_OK):
        # Root may read everything: ask as nobody, in a child.
        child = os.fork()
        if child == 0:
            codes = []
            try:
                os.chmod(tmp_path, 0o755)
                for parent in tmp_path.parents:
                    os.chmod(parent, parent.stat().st_mode | 0o011)
                os.setuid(65_534)
                codes = [failure(path).code, failure(folder).code]
            finally:
                os._exit(0 if codes == ["permission_denied"] * 2 else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0
    else:
        assert failure(path).code == failure(folder).code == "permission_denied"


def test_a_file_that_vanishes_is_not_found(photo: Path) -> None:
    assert read_image(photo)
    photo.unlink()
    assert failure(photo).code == "not_found"


@pytest.mark.parametrize(
    "name", [b"caf\xe9.png", b"new\nline.png", b'a,"b".png', b"-k.png", b"=1+1.png", b"*.png"]
)
def test_any_name_works(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(path)).write_bytes(encoded())
    assert np.array_equal(read_image(os.fsdecode(path)).pixels, COLOURS)
    os.unlink(path)
    message = failure(os.fsdecode(path)).message
    message.encode()  # no lone surrogates


def test_the_byte_limit_is_a_setting(photo: Path) -> None:
    size = photo.stat().st_size
    for source in (photo, encoded(), io.BytesIO(encoded())):
        assert read_image(
            source if not hasattr(source, "read") else io.BytesIO(encoded()),
            options=ReadOptions(max_bytes=size),
        )
        assert failure(source, max_bytes=size - 1).code == "too_large"


def test_an_error_can_be_pickled_and_names_its_source(photo: Path) -> None:
    photo.write_bytes(b"words")
    error = failure(photo)
    assert repr(str(photo)) in error.message
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.message) == (error.code, error.message)


def test_threads_read_at_once() -> None:
    contents = [encoded(name) for name in ("PNG", "JPEG", "TIFF", "WEBP", "GIF")]
    expected = [read_image(content).pixels for content in contents]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(20):
            for index, content in enumerate(contents):
                if not np.array_equal(read_image(content).pixels, expected[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_fork_while_a_large_image_is_decoded_does_not_hang() -> None:
    from toplabel.image.decoded_image import LARGE_PIXELS, turn

    with turn(LARGE_PIXELS + 1):
        child = os.fork()
        if child == 0:
            try:
                with turn(LARGE_PIXELS + 1):
                    os._exit(7)
            finally:
                os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_importing_and_reading_a_jpeg_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded("JPEG"))
    program = (
        "import sys\n"
        "from toplabel.image.reading import read_image\n"
        "heavy = {'PIL', 'simplejpeg', 'urllib.request', 'http', 'email', 'asyncio', 'torch',"
        " 'importlib.metadata', 'glob'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        f"read_image({str(path)!r})\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.splitlines() == ["[]", "['simplejpeg']"]


class TestDataUris:
    """The content of a file as text."""

    @pytest.mark.parametrize(
        "spell",
        [
            lambda raw: "data:image/png;base64," + base64.b64encode(raw).decode(),
            lambda raw: "data:;base64," + base64.b64encode(raw).decode().rstrip("="),
            lambda raw: "DATA:image/png;charset=utf-8;BASE64," + base64.b64encode(raw).decode(),
            lambda raw: "data:image/png;base64," + base64.urlsafe_b64encode(raw).decode(),
            lambda raw: "data:image/png;base64," + base64.encodebytes(raw).decode(),
            lambda raw: "data:image/png;base64," + quote(base64.b64encode(raw)),
            lambda raw: "data:image/png," + "".join(f"%{byte:02X}" for byte in raw),
        ],
    )
    def test_every_spelling_is_read(self, spell: Callable[[bytes], str]) -> None:
        expected = read_image(encoded()).pixels
        assert np.array_equal(read_image(spell(encoded())).pixels, expected)

    def test_messages_and_names_do_not_repeat_the_content(self) -> None:
        uri = "data:image/png;base64,!" + base64.b64encode(encoded()).decode() * 9
        error = failure(uri)
        assert error.code == "not_an_image"
        assert "data URI is damaged" in str(error)
        assert len(str(error)) < 250
        assert len(source_name(uri, 0)) < 80
        assert failure("data:image/png").code == "not_an_image"

    def test_the_byte_limit_holds(self) -> None:
        uri = "data:;base64," + base64.b64encode(encoded()).decode()
        assert failure(uri, max_bytes=20).code == "too_large"

    def test_bare_base64_is_told_from_a_path(self) -> None:
        for name in ("PNG", "JPEG", "GIF"):
            text = base64.b64encode(encoded(name)).decode()
            error = failure(text)
            assert error.code == "not_found"
            assert "base64" in str(error)
            assert len(str(error)) < 250
        for name in ("photos/" * 12 + "Qk0.bmp", "iVBOR.png"):
            assert "base64" not in str(failure(name))
            assert source_name(name, 0) == name
        assert source_name("Qk0" * 30, 0) == "Qk0" * 30  # a name all the same
