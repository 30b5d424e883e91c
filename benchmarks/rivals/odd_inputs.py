"""Label odd files with one tool, each in a list before a good photo; tell what became of them.

python odd_inputs.py toplabel|textbook|transformers CHECKPOINTS CASES.json GOOD

Prints for each case: `index` or `error`, `warnings`, `stopped` (the exception that ended the list,
so that the good photo got no label), `good` (the good photo's index), and `expected` (the tool's
own answer for the plain picture).
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

Answer = tuple[int | None, str | None, list[str]]  # index, error, warnings
Tool = Callable[[list[str]], list[Answer]]


def toplabel(_: str) -> Tool:
    """Its Python interface, with the embedded model: the same weights."""
    import toplabel

    model = toplabel.load()

    def label(paths: list[str]) -> list[Answer]:
        return [
            (said.index, said.error and said.error.code, list(said.warnings))
            for said in model(paths)
        ]

    return label


def textbook(checkpoints: str) -> Tool:
    """Thirty lines, with the right recipe, and eval mode."""
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


def outcome(label: Tool, case: dict[str, str | None], good: str) -> dict[str, object]:
    expected = case["reference"] and label([case["reference"]])[0][0]
    with warnings.catch_warnings(record=True) as caught:
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
        "warnings": doubts + [str(warning.message) for warning in caught],
        "stopped": stopped,
        "good": kept,
    }


def main() -> None:
    name, checkpoints, cases, good = sys.argv[1:]
    os.environ["OMP_NUM_THREADS"] = "1"  # nothing is timed here; torch reads it when imported
    label = {"toplabel": toplabel, "textbook": textbook, "transformers": transformers}[name](
        checkpoints
    )
    (right, *_) = label([good])[0]
    found = [outcome(label, case, good) for case in json.loads(Path(cases).read_text())]
    print(json.dumps({"good": right, "found": found}))


if __name__ == "__main__":
    main()
