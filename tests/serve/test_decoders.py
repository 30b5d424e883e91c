"""Decoders: hostile files are read in processes that are killed, and nobody waits for them."""

import base64
import io
import json
import os
import signal
import struct
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import toplabel
from serving import CAT, Server, serving
from toplabel.errors import ImageError
from toplabel.image.decoded_image import DecodedImage
from toplabel.image.ordinary import is_ordinary
from toplabel.image.reading import read_image
from toplabel.preprocess.preprocess import Preprocess
from toplabel.preprocess.presets import preset
from toplabel.serve.decoder import Limits
from toplabel.serve.decoders import Decoders, IsolatedImage

MEBIBYTE = 2**20


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def png(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (16, 16)) -> bytes:
    rows = zlib.compress(bytes(size[1] * (1 + 3 * size[0])), 1)
    head = (b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    parts = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(whole))
        for kind, content in (head, *chunks, (b"IDAT", rows), (b"IEND", b""))
        for whole in (kind + content,)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(Limits(seconds=60, memory=600 * MEBIBYTE))
    yield made
    made.close()


def isolated(
    content: bytes,
    decoders: Decoders,
    *,
    seconds: float = 300.0,
    preprocess: Preprocess | None = None,
) -> IsolatedImage:
    return IsolatedImage(content, decoders, time.monotonic() + seconds, preprocess)


FILES = pytest.mark.parametrize(
    "content",
    [
        saved(noise(300, 200), "TIFF"),
        saved(noise(300, 200), "GIF"),
        saved(noise(300, 200), "WEBP", lossless=True),
        saved(noise(4400, 4000), "JPEG"),
    ],
    ids=["tiff", "gif", "webp", "large-jpeg"],
)


@FILES
def test_another_process_reads_an_image_as_this_one_does(content: bytes, decoders: Decoders):
    resized_size = preset("imagenet-crop-256-224").resized_size
    for size in (None, resized_size):
        mine = read_image(content, resized_size=size)
        other = read_image(isolated(content, decoders), resized_size=size)
        np.testing.assert_array_equal(mine.pixels, other.pixels)
        assert (mine.height, mine.width, mine.scale, mine.warnings) == (
            *(other.height, other.width, other.scale),
            other.warnings,
        )


@FILES
def test_another_process_makes_what_the_model_sees_too(content: bytes, decoders: Decoders):
    preprocess = preset("imagenet-crop-256-224")
    for size in (None, preprocess.resized_size):
        whole = read_image(content, resized_size=size)
        seen = read_image(isolated(content, decoders, preprocess=preprocess), resized_size=size)
        assert (seen.is_cropped, seen.pixels.shape) == (True, (224, 224, 3))
        assert (seen.height, seen.width, seen.scale) == (whole.height, whole.width, whole.scale)
        original = whole.height, whole.width
        expected = preprocess(whole.pixels, original_size=original, scale=whole.scale)
        np.testing.assert_array_equal(preprocess.normalise(seen.pixels), expected)


@pytest.mark.parametrize(
    "content", [b"GIF89a", b"no image", saved(noise(64, 64), "TIFF")[:3000]], ids=repr
)
def test_its_errors_are_those_of_this_one(content: bytes, decoders: Decoders):
    with pytest.raises(ImageError) as mine:
        read_image(content)
    with pytest.raises(ImageError) as other:
        read_image(isolated(content, decoders))
    assert (mine.value.code, str(mine.value)) == (other.value.code, str(other.value))


