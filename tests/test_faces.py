"""Every face tells the same: whatever is doubtful of a model or an image, however it is asked."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import toplabel
from run_material import COLOURS, as_arguments, draw_colours, read_csv, read_jsonl, save_model
from serving import serving

pytest.importorskip("onnx")


@dataclass(frozen=True)
class Case:
    """What is doubtful.

    Args:
        said: A part of what every face must say.
        make: Prepares the folder of images.
        model: Changes the model of three colours.
        scale: Of its logits.
        last: What its network ends in.
    """

    said: str
    make: Callable[[Path], object] = lambda folder: None
    model: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda model: model)
    scale: float = 20
    last: str = ""


def unnamed(model: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in model.items() if name != "labels"}


def sorted_as_text(model: dict[str, Any]) -> dict[str, Any]:
    Path(model["labels"]).write_text("kind 1\nkind 10\nkind 2")
    return model


def add_float_image(folder: Path) -> None:
    pixels = np.linspace(0, 255, 16 * 16, dtype=np.float32).reshape(16, 16)
    Image.fromarray(pixels).save(folder / "99999.tif")


def add_damaged_image(folder: Path) -> None:
    (folder / "99999.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")


CASES = {
    "no names": Case("class names", model=unnamed),
    "names sorted as text": Case("sorted as text", model=sorted_as_text),
    "outputs of an untrained head": Case("nearly uniform", scale=0.3),
    "scores of several classes": Case("a score of its own", last="Sigmoid"),
    "an image of floats": Case("float samples", make=add_float_image),
    "a damaged image": Case("truncated", make=add_damaged_image),
}


def command(*arguments: object) -> tuple[str, str]:
    """Standard output and standard error of a command that does its work."""
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", *map(str, arguments)], capture_output=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def by_json(photos: Path, model: dict[str, Any], folder: Path) -> str:
    """With standard error thrown away."""
    return command(photos, *as_arguments(model), "--json")[0]


def by_csv(photos: Path, model: dict[str, Any], folder: Path) -> str:
    return command(photos, *as_arguments(model), "--csv")[0]


def by_pipe(photos: Path, model: dict[str, Any], folder: Path) -> str:
    return command(photos, *as_arguments(model))[1]


def quietly(photos: Path, model: dict[str, Any], folder: Path) -> str:
    return command(photos, *as_arguments(model), "-q")[1]


def in_python(photos: Path, model: dict[str, Any], folder: Path) -> str:
    """By the records alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = toplabel.load(**model)
        found = list(predictor.stream(sorted(map(str, photos.iterdir()))))
    return json.dumps([one.to_dict() for one in found])


