"""Label odd files with one tool, each in a list before a good photo; tell what became of them.

python input_tools.py TOOL CHECKPOINTS CASES.json GOOD

Prints for each case: `index` or `error`, `warnings`, `stopped` (the exception that ended the list,
so that the good photo got no label), `good` (the good photo's index), and `expected` (the tool's
own answer for the plain image).
"""

import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "rivals"))

GOOD = Path(__file__).parents[2] / "examples" / "cat.jpg"

Answer = tuple[int | None, str | None, list[str]]  # index, error, warnings
Tool = Callable[[list[str]], list[Answer]]


def toplabel(_: str) -> Tool:
    """Its Python interface, with the built-in model: the same weights."""
    import toplabel

    model = toplabel.load()

    def label(paths: list[str]) -> list[Answer]:
        return [
            (said.index, said.error and said.error.code, list(said.warnings))
            for said in model(paths)
        ]

    return label


def textbook(checkpoints: str) -> Tool:
    """Thirty lines, with the right preprocessing, and eval mode."""
    import torch
    from networks import build
    from PIL import Image

    model, transform = build("lite0", weights=f"{checkpoints}/lite0.pth")

    @torch.no_grad()
    def label(paths: list[str]) -> list[Answer]:
        answers = []
        for path in paths:
            batch = transform(Image.open(path).convert("RGB")).unsqueeze(0)
            answers.append((model(batch)[0].argmax().item(), None, []))
        return answers

    return label


def transformers(checkpoints: str) -> Tool:
    """Hugging Face's pipeline, as its documentation calls it, with a list of paths."""
    import declare_operators  # noqa: F401  (before transformers looks for torchvision)
    from transformers import pipeline

    classify = pipeline("image-classification", model=f"{checkpoints}/lite0-hf", device="cpu")
    index_of = {name: index for index, name in classify.model.config.id2label.items()}

    def label(paths: list[str]) -> list[Answer]:
        return [(index_of[best[0]["label"]], None, []) for best in classify(paths, top_k=1)]

    return label


def _folder_of(paths: list[str]) -> tempfile.TemporaryDirectory:
    """A class folder with links to these files, in their order."""
    folder = tempfile.TemporaryDirectory()
    (Path(folder.name) / "all").mkdir()
    for number, path in enumerate(paths):
        (Path(folder.name) / "all" / f"{number}{Path(path).suffix}").symlink_to(
            Path(path).absolute()
        )
    return folder


def torchvision(checkpoints: str) -> Tool:
    """ImageFolder with its own loader, and the right transform."""
    import torch
    from networks import build
    from torchvision.datasets import ImageFolder

    model, transform = build("lite0", weights=f"{checkpoints}/lite0.pth")

    @torch.no_grad()
    def label(paths: list[str]) -> list[Answer]:
        with _folder_of(paths) as folder:
            dataset = ImageFolder(folder, transform)
            answers = [model(dataset[i][0][None])[0].argmax().item() for i in range(len(dataset))]
        return [(index, None, []) for index in answers]

    return label


def timm(checkpoints: str) -> Tool:
    """Its dataset, loader and transform by the model's own configuration."""
    import torch
    from networks import build
    from timm.data import ImageDataset, create_loader, resolve_data_config

    model, _ = build("lite0", weights=f"{checkpoints}/lite0.pth")
    config = resolve_data_config({}, model=model)

    @torch.no_grad()
    def label(paths: list[str]) -> list[Answer]:
        with _folder_of(paths) as folder:
            loader = create_loader(
                ImageDataset(folder),
                input_size=config["input_size"],
                batch_size=8,
                use_prefetcher=False,
                is_training=False,
                num_workers=0,
                device=torch.device("cpu"),
                **{key: config[key] for key in ("interpolation", "mean", "std", "crop_pct")},
            )
            outputs = torch.cat([model(images) for images, _ in loader])
        return [(index, None, []) for index in outputs.argmax(1).tolist()]

    return label


def fastai(checkpoints: str) -> Tool:
    """A Learner around the right network, asked for a list as its documentation does."""
    import declare_operators  # noqa: F401  (before fastai looks for torchvision)
    import torch
    from fastai.vision import all as vision
    from networks import build

    model, _ = build("lite0", weights=f"{checkpoints}/lite0.pth")
    block = vision.DataBlock(
        blocks=(vision.ImageBlock, vision.CategoryBlock(vocab=list(range(1000)))),
        get_y=lambda path: 0,
        splitter=vision.IndexSplitter([0]),
        item_tfms=vision.Resize(224),
        batch_tfms=vision.Normalize.from_stats([0.5] * 3, [0.5] * 3),
    )

    def label(paths: list[str]) -> list[Answer]:
        files = [Path(path) for path in paths]
        loaders = block.dataloaders([GOOD, GOOD], bs=1, num_workers=0)
        learner = vision.Learner(loaders, model, loss_func=torch.nn.CrossEntropyLoss())
        with learner.no_bar(), learner.no_logging():
            scores, _ = learner.get_preds(dl=loaders.test_dl(files, num_workers=0))
        return [(index, None, []) for index in scores.argmax(1).tolist()]

    return label


def ultralytics(checkpoints: str) -> Tool:
    """Its loader of predict(source=path), and the right transform and network."""
    import torch
    from networks import build
    from PIL import Image
    from ultralytics.data.loaders import LoadImagesAndVideos

    model, transform = build("lite0", weights=f"{checkpoints}/lite0.pth")

    @torch.no_grad()
    def label(paths: list[str]) -> list[Answer]:
        answers: list[Answer] = []
        loaded = {}
        for names, images, _ in LoadImagesAndVideos(paths):
            loaded |= dict(zip(names, images, strict=True))
        for path in paths:
            image = loaded.get(path, loaded.get(str(Path(path).absolute())))
            if image is None:  # it logs a warning and goes on without the file
                answers.append((None, "left out, logged", []))
                continue
            batch = transform(Image.fromarray(image[..., ::-1]))[None]
            answers.append((model(batch)[0].argmax().item(), None, []))
        return answers

    return label


TOOLS = {
    tool.__name__: tool
    for tool in (toplabel, textbook, transformers, torchvision, timm, fastai, ultralytics)
}


class Logged(logging.Handler):
    """What is logged as a warning or worse while it lasts: people see it on standard error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said.append(record.getMessage())

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)


def outcome(label: Tool, case: dict[str, str | None], good: str) -> dict[str, object]:
    expected = case["reference"] and label([case["reference"]])[0][0]
    logged = Logged()
    with warnings.catch_warnings(record=True) as caught, logged:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # as Python does: people do not see it
        try:
            (index, error, doubts), (kept, *_) = label([case["file"], good])
        except Exception as ended:
            stopped = f"{type(ended).__name__}: {ended}"
            index = error = kept = None
            doubts = []
        else:
            stopped = None
    return {
        "case": case["case"],
        "file": Path(case["file"]).name,
        "expected": expected,
        "index": index,
        "error": error,
        "warnings": doubts + [str(warning.message) for warning in caught] + logged.said,
        "stopped": stopped,
        "good": kept,
    }


def main() -> None:
    name, checkpoints, cases, good = sys.argv[1:]
    os.environ["OMP_NUM_THREADS"] = "1"  # nothing is timed here; torch reads it when imported
    label = TOOLS[name](checkpoints)
    (right, *_) = label([good])[0]
    found = [outcome(label, case, good) for case in json.loads(Path(cases).read_text())]
    print(json.dumps({"good": right, "found": found}))


if __name__ == "__main__":
    main()
