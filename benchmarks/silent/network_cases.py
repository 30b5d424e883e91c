"""Network cases: mistakes with weights, labels and arrays; what one tool makes of one of them.

python network_cases.py CASE TOOL CHECKPOINTS PHOTO...

Prints a line of JSON: `outcome` and `detail`. Each case is the tool's documented use, with one
thing wrong that people get wrong; the right answer is known, because the case was made so.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "rivals"))

import declare_operators  # noqa: F401  (before torchvision and timm)
import numpy as np
import torch
from input_tools import Logged
from networks import build
from PIL import Image
from torch import nn
from torch.nn import functional

import toplabel

RIGHT, NAMED, WARNED, SILENT, NONE = (
    "right", "named error", "wrong, warned", "silently wrong", "not applicable",
)  # fmt: skip
Outcome = tuple[str, str]
Case = Callable[[Path, list[str]], Outcome]
CASES: dict[tuple[str, str], Case] = {}

NAMES = [str(index) for index in range(1000)]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def case(name: str, tool: str) -> Callable[[Case], Case]:
    """Registers a function as what a tool does with a case."""

    def register(function: Case) -> Case:
        CASES[name, tool] = function
        return function

    return register


def truth(checkpoints: Path, photos: list[str]) -> list[int]:
    """The labels by the right weights and recipe."""
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    with torch.no_grad():
        batch = torch.stack([transform(Image.open(p).convert("RGB")) for p in photos])
        return model(batch).argmax(1).tolist()


def compared(found: list[int], right: list[int], *, told: str = "") -> Outcome:
    """The outcome for some labels: silently wrong where any differs and nothing was said."""
    wrong = sum(a != b for a, b in zip(found, right, strict=True))
    if not wrong:
        return RIGHT, f"{len(right)} of {len(right)} labels"
    return (
        WARNED if told else SILENT
    ), f"{wrong} of {len(right)} labels wrong{told and ': '}{told}"


def by_torch(model: nn.Module, transform: Callable, photos: list[str]) -> list[int]:
    """The thirty lines."""
    with torch.no_grad():
        batch = torch.stack([transform(Image.open(p).convert("RGB")) for p in photos])
        return model(batch).argmax(1).tolist()


def of_ours(action: Callable[[Callable[[str], None]], list[int]], right: list[int]) -> Outcome:
    """What toplabel does: an error is named, a note is a warning."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = action(notes.append)
        except toplabel.ToplabelError as error:
            return NAMED, f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    told = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    return compared(found, right, told=(notes + told)[0][:160] if notes + told else "")


def imagenet_transform() -> Callable:
    """What tutorials copy."""
    from torchvision import transforms

    return transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
         transforms.Normalize(*IMAGENET)]
    )  # fmt: skip


# Wrong recipe for pretrained weights: these were trained with mean and std 0.5


