"""`toplabel explain`, as a process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CAT = ROOT / "examples" / "cat.jpg"


def run(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "toplabel", "explain", *map(str, arguments)],
        capture_output=True,
        input=stdin,
    )


@pytest.mark.slow  # two heat maps of a hundred patches each
def test_the_picture_is_written_at_its_own_size_and_one_sentence_says_what_it_shows(tmp_path):
    target = tmp_path / "why.png"
    done = run(CAT, "-o", target)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert b"tiger cat 0.371, by occlusion; the score drops by" in done.stderr
    with Image.open(target) as shown, Image.open(CAT) as given:
        assert shown.size == given.size
        assert shown.text["Title"] == "tiger cat"
    assert run(CAT, "-o", target, "-q", "--label", "lynx").stderr == b""  # our own is replaced
    with Image.open(target) as shown:
        assert shown.text["Title"] == "lynx"
    assert list(tmp_path.iterdir()) == [target]


def test_json_goes_to_standard_output_and_standard_input_is_read():
    done = run("-", "--json", "--label", "n02124075", stdin=CAT.read_bytes())
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["source"], said["label"], said["index"]) == ("-", "Egyptian cat", 285)
    assert (said["method"], said["width"], said["height"]) == ("occlusion", 451, 300)
    assert said["output"] is None
    assert said["faithfulness"] > said["random_faithfulness"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((CAT,), 2, "expected the PNG to write, -o why.png, or --json"),
        ((CAT, "-o", "why.jpg"), 2, "a name that ends in .png"),
        ((CAT, "-o", "nowhere/why.png"), 2, "there is no folder"),
        ((CAT, "--json", "--label", "tabbby"), 2, "did you mean 'tabby'"),
        ((CAT, "--json", "--label", "1000"), 2, "expected 0 to 999"),
        ((CAT, "--json", "--method", "gradcam"), 2, "use method 'occlusion'"),
        (("nothing.jpg", "--json"), 1, "nothing.jpg"),
        ((ROOT / "README.md", "--json"), 1, "it is text"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, status, said, tmp_path):
    done = run(*arguments)
    assert done.returncode == status, done.stderr
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def test_a_picture_that_is_not_ours_is_never_overwritten(tmp_path):
    photo = tmp_path / "photo.png"
    with Image.open(CAT) as image:
        image.save(photo)
    before = photo.read_bytes()
    done = run(CAT, "-o", photo)
    assert done.returncode == 2
    assert b"was not written by toplabel explain" in done.stderr
    assert photo.read_bytes() == before