def by_python_warnings(photos: Path, model: dict[str, Any], folder: Path) -> str:
    """By what a script's user sees, and its exceptions."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        predictor = toplabel.load(**model)
        found = list(predictor.stream(sorted(map(str, photos.iterdir()))))
    assert {one.filename for one in caught} <= {__file__}
    texts = [str(one.message) for one in caught]
    assert len(texts) == len(set(texts))
    of_images = [text for one in found for text in one.warnings if text not in predictor.warnings]
    return str([*texts, *of_images, *(one.error for one in found)])


def by_log(photos: Path, model: dict[str, Any], folder: Path) -> str:
    code = (
        "import json, logging, sys, warnings, toplabel; warnings.simplefilter('ignore')\n"
        "logging.basicConfig(stream=sys.stdout)\n"
        "predictor = toplabel.load(**json.loads(sys.argv[1]))\n"
        "for one in predictor.stream(sys.argv[2:]): print(one.error, *one.warnings)"
    )
    paths = sorted(map(str, photos.iterdir()))
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(model), *paths], capture_output=True, text=True
    )
    return done.stdout


def by_run(suffix: str, read: Callable[[Path], Any]) -> Callable[..., str]:
    def face(photos: Path, model: dict[str, Any], folder: Path) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            summary = toplabel.run(photos, folder / f"out{suffix}", **model)
        said = str(read(folder / f"out{suffix}"))
        assert all(text in said for text in summary.warnings)
        return said

    return face


def by_server(path: str) -> Callable[..., str]:
    def face(photos: Path, model: dict[str, Any], folder: Path) -> str:
        replies = []
        with serving(*as_arguments(model)) as server:
            for photo in sorted(photos.iterdir()):
                replies.append(server.post(path, photo.read_bytes()))
        return str([(reply.headers.get("x-warnings"), reply.body) for reply in replies])

    return face


def by_evaluation(photos: Path, model: dict[str, Any], folder: Path) -> str:
    pytest.importorskip("sklearn")
    names = ("0", "1", "2")
    if "labels" in model:
        names = tuple(Path(model["labels"]).read_text().splitlines())
    for place, path in enumerate(sorted(photos.iterdir())):
        target = folder / "val" / names[place % 3]
        target.mkdir(parents=True, exist_ok=True)
        os.link(path, target / path.name)
    return command("evaluate", folder / "val", *as_arguments(model), "--json")[0]


FACES: dict[str, Callable[[Path, dict[str, Any], Path], str]] = {
    "--json": by_json,
    "--csv": by_csv,
    "piped": by_pipe,
    "-q": quietly,
    "Python's records": in_python,
    "Python's warnings": by_python_warnings,
    "logging": by_log,
    "run CSV": by_run(".csv", read_csv),
    "run JSONL": by_run(".jsonl", read_jsonl),
    "server": by_server("/v1/classify"),
    "server, Hugging Face's way": by_server("/"),
    "evaluate": by_evaluation,
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("case", CASES)
def test_every_face_tells_what_is_doubtful(
    case: str, face: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(toplabel.__file__).parents[1]))
    wanted = CASES[case]
    photos = tmp_path / "photos"
    draw_colours(photos, 9)
    wanted.make(photos)
    model = wanted.model(save_model(tmp_path, scale=wanted.scale, last=wanted.last))
    assert wanted.said in FACES[face](photos, model, tmp_path)


@pytest.mark.parametrize("flags", [(), ("-q",), ("--csv",), ("--json",)], ids=str)
def test_every_face_has_the_classes_that_are_asked_for_and_marks_what_is_unsure(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    (photo,) = draw_colours(tmp_path, 1)
    model = as_arguments(save_model(tmp_path, scale=1))
    three, _ = command(photo, *model, "-k", "3", *flags)
    assert all(label in three for label in COLOURS)
    unsure, _ = command(photo, *model, "-k", "3", "--threshold", "0.99", *flags)
    assert unsure != three
    if "--json" not in flags and "--csv" not in flags:
        assert unsure == three.replace("\n", "\tunsure\n")


def test_no_face_gives_a_label_where_no_class_applies(tmp_path: Path) -> None:
    (photo,) = draw_colours(tmp_path / "photos", 1)
    model = {**save_model(tmp_path), "multi_label": True}
    recipe = json.loads(Path(model["preprocess"]).read_text()) | {"mean": [2, 2, 2]}
    Path(model["preprocess"]).write_text(json.dumps(recipe))  # all logits far below 0
    arguments = [photo, *as_arguments(model)]
    lines = [command(*arguments, *flags)[0] for flags in ((), ("-q",), ("--csv",), ("--json",))]
    piped, quiet, as_csv, as_json = lines
    assert piped == f"{photo}\t\t0.0000\n"
    assert quiet == "\n"
    assert as_csv.splitlines()[1].startswith(f"{photo},,,")
    prediction = toplabel.load(**model)(photo)
    assert (prediction.label, str(prediction), prediction.top) == (None, "", ())
    assert json.loads(as_json) == prediction.to_dict()
    for suffix, read in {".csv": read_csv, ".jsonl": read_jsonl}.items():
        toplabel.run(photo, tmp_path / f"out{suffix}", **model)
        assert not read(tmp_path / f"out{suffix}")[0]["label"]
    with serving(*as_arguments(model)) as server:
        (answer,) = server.classify(Path(photo).read_bytes()).json["predictions"]
        assert (answer["label"], answer["top"]) == (None, [])
        assert server.post("/", Path(photo).read_bytes()).status == 200


def test_a_script_prints_each_warning_once(tmp_path: Path) -> None:
    (photo,) = draw_colours(tmp_path, 1)
    code = (
        "import json, sys, toplabel\n"
        "model = toplabel.load(**json.loads(sys.argv[1]))\n"
        "model(sys.argv[2]); model([sys.argv[2]] * 2)\n"
    )
    model = json.dumps(unnamed(save_model(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", code, model, photo], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("comes without class names") == 1
