"""`toplabel optimize`, `pack --int8` and `--fast` on what they made."""

import json
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest
from PIL import Image

from toplabel.bundle.file import pack
from toplabel.models.reduce import LEAST_IMAGES

pytest.importorskip("onnx")

from quantised_material import drawn_images, make_bundle

TWICE_AS_FAST = """
import toplabel.models.reduce as reducing
reducing.time_both = lambda *_, **__: reducing.Timing(exact=2e-3, reduced=1e-3)
import toplabel.models.optimize as optimizing
optimizing.WAYS = (reducing.INT8,)
"""
"""However busy this machine is; the rest is real."""


def run(*arguments: object, before: str = TWICE_AS_FAST) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"{before}\nfrom toplabel.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for place, pixels in enumerate(drawn_images(LEAST_IMAGES)):
        Image.fromarray(pixels).save(folder / f"{place:03d}.png", compress_level=1)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "exact one.toplabel"  # a name that shells take apart
    pack(make_bundle(tmp_path / "made"), path)
    return path


def test_optimize_says_what_it_measured_and_fast_uses_it(model: Path, images: Path) -> None:
    done = run("optimize", "-m", model, "--images", images)
    assert done.returncode == 0, done.stderr
    exact, int8 = (line.split("\t") for line in done.stdout.splitlines())
    assert exact[:3] == ["float32", "2.0 ms", "1.00 x"]
    assert int8[:3] == ["int8", "1.0 ms", "2.00 x"]
    assert int8[3].endswith(" of 200")
    assert (exact[-1], int8[6], int8[-1]) == ("", "2.95 %", "kept")
    assert "test/small@01234567 in int8, on " in done.stderr
    assert f"use it so: toplabel photos/ -m {quote(str(model))} --fast\n" in done.stderr

    done = run(images, "-m", model, "--fast", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record.get("precision") for record in records} == {None, "int8"}
    exactly = run(images, "-m", model, "--json", "--exact")
    expected = [json.loads(line)["label"] for line in exactly.stdout.splitlines()]
    assert [record["label"] for record in records] == expected


def test_where_int8_is_no_faster_the_reason_is_one_line_and_json_has_it(
    model: Path, images: Path
) -> None:
    as_fast = TWICE_AS_FAST.replace("reduced=1e-3", "reduced=2e-3")
    done = run("optimize", "-m", model, "--images", images, "--json", before=as_fast)
    found = json.loads(done.stdout)
    assert (done.returncode, found["kept"]) == (0, "float32")
    done = run(next(images.iterdir()), "-m", model, "--fast")
    assert "toplabel optimize found none that is worth using on this machine" in done.stderr
    reason = "int8 is 1.00 times as fast as float32 on this processor; it is used from 1.1 times"
    assert [one["reason"] for one in found["candidates"]] == ["", reason]


def test_a_bundle_packed_in_int8_carries_both_and_inspect_shows_it(
    model: Path, images: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both.toplabel"
    done = run("pack", model, "-o", both, "--int8", "--images", images)
    assert done.returncode == 0, done.stderr
    assert "in int8 2.00 times as fast; " in done.stderr
    shown = run("inspect", both)
    (line,) = [one for one in shown.stdout.splitlines() if one.startswith("reduced")]
    assert "int8, for --fast; 2.00 times as fast on " in line
    assert "no label changed in 100 re-computations: at most 2.95 % at 95 % confidence" in line


def test_int8_and_images_belong_together_and_few_images_are_refused(
    model: Path, images: Path, tmp_path: Path
) -> None:
    done = run("pack", model, "-o", tmp_path / "both", "--int8")
    assert done.returncode == 2
    assert "got --int8 without --images; they belong together" in done.stderr
    one = sorted(images.iterdir())[0]
    done = run("optimize", "-m", model, "--images", one)
    assert done.returncode == 2
    assert f"got 1 image; reduced precision needs at least {LEAST_IMAGES}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = run("optimize", "-m", model, "--images", tmp_path / "nowhere")
    assert done.stderr == f"toplabel: there is no file or folder '{tmp_path / 'nowhere'}'\n"
