"""Label cases: names that are too few, in another order, or of another model."""

import json
import tempfile
import warnings
from pathlib import Path

from cells import (
    NAMED,
    NONE,
    RIGHT,
    SILENT,
    WARNED,
    Outcome,
    by_torch,
    case,
    truth,
)
from networks import build

import toplabel

NAMES = [str(index) for index in range(1000)]


# Labels: one too few, in string order, none at all


def _named(found: list[str], right: list[str], *, warning: str = "") -> Outcome:
    wrong = sum(a != b for a, b in zip(found, right, strict=True))
    if not wrong:
        return RIGHT, f"{len(right)} of {len(right)} names"
    count = f"{wrong} of {len(right)} names wrong"
    return (WARNED, f"{count}: {warning}") if warning else (SILENT, count)


@case("label count", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    names = NAMES[1:]  # the first line of the file was taken for a heading
    right = truth(checkpoints, photos)
    try:
        found = [names[index] for index in by_torch(model, transform, photos)]
    except IndexError as error:
        return NAMED, str(error)
    return _named(found, [NAMES[index] for index in right])


@case("label count", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    import shutil

    from transformers import pipeline

    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "model"
        shutil.copytree(checkpoints / "lite0-hf", copied)
        config = json.loads((copied / "config.json").read_text())
        config["label_names"] = NAMES[1:]
        (copied / "config.json").write_text(json.dumps(config))
        try:
            classify = pipeline("image-classification", model=str(copied), device="cpu")
            found = [best[0]["label"] for best in classify(photos, top_k=1)]
        except Exception as error:
            return NAMED, f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return _named(found, [NAMES[index] for index in truth(checkpoints, photos)])


@case("label count", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    try:
        toplabel.wrap(model, labels=NAMES[1:], preprocess=transform)
    except toplabel.LabelsError as error:
        return NAMED, str(error)[:160]
    return SILENT, "999 names for 1,000 outputs were taken"


@case("label order", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    by_text = sorted(NAMES)  # os.listdir, sorted: "10" before "2"
    found = [by_text[index] for index in by_torch(model, transform, photos)]
    return _named(found, [NAMES[index] for index in truth(checkpoints, photos)])


@case("label order", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrapped = toplabel.wrap(model, labels=sorted(NAMES), preprocess=transform)
    texts = [str(one.message) for one in caught]
    warning = next((text for text in texts if "sorted as text" in text), "")
    right = [NAMES[index] for index in truth(checkpoints, photos)]
    return _named([p.label for p in wrapped(photos)], right, warning=warning[:160])


@case("borrowed ImageNet names", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from transformers import ResNetConfig, ResNetForImageClassification

    model = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    said = model.config.id2label[281]
    return (RIGHT if "281" in said else SILENT), f"a network without names answers {said!r}"


@case("borrowed ImageNet names", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    return NONE, "the names are whatever list the user looks them up in"


@case("borrowed ImageNet names", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    said = toplabel.wrap(model, preprocess=transform)(photos[0])
    fine = said.label == str(said.index)
    return (RIGHT if fine else SILENT), f"a network without names answers {said.label!r}"
