"""Save every architecture with random weights, identify it from the file alone, write the table.

All of torchvision's classification architectures, and timm's in turn from each of its families.
Every second one gets 37 classes and one input channel, where it takes another number.

    python scripts/check_identification.py [--timm 400] [--keep FILE] [DESTINATION]
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch

from toplabel.models import zoo_import
from toplabel.models.architectures.build import build
from toplabel.models.architectures.choose import choose
from toplabel.models.architectures.identify import Candidate, identify
from toplabel.models.architectures.index import Member, load_index
from toplabel.models.checkpoint.header import read_checkpoint_info
from toplabel.models.checkpoint.state_dict_search import find_state_dict

DESTINATION = Path(__file__).parents[1] / "docs/architectures.md"
MOST_PARAMETERS = 120_000_000
CHANGED = {"classes": 37, "in_channels": 1}

INTRODUCTION = """\
# Identified architectures

Without `--arch`, toplabel looks up the names and shapes of a checkpoint's tensors in an index of
the architectures of torchvision and timm; no network is built for that. The number of classes, of
input channels and, where tensors depend on it, the image size are free. An architecture is used
only if every tensor fits exactly. If several fit, each is built and run on fixed inputs, with the
weights of the file and with random ones: architectures that compute the same logits count as one;
if logits differ, toplabel stops, lists the architectures and asks for `--arch`.

This table is written by `scripts/check_identification.py`: each architecture was built with random
weights, saved, and identified from the file alone. Every second one has {classes} classes and
{in_channels} input channel, where its library or a replaced first convolution allows that.

Architectures marked "asks" differ in what no tensor shows: anti-aliasing, padding, the window or
the image size that they are made for. If each refuses the image size of the other, as
coat_lite_medium and coat_lite_medium_384 do, no input can compare them, and they count as
different.

torchvision's googlenet and inception_v3 are in the table four times: their downloads come with
`transform_input`, which changes the input and leaves no trace in a file. It needs three channels,
so files with another number of channels are never asked about.

Not identified by construction: networks with another width or depth than any named one
(torchvision's `width_mult`, `timm.create_model` with changed arguments), heads that were replaced
by several layers, files that old versions of the libraries wrote under other names, and networks
without a head.
"""

MEANINGS = {
    "exact": "the only one that fits",
    "same": "several fit and compute the same logits",
    "asks": "several fit and are not shown to compute the same logits: toplabel asks for `--arch`",
    "missed": "not identified",
}


def architectures(num_timm: int) -> Iterator[Candidate]:
    """What is to be checked, torchvision first."""
    indexed = [member for group in load_index().groups() for member in group.members]
    own = [member for member in indexed if member.library == "torchvision"]
    yield from map(as_candidate, sorted(own, key=repr))
    yield from small_ones(num_timm)


def as_candidate(member: Member) -> Candidate:
    """The architecture as its library makes it by default."""
    return Candidate(
        library=member.library,
        name=member.name,
        classes=1000,
        in_channels=3,
        arguments=member.arguments,
    )


def small_ones(count: int) -> Iterator[Candidate]:
    """Timm's architectures of at most 120 million parameters, one of each family in turn."""
    timm = zoo_import.import_timm()
    families: dict[str, list[str]] = defaultdict(list)
    for name in sorted(timm.list_models()):
        families[timm.model_entrypoint(name).__module__].append(name)
    in_turn = chain.from_iterable(zip_longest(*families.values()))
    for name in filter(None, in_turn):
        if count == 0:
            return
        candidate = as_candidate(Member("timm", name))
        with torch.device("meta"):
            try:
                module = build(candidate)
            except (RuntimeError, NotImplementedError):
                continue
        if sum(p.numel() for p in module.parameters()) <= MOST_PARAMETERS:
            count -= 1
            yield candidate


def vary(candidate: Candidate) -> Candidate:
    """The candidate with other classes and channels, as far as it takes them."""
    for change in (CHANGED, {"classes": CHANGED["classes"]}):
        varied = replace(candidate, **change)
        try:
            with torch.device("meta"):
                build(varied)
        except Exception:  # whatever a constructor raises for what it does not take
            continue
        return varied
    return candidate


def check(candidate: Candidate, folder: Path) -> dict[str, Any]:
    """One row of the table."""
    torch.manual_seed(0)
    path = folder / "saved.pth"
    torch.save(build(candidate).state_dict(), path)
    saved = find_state_dict(read_checkpoint_info(path).content).state
    found = identify({name: tensor.shape for name, tensor in saved.items()})
    groups = choose(found, torch.load(path, weights_only=True))
    fitting = [[one for one, _ in group] for group in groups]
    own = next((group for group in fitting if candidate in group), None)
    if own is None:
        verdict = "missed"
    elif len(fitting) > 1:
        verdict = "asks"
    else:
        verdict = "same" if len(own) > 1 else "exact"
    return {
        "name": title(candidate),
        "classes": candidate.classes,
        "in_channels": candidate.in_channels,
        "verdict": verdict,
        "same": [title(one) for one in own or [] if one != candidate],
        "different": [title(one) for group in fitting if group is not own for one in group],
    }


def title(candidate: Candidate) -> str:
    """How the architecture is named in the table."""
    arguments = ", ".join(f"{k}={v}" for k, v in candidate.arguments.items())
    return f"{candidate.library}/{candidate.name}" + (f"({arguments})" if arguments else "")


def to_page(rows: list[dict[str, Any]]) -> str:
    """The page with its counts and its table."""
    versions = ", ".join(f"{name} {number}" for name, number in load_index().versions.items())
    lines = [INTRODUCTION.format(**CHANGED), f"Made with {versions}.", ""]
    lines += ["| | torchvision | timm |", "|---|---|---|"]
    for verdict, meaning in MEANINGS.items():
        counts = [
            sum(r["verdict"] == verdict and r["name"].startswith(library) for r in rows)
            for library in ("torchvision/", "timm/")
        ]
        lines.append(f"| {verdict}: {meaning} | {counts[0]} | {counts[1]} |")
    lines += [
        "",
        "| architecture | classes, channels | found | the same logits | others that fit |",
    ]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['classes']}, {r['in_channels']} | {r['verdict']}"
        f" | {', '.join(r['same'])} | {', '.join(r['different'])} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Check each, then write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--timm", type=int, default=400)
    parser.add_argument("--keep", type=Path, help="notes rows here; a second run goes on from it")
    parser.add_argument("destination", type=Path, nargs="?", default=DESTINATION)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = options.keep.read_text().splitlines() if options.keep and options.keep.exists() else []
    rows = [json.loads(line) for line in kept]
    done = {row["name"] for row in rows}
    for number, candidate in enumerate(architectures(options.timm)):
        if title(candidate) in done:
            continue
        if number % 2:
            candidate = vary(candidate)
        with tempfile.TemporaryDirectory() as folder:
            rows.append(check(candidate, Path(folder)))
        if options.keep:
            with options.keep.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    options.destination.write_text(to_page(rows))
    print(to_page(rows).split("| architecture")[0])


if __name__ == "__main__":
    main()
