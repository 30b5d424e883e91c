"""Mistakes: what goes wrong with the usual thirty lines, and which tool reports it.

First the preprocessing: right answers lost to each usual mistake, with the same weights. Then the
inputs: odd but legitimate files, and what three tools make of them.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from statistics import mean
from typing import Any

from benchmarks.bench import RIVALS, ROOT, Bench
from benchmarks.materials import checkpoints
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section, Table

TOOLS = {
    "toplabel": "toplabel",
    "textbook": "textbook script",
    "transformers": f"transformers {version('transformers')} pipeline",
}
OUTCOMES = ("right", "named error", "wrong, warned", "list lost", "silently wrong")
RIGHT = "the right preprocessing"


def measure(bench: Bench) -> Section:
    """Both tables; the figures are the silent errors of each tool."""
    preprocessings = _ask_preprocessings(bench)
    said = _ask_tools(bench)
    outcomes = {
        tool: [(one["case"], _outcome(one, good=answers["good"])) for one in answers["found"]]
        for tool, answers in said.items()
    }
    return Section(
        title="What goes wrong, and who tells of it",
        rows=tuple(_rows(outcomes)),
        tables=(_preprocessing_table(preprocessings), _input_table(outcomes)),
        notes=_notes(),
    )


def _ask_preprocessings(bench: Bench) -> dict[str, Any]:
    photos = find_photos(bench).small
    said: dict[str, Any] = bench.ask_script(
        RIVALS / "preprocessing_mistakes.py", checkpoints(bench), *photos
    )
    return said


def _ask_tools(bench: Bench) -> dict[str, Any]:
    """What each tool says to each odd file: those of ten photos."""
    examples = sorted((ROOT / "examples").glob("*.jpg"))
    photos = [*examples, *find_photos(bench).small[14::28][: bench.repeats(7)]]
    folder = bench.folder / "silent"
    cases = bench.ask_script(ROOT / "benchmarks" / "silent" / "inputs.py", folder, *photos)
    listed = folder / "cases.json"
    listed.write_text(json.dumps(cases), encoding="utf-8")
    return {
        tool: bench.ask_script(
            ROOT / "benchmarks" / "silent" / "input_tools.py",
            tool,
            checkpoints(bench),
            listed,
            examples[0],
        )
        for tool in TOOLS
    }


def _outcome(one: dict[str, Any], *, good: int) -> str:
    """One of `OUTCOMES`: what became of an odd file, and of the good photo after it."""
    if one["stopped"]:
        return "list lost"
    if one["good"] != good:
        return "silently wrong"
    if one["error"]:
        return "named error"
    if one["index"] == one["expected"]:
        return "right"
    return "wrong, warned" if one["warnings"] else "silently wrong"


def _rows(outcomes: dict[str, list[tuple[str, str]]]) -> list[Row]:
    rows = []
    for tool, found in outcomes.items():
        counts = Counter(outcome for _, outcome in found)
        own = tool == "toplabel"
        silent, lost = counts["silently wrong"], counts["list lost"]
        for what, count in (("silently wrong", silent), ("list of images lost", lost)):
            rows.append(
                Row(
                    what=f"{what}, {TOOLS[tool]}",
                    figure=f"{count} of {len(found)}",
                    goal="0" if own else "",
                    met=count == 0 if own else None,
                )
            )
    return rows


def _preprocessing_table(said: dict[str, Any]) -> Table:
    truth, found = said["truth"], said["found"]
    count = len(truth)
    rows = []
    for name, answers in found.items():
        changed = _differ(answers["indices"], found[RIGHT]["indices"])
        hits = count - _differ(answers["indices"], truth)
        shown = str(hits) if None not in truth else "not known"
        rows.append((name, shown, str(changed), f"{mean(answers['scores']):.3f}"))
    names = ("class names not looked up", "no names: numbers", "0", "")
    header = ("preprocessing", f"right of {count}", f"labels changed of {count}", "mean top score")
    return Table(title="The same weights, one mistake", header=header, rows=(*rows, names))


def _differ(first: list[int], second: list[int]) -> int:
    return sum(one != other for one, other in zip(first, second, strict=True))


def _input_table(outcomes: dict[str, list[tuple[str, str]]]) -> Table:
    cases = list(dict.fromkeys(case for case, _ in outcomes["toplabel"]))
    rows = [
        (case, *(_tell([o for c, o in found if c == case]) for found in outcomes.values()))
        for case in cases
    ]
    total = tuple(_tell([outcome for _, outcome in found]) for found in outcomes.values())
    return Table(
        title="Odd files",
        header=("file", *TOOLS.values()),
        rows=(*rows, ("all", *total)),
    )


def _tell(outcomes: list[str]) -> str:
    """Counts in words: "8 right, 2 silently wrong"."""
    counts = Counter(outcomes)
    return ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])


def _notes() -> tuple[str, ...]:
    return (
        "The preprocessings are torchvision transforms before eager PyTorch, as people write them."
        " BGR is the array that OpenCV gives, made without it.",
        "Each odd file stands in a list, before a good photo. Right: the label is the tool's own"
        " for the plain image that a person sees, transparent parts on white. Silently wrong:"
        " another label, with neither error nor warning. List lost: an exception ended the list,"
        " and the good photo got no label; for a broken file that is loud, but no answer.",
        "The textbook script has the right preprocessing and eval mode:"
        ' `transform(Image.open(path).convert("RGB"))`, in a loop. The pipeline is given a list of'
        " paths. toplabel is given a list, too, with its defaults.",
    )
