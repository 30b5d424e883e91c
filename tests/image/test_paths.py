"""Folders, patterns and names on the command line."""

import os
from pathlib import Path

import pytest

from toplabel.errors import UsageError
from toplabel.image import paths
from toplabel.image.paths import IMAGE_SUFFIXES, expand, is_image


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "photos/b.jpg",
        "photos/a.PNG",
        "photos/notes.txt",
        "photos/.hidden.jpg",
        "photos/.cache/c.jpg",
        "photos/sub/d.webp",
        "photos/sub/deeper/e.jpeg",
        "photos/z.tif",
        "empty/notes.txt",
        "odd[1].jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


PHOTOS = ["a.PNG", "b.jpg", "sub/d.webp", "sub/deeper/e.jpeg", "z.tif"]


@pytest.mark.parametrize("name", ["photos", "photos/", "./photos"])
def test_folders_give_their_images_sorted(tree: Path, name: str) -> None:
    given = list(expand([name]))
    assert given == [os.path.join(name, photo) for photo in PHOTOS]


def test_names_come_back_as_they_are_in_order(tree: Path) -> None:
    names = ["missing.jpg", "-", "http://host/*.jpg", "photos/b.jpg", "photos/b.jpg", "odd[1].jpg"]
    assert list(expand(names)) == names


def test_patterns_give_what_a_shell_would(tree: Path) -> None:
    assert list(expand(["photos/*.jpg"])) == ["photos/b.jpg"]
    assert list(expand(["photos/?.*"])) == ["photos/a.PNG", "photos/b.jpg", "photos/z.tif"]
    assert list(expand(["photos/s*"])) == ["photos/sub/d.webp", "photos/sub/deeper/e.jpeg"]
    assert list(expand(["photos/**/*.jpeg"])) == ["photos/sub/deeper/e.jpeg"]
    assert "photos/sub/deeper/e.jpeg" in list(expand(["**"]))


@pytest.mark.parametrize("name", ["empty", "nothing/*.jpg", "empt*"])
def test_a_folder_or_pattern_without_images_is_a_usage_error(tree: Path, name: str) -> None:
    sources = expand(["photos/b.jpg", name])
    assert next(sources) == "photos/b.jpg"
    with pytest.raises(UsageError, match=name.replace("*", r"\*")):
        next(sources)


def test_links_in_a_circle_end(tree: Path) -> None:
    (tree / "photos/sub/up").symlink_to(tree / "photos")
    (tree / "photos/sub/self").symlink_to(tree / "photos/sub/self")
    (tree / "photos/loop.jpg").symlink_to("loop.jpg")
    given = list(expand(["photos"]))
    assert len(given) == 6
    assert "photos/loop.jpg" in given  # its error becomes a record


def test_names_that_are_not_utf8_survive(tree: Path) -> None:
    (tree / os.fsdecode(b"photos/caf\xe9.jpg")).touch()
    names = [os.fsencode(name) for name in expand(["photos"])]
    assert b"photos/caf\xe9.jpg" in names


@pytest.mark.slow
def test_a_deep_tree_is_walked(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for _ in range(1_200):
        folder += "/d"
        os.mkdir(folder)
    picture = Path(folder, "a.jpg")
    picture.touch()
    assert list(expand([str(tmp_path)])) == [str(picture)]
    picture.unlink()
    os.removedirs(folder)  # pytest's own cleaning does not reach so deep


def test_sources_come_while_folders_are_read(tree: Path) -> None:
    sources = expand(iter(["photos", "gone"]))
    assert next(sources) == "photos/a.PNG"


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in IMAGE_SUFFIXES)


def test_a_pattern_goes_into_each_real_folder_once(tree: Path) -> None:
    (tree / "photos/sub/up").symlink_to("..")
    (tree / "photos/sub/again").symlink_to("..")  # glob would take 2 to the power of 40 ways
    assert list(expand(["./photos/**/*.jp*g"])) == ["./photos/b.jpg", "./photos/sub/deeper/e.jpeg"]
    assert list(expand(["**/deeper/*"])) == ["photos/sub/deeper/e.jpeg"]
    absolute = str(tree / "**" / "d.webp")
    assert list(expand([absolute])) == [str(tree / "photos/sub/d.webp")]


def test_stars_alone_give_what_is_in_folders(tree: Path) -> None:
    assert list(expand(["photos/**"])) == [
        "photos/a.PNG", "photos/b.jpg", "photos/notes.txt", "photos/sub/d.webp",
        "photos/sub/deeper/e.jpeg", "photos/z.tif",
    ]  # fmt: skip


def test_a_folder_of_more_names_than_are_held_gives_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [b"%03d.jpg" % n for n in range(50)] + [b"\xff.jpg", "é.png".encode(), b"a\nb.gif"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    (tmp_path / "020").mkdir()
    (tmp_path / "020" / "x.jpg").touch()
    whole = list(expand([str(tmp_path)]))
    for held in (1, 7, 52):
        monkeypatch.setattr("toplabel.image.paths._NAMES_HELD", held)
        assert list(expand([str(tmp_path)])) == whole


@pytest.mark.parametrize(
    "pattern", ["*.jpg", "**/*.jpg", "a*", "**/*", "[ab].*", "x/*.png", "**/x/*"]
)
def test_patterns_that_stream_match_what_those_that_are_held_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    for name in ("a.jpg", "b.png", "x/a.jpg", "x/y/b.jpg", "a.d/c.jpg", ".h/a.jpg", "x/.h.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.symlink("..", tmp_path / "x" / "up")
    monkeypatch.chdir(tmp_path)
    held = list(paths._held_matches(pattern))
    assert list(paths._matches(pattern)) == held
    assert list(paths._matches(f"{tmp_path}/{pattern}")) == [f"{tmp_path}/{name}" for name in held]


@pytest.mark.parametrize("name", ["._a.png", "b/._a.png", "__MACOSX/a.png", "b/__MACOSX/._a.png"])
def test_what_macos_keeps_beside_an_image_is_none(name: str) -> None:
    assert not is_image(name)
    assert is_image(name.replace("._", "").replace("__", "x"))