@case("wrong recipe for pretrained weights", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    return compared(by_torch(model, imagenet_transform(), photos), truth(checkpoints, photos))


@case("wrong recipe for pretrained weights", "timm")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from timm.data import create_transform, resolve_data_config

    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    transform = create_transform(**resolve_data_config({}, model=model))
    return compared(by_torch(model, transform, photos), truth(checkpoints, photos))


@case("wrong recipe for pretrained weights", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(checkpoints / "lite0-hf"), device="cpu")
    found = [int(best[0]["label"]) for best in classify(photos, top_k=1)]
    return compared(found, truth(checkpoints, photos))


@case("wrong recipe for pretrained weights", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model = toplabel.load()
    return compared([one.index for one in model(photos)], truth(checkpoints, photos))


# Unknown recipe: somebody's checkpoint, whose file says nothing of preprocessing


class Mine(nn.Module):
    """A class of the user's around the network, as training code has it."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.net(x)


def _mine(checkpoints: Path, folder: str) -> Path:
    state = torch.load(checkpoints / "lite0.pth", weights_only=True)
    path = Path(folder) / "mine.pth"
    torch.save({f"net.{name}": tensor for name, tensor in state.items()}, path)
    return path


@case("unknown recipe", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        model = Mine()
        model.load_state_dict(torch.load(_mine(checkpoints, folder), weights_only=True))
        return compared(
            by_torch(model.eval(), imagenet_transform(), photos), truth(checkpoints, photos)
        )


@case("unknown recipe", "timm")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    """A checkpoint trained with ImageNet's constants instead of the architecture's own."""
    import timm
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model(
        "tf_efficientnet_lite0", checkpoint_path=str(checkpoints / "lite0.pth")
    ).eval()
    right = by_torch(model, imagenet_transform(), photos)  # what it would have been trained with
    own = create_transform(**resolve_data_config({}, model=model))
    return compared(by_torch(model, own, photos), right)


@case("unknown recipe", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    import shutil

    from transformers import pipeline

    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "model"
        shutil.copytree(checkpoints / "lite0-hf", copied)
        config = json.loads((copied / "config.json").read_text())
        config.pop("pretrained_cfg", None)
        (copied / "config.json").write_text(json.dumps(config))
        for name in ("preprocessor_config.json",):
            (copied / name).unlink(missing_ok=True)
        try:
            classify = pipeline("image-classification", model=str(copied), device="cpu")
            found = [int(best[0]["label"]) for best in classify(photos, top_k=1)]
        except Exception as error:
            return NAMED, f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return compared(found, truth(checkpoints, photos))


@case("unknown recipe", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        path = _mine(checkpoints, folder)
        return of_ours(
            lambda tell: [p.index for p in toplabel.load(path, arch=Mine, notify=tell)(photos)],
            truth(checkpoints, photos),
        )


# Train mode


@case("train mode", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    model.train()  # as it comes out of training
    return compared(
        [by_torch(model, transform, [photo])[0] for photo in photos], truth(checkpoints, photos)
    )


@case("train mode", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    model.train()
    return of_ours(
        lambda tell: [
            p.index for p in toplabel.wrap(model, preprocess=transform, notify=tell)(photos)
        ],
        truth(checkpoints, photos),
    )


# Hidden dropout


class Dropping(nn.Module):
    """F.dropout without `training=self.training`: always active."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a picture half of which is missing."""
        return self.network(functional.dropout(x, 0.5))


@case("hidden dropout", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    torch.manual_seed(0)
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    found = by_torch(Dropping(model).eval(), transform, photos)
    return compared(found, truth(checkpoints, photos))


@case("hidden dropout", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    return of_ours(
        lambda tell: [
            p.index
            for p in toplabel.wrap(Dropping(model), preprocess=transform, notify=tell)(photos)
        ],
        truth(checkpoints, photos),
    )


# Double softmax: the network ends in one; a score is wrong where the label is right


def _scores(found: float, right: float) -> Outcome:
    close = abs(found - right) < 0.01
    return (RIGHT if close else SILENT), f"score {found:.3f}, its own is {right:.3f}"


def _own_score(model: nn.Module, transform: Callable, photo: str) -> float:
    with torch.no_grad():
        return float(model(transform(Image.open(photo).convert("RGB"))[None]).softmax(1).max())


@case("double softmax", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    ended = nn.Sequential(model, nn.Softmax(1))
    return _scores(_own_score(ended, transform, photos[0]), _own_score(model, transform, photos[0]))


@case("double softmax", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    wrapped = toplabel.wrap(nn.Sequential(model, nn.Softmax(1)), preprocess=transform)
    return _scores(wrapped(photos[0]).score, _own_score(model, transform, photos[0]))


# Labels: one too few, in string order, none at all


def _named(found: list[str], right: list[str], *, told: str = "") -> Outcome:
    wrong = sum(a != b for a, b in zip(found, right, strict=True))
    if not wrong:
        return RIGHT, f"{len(right)} of {len(right)} names"
    return (WARNED if told else SILENT), f"{wrong} of {len(right)} names wrong{told and ': '}{told}"


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
    notes: list[str] = []
    wrapped = toplabel.wrap(model, labels=sorted(NAMES), preprocess=transform, notify=notes.append)
    told = next((note for note in notes if "sorted as text" in note), "")
    right = [NAMES[index] for index in truth(checkpoints, photos)]
    return _named([p.label for p in wrapped(photos)], right, told=told[:160])


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


# Arrays


def _arrays(photos: list[str]) -> list[np.ndarray]:
    return [np.asarray(Image.open(photo).convert("RGB")) for photo in photos]


@case("BGR arrays, 10", "torchvision")
@case("BGR arrays, 24", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    with torch.no_grad():
        found = [
            int(model(transform(Image.fromarray(one[..., ::-1].copy()))[None]).argmax())
            for one in _arrays(photos)
        ]
    return compared(found, truth(checkpoints, photos))


@case("BGR arrays, 10", "transformers")
@case("BGR arrays, 24", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(checkpoints / "lite0-hf"), device="cpu")
    try:
        said = classify([one[..., ::-1] for one in _arrays(photos)], top_k=1)
    except Exception as error:
        return NAMED, f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return compared([int(best[0]["label"]) for best in said], truth(checkpoints, photos))


@case("BGR arrays, 10", "toplabel")
@case("BGR arrays, 24", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    return of_ours(
        lambda tell: [
            p.index for p in toplabel.load(notify=tell)([one[..., ::-1] for one in _arrays(photos)])
        ],
        truth(checkpoints, photos),
    )


@case("float range", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from torchvision import transforms

    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Resize(256), transforms.CenterCrop(224),
         transforms.Normalize([0.5] * 3, [0.5] * 3)]
    )  # fmt: skip
    with torch.no_grad():  # ToTensor scales uint8 only: 0 to 255 stays 0 to 255
        found = [
            int(model(transform(one.astype(np.float32))[None]).argmax()) for one in _arrays(photos)
        ]
    return compared(found, truth(checkpoints, photos))


@case("float range", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    said = toplabel.load()([one.astype(np.float32) for one in _arrays(photos)])
    failed = [one.error for one in said if one.error is not None]
    if len(failed) == len(said):
        return NAMED, f"{failed[0].code}: {failed[0].message[:140]}"
    return compared([one.index for one in said], truth(checkpoints, photos))


# Weights that do not fit, or are no numbers


@case("wrong class with strict=False", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from torchvision import models

    torch.manual_seed(0)
    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    other = models.mobilenet_v2().eval()
    other.load_state_dict(
        torch.load(checkpoints / "lite0.pth", weights_only=True), strict=False
    )  # it returns the names; nobody looks
    return compared(by_torch(other, imagenet_transform(), photos), truth(checkpoints, photos))


@case("wrong class with strict=False", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    return of_ours(
        lambda tell: [
            p.index
            for p in toplabel.load(
                checkpoints / "lite0.pth",
                arch="torchvision/mobilenet_v2",
                preprocess="half-crop-256-224",
                notify=tell,
            )(photos)
        ],
        truth(checkpoints, photos),
    )


def _with_nan(checkpoints: Path, folder: str) -> Path:
    state = torch.load(checkpoints / "lite0.pth", weights_only=True)
    state["conv_stem.weight"][0] = float("nan")
    path = Path(folder) / "nan.pth"
    torch.save(state, path)
    return path


@case("NaN weights", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        model, transform = build("lite0", weights=str(_with_nan(checkpoints, folder)))
        return compared(by_torch(model, transform, photos), truth(checkpoints, photos))


@case("NaN weights", "timm")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    import timm
    from timm.data import create_transform, resolve_data_config

    with tempfile.TemporaryDirectory() as folder:
        model = timm.create_model(
            "tf_efficientnet_lite0", checkpoint_path=str(_with_nan(checkpoints, folder))
        ).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    return compared(by_torch(model, transform, photos), truth(checkpoints, photos))


@case("NaN weights", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(checkpoints / "lite0-hf"), device="cpu")
    with torch.no_grad():
        next(classify.model.parameters())[0] = float("nan")
    found = [int(best[0]["label"]) for best in classify(photos, top_k=1)]
    return compared(found, truth(checkpoints, photos))


@case("NaN weights", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        path = _with_nan(checkpoints, folder)
        return of_ours(
            lambda tell: [
                p.index
                for p in toplabel.load(path, arch="timm/tf_efficientnet_lite0", notify=tell)(photos)
            ],
            truth(checkpoints, photos),
        )


# Drift


@case("drift between fast and exact", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    fast, exact = toplabel.load(), toplabel.load(exact=True)
    return compared([one.index for one in fast(photos)], [one.index for one in exact(photos)])


@case("drift between fast and exact", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    return NONE, "its fast image processors are another resize; see docs/benchmarks.md"


class Branching(nn.Module):
    """Answers by another head where it is dark: an export by tracing keeps one of the two ways."""

    def __init__(self, network: nn.Module, at: float) -> None:
        super().__init__()
        self.network = network
        self.at = at

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        if x.mean() > self.at:
            return self.network(x)
        return self.network(x).roll(1, 1)


def _branching(checkpoints: Path, photos: list[str]) -> tuple[nn.Module, Callable, list[int]]:
    """The network, its transform, and its labels; half of the photos go each way."""
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    means = [float(transform(Image.open(p).convert("RGB")).mean()) for p in photos]
    branching = Branching(model, float(np.median(means))).eval()
    return branching, transform, [by_torch(branching, transform, [p])[0] for p in photos]


@case("drift after export", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    import onnxruntime

    branching, transform, right = _branching(checkpoints, photos)
    example = transform(Image.open(photos[0]).convert("RGB"))[None]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = f"{folder}/model.onnx"
        torch.onnx.export(branching, example, path, dynamo=False, input_names=["x"])
        session = onnxruntime.InferenceSession(path)
        inputs = [transform(Image.open(p).convert("RGB"))[None].numpy() for p in photos]
        found = [int(session.run(None, {"x": one})[0].argmax()) for one in inputs]
    told = next((str(one.message) for one in caught if "Tracer" in one.category.__name__), "")
    return compared(found, right, told=told[:120])


@case("drift after export", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    branching, transform, right = _branching(checkpoints, photos)
    return of_ours(
        lambda tell: [
            p.index for p in toplabel.wrap(branching, preprocess=transform, notify=tell)(photos)
        ],
        right,
    )


def main() -> None:
    """One cell."""
    name, tool, checkpoints, *photos = sys.argv[1:]
    logged = Logged()
    with logged:
        outcome, detail = CASES[name, tool](Path(checkpoints), photos)
    if outcome == SILENT and logged.said:  # people see that on standard error
        outcome, detail = WARNED, f"{detail}; logged: {logged.said[0][:120]}"
    print(json.dumps({"outcome": outcome, "detail": detail}))


if __name__ == "__main__":
    main()