def slow_to_read() -> bytes:
    """Seconds of processor time."""
    runs = b"\x01\x01" * 15_000_000  # of one pixel each, which Pillow reads in Python
    size = struct.pack("<IiiHHIIiiII", 40, 3900, 3900, 1, 8, 1, len(runs), 1, 1, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + size + bytes(1024) + runs


def test_what_takes_too_much_processor_time_is_a_timeout_and_the_next_image_is_read():
    decoders = Decoders(Limits(seconds=1, memory=600 * MEBIBYTE))
    with pytest.raises(ImageError, match="1 s of processor time") as error:
        read_image(isolated(slow_to_read(), decoders))
    assert error.value.code == "timeout"
    assert isinstance(read_image(isolated(saved(noise(9, 9), "GIF"), decoders)), DecodedImage)
    decoders.close()


def test_what_takes_too_much_memory_is_too_large_and_its_process_is_replaced():
    decoders = Decoders(Limits(seconds=60, memory=160 * MEBIBYTE))
    content = saved(Image.new("RGB", (7000, 7000)), "TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError, match="more than 160 MiB") as error:
        read_image(isolated(content, decoders))
    assert error.value.code == "too_large"
    assert isinstance(read_image(isolated(saved(noise(9, 9), "GIF"), decoders)), DecodedImage)
    decoders.close()


def test_a_decoder_ends_with_the_request(decoders: Decoders):
    with pytest.raises(ImageError) as error:
        read_image(isolated(slow_to_read(), decoders, seconds=0))
    assert error.value.code == "timeout"


def test_a_decoder_that_crashes_costs_its_image_only(decoders: Decoders):
    read_image(isolated(saved(noise(9, 9), "GIF"), decoders))
    for decoder in decoders._idle:
        os.kill(decoder._process.pid, signal.SIGKILL)
    with pytest.raises(ImageError) as error:
        read_image(isolated(saved(noise(9, 9), "GIF"), decoders))
    assert error.value.code == "worker_crash"
    assert read_image(isolated(saved(noise(9, 9), "GIF"), decoders)).width == 9


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CAT, True),
        (saved(noise(600, 400), "PNG"), True),
        (saved(noise(600, 400), "WEBP"), True),
        (saved(noise(600, 400), "WEBP", lossless=True), True),
        (saved(noise(600, 400), "JPEG", progressive=True), True),
        (b"", True),
        (b"no image", True),
        (b"\xff\xd8\xff" + bytes(100), False),
        (CAT[:2] + b"\xff" * 300_000 + CAT[2:], False),
        (saved(Image.new("L", (5000, 5000)), "JPEG"), False),
        (saved(Image.new("L", (2000, 2000)), "JPEG", progressive=True), False),
        (saved(Image.new("CMYK", (9, 9)), "JPEG"), False),
        (saved(Image.new("L", (2000, 2000)), "PNG"), False),
        (png(*[(b"tEXt", b"a\0b")] * 20), False),
        (png(*[(b"IDAT", b"")] * 600), False),
        (png((b"zTXt", b"a\0\0" + zlib.compress(bytes(10)))), False),
        (saved(Image.new("RGBA", (9, 9)), "WEBP", save_all=True), False),
        (saved(noise(1200, 1200), "WEBP"), False),
        (saved(noise(9, 9), "GIF"), False),
        (saved(noise(9, 9), "TIFF"), False),
    ],
)
def test_only_what_is_surely_decoded_in_a_moment_is_ordinary(content: bytes, expected: bool):
    assert is_ordinary(content) is expected


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--no-access-log") as running:
        yield running


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "BMP"])
def test_the_server_labels_what_a_decoder_reads_as_the_command_line_does(server: Server, kind: str):
    content = saved(Image.open(io.BytesIO(CAT)), kind)
    (record,) = server.classify(content).json["predictions"]
    assert record["label"] == toplabel.label(content)


def test_a_request_may_mix_what_is_ordinary_and_what_is_not(server: Server):
    images = [CAT, saved(Image.open(io.BytesIO(CAT)), "BMP"), b"GIF89a", CAT]
    body = json.dumps({"images": [base64.b64encode(one).decode() for one in images]}).encode()
    records = server.classify(body, kind="application/json").json["predictions"]
    assert [record["label"] is not None for record in records] == [True, True, False, True]
    assert records[2]["error"]["code"] == "truncated"


def test_the_server_explains_what_a_decoder_reads(server: Server):
    reply = server.post("/v1/explain", saved(Image.open(io.BytesIO(CAT)), "BMP"))
    assert reply.status == 200
    assert reply.body.startswith(b"\x89PNG")
