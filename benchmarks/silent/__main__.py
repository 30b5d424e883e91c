"""The silent-error scoreboard: python -m benchmarks.silent [CASE [TOOL]] [--rivals PYTHON].

Without arguments every cell is run, and docs/silent-errors.md and .json are written. With a case,
or a case and a tool, those cells are run and printed. fastai and Ultralytics run in an interpreter
of their own (PYTHON), because they want other versions of what the rest uses.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.bench import ROOT, Bench
from benchmarks.materials import checkpoints
from benchmarks.photos import find_photos
from benchmarks.silent.inputs import CASES as INPUTS
from benchmarks.silent.reported.listing import kinds
from benchmarks.silent.reports import REPORTS

HERE = Path(__file__).parent
TOOLS = ("toplabel", "torchvision", "timm", "transformers", "fastai", "ultralytics")
ELSEWHERE = ("fastai", "ultralytics")
NETWORK_CASES = (
    "wrong preprocessing for pretrained weights",
    "unknown preprocessing",
    "train mode",
    "hidden dropout",
    "double softmax",
    "label count",
    "label order",
    "borrowed ImageNet names",
    "BGR arrays, 4",
    "BGR arrays, 10",
    "float range",
    "wrong class with strict=False",
    "NaN weights",
    "drift between fast and exact",
    "drift after export",
)
REPORTED = kinds()
PAGE, RESULTS = ROOT / "docs" / "silent-errors.md", ROOT / "docs" / "silent-errors.json"
_ORDER = ("silently wrong", "list lost", "wrong, warned", "named error", "right")
_UNCOUNTED = ("not applicable", "not run")


def main() -> None:
    """Run what was asked for."""
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="toplabel-silent-") as temporary:
        bench = Bench(asked.keep or Path(temporary))
        bench.folder.mkdir(parents=True, exist_ok=True)
        found = run(bench, case=asked.case, tool=asked.tool, rivals=asked.rivals)
    if asked.case:
        print(json.dumps(found, indent=1))
        return
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    print(page(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silent", description=__doc__)
    cases = [*NETWORK_CASES, *REPORTED, *(name for name, _, _ in INPUTS)]
    parser.add_argument("case", nargs="?", choices=cases, metavar="CASE")
    parser.add_argument("tool", nargs="?", choices=TOOLS, metavar="TOOL")
    parser.add_argument("--rivals", type=Path, help="a Python with fastai, ultralytics and timm")
    parser.add_argument("--keep", type=Path, help="a folder to keep and reuse what is prepared")
    return parser.parse_args()


def run(
    bench: Bench, *, case: str | None = None, tool: str | None = None, rivals: Path | None = None
) -> dict[str, Any]:
    """Cells by case and tool: {"outcome", "detail"}."""
    tools = [tool] if tool else list(TOOLS)
    cells: dict[str, dict[str, Any]] = {}
    for name in NETWORK_CASES:
        if case in (None, name):
            cells[name] = {one: _network_cell(bench, name, one) for one in tools}
    asked = [name for name in REPORTED if case in (None, name)]
    if asked:
        rows = {one: _reported_cells(bench, one, asked) for one in tools}
        cells |= {name: {one: rows[one][name] for one in tools} for name in asked}
    if case is None or case in {name for name, _, _ in INPUTS}:
        every = {one: _input_cells(bench, one, rivals) for one in tools}
        for name, _, _ in INPUTS:
            if case in (None, name):
                cells[name] = {one: every[one].get(name, _missing(one)) for one in tools}
    return {"versions": _versions(rivals), "cells": cells}


def _network_cell(bench: Bench, name: str, tool: str) -> dict[str, str]:
    written = "".join(file.read_text(encoding="utf-8") for file in HERE.glob("*_cases.py"))
    if f'@case("{name}", "{tool}")' not in written:
        return {"outcome": "not applicable", "detail": ""}
    said: dict[str, str] = bench.ask_script(
        HERE / "network_cases.py", name, tool, checkpoints(bench), *_photos(bench, name)
    )
    return said | {"detail": re.sub(r"/\S*/(?=\w)", "", said["detail"])}  # no folders of one day


def _reported_cells(bench: Bench, tool: str, names: list[str]) -> dict[str, dict[str, str]]:
    """What a tool makes of the reported kinds."""
    if tool in ELSEWHERE:
        return dict.fromkeys(names, {"outcome": "not applicable", "detail": ""})
    said: dict[str, dict[str, str]] = bench.ask_script(
        HERE / "reported" / "__main__.py", tool, *names
    )
    return said


def _photos(bench: Bench, name: str) -> list[Path]:
    """Ten; of arrays also fewer, as who suspects their colours needs some to be sure.

    Large ones where the fast way is another than the exact one: for those alone it is.
    """
    photos = find_photos(bench)
    if name == "drift between fast and exact":
        return list(photos.camera)
    return list(photos.small[1::50] if name == "BGR arrays, 4" else photos.small[::20][:10])


def _input_cells(bench: Bench, tool: str, rivals: Path | None) -> dict[str, dict[str, str]]:
    """What a tool makes of the odd files, a cell for each kind."""
    if tool in ELSEWHERE and rivals is None:
        return {}
    examples = sorted((ROOT / "examples").glob("*.jpg"))
    photos = [*examples, *find_photos(bench).small[14::28][:7]]
    folder = bench.folder / "silent"
    listed = folder / "cases.json"
    if not listed.exists():
        cases = bench.ask_script(HERE / "inputs.py", folder, *photos)
        listed.write_text(json.dumps(cases), encoding="utf-8")
    script = HERE / "input_tools.py"
    arguments = [tool, checkpoints(bench), listed, examples[0]]
    if tool in ELSEWHERE:
        done = subprocess.run(
            [str(rivals), script, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        said = json.loads(done.stdout.strip().splitlines()[-1])
    else:
        said = bench.ask_script(script, *arguments)
    return {
        name: _cell([one for one in said["found"] if one["case"] == name], said["good"])
        for name, _, _ in INPUTS
    }


def _cell(found: list[dict[str, Any]], good: int) -> dict[str, str]:
    """The worst outcome of the files of one kind, and how many had each."""
    counts = Counter(_outcome(one, good) for one in found)
    worst = next(name for name in _ORDER if counts[name])
    detail = ", ".join(f"{counts[name]} {name}" for name in _ORDER if counts[name])
    return {"outcome": worst, "detail": detail}


def _outcome(one: dict[str, Any], good: int) -> str:
    if one["stopped"]:
        return "list lost"
    if one["good"] != good:
        return "silently wrong"  # the photo after the odd file got another's label
    if one["error"]:
        return "named error"
    if one["index"] == one["expected"]:
        return "right"
    return "wrong, warned" if one["warnings"] else "silently wrong"


def _missing(tool: str) -> dict[str, str]:
    return {"outcome": "not run", "detail": f"no --rivals with {tool}"}


def _versions(rivals: Path | None) -> dict[str, str]:
    names = ("torch", "torchvision", "timm", "transformers", "Pillow")
    found = {name: version(name) for name in names}
    if rivals is not None:
        code = (
            "import json; from importlib.metadata import version as v;"
            "print(json.dumps({n: v(n) for n in ('fastai', 'ultralytics', 'opencv-python')}))"
        )
        done = subprocess.run([str(rivals), "-c", code], capture_output=True, text=True, check=True)
        found |= json.loads(done.stdout)
    return found


INTRODUCTION = """# Silent errors

Ways to get a confident wrong label without an error that people reported of one tool or another,
each made small and run here, and what becomes of it. Written by
`python -m benchmarks.silent --rivals PYTHON`, where PYTHON has fastai and Ultralytics; the command
of each cell stands below. {versions}.

A row is a kind. "reported" names where, a report or two of each; a row without one is a control, or
a kind met in our own use, and is not counted. The truth is known: of a mistake with
EfficientNet-Lite0, its own label by its own preprocessing, in eager PyTorch; of an odd file, the
same tool's label of the plain image that a person sees, transparent parts on white; of the other
kinds, a small network trained for the case, run by hand. Where no label can be right (two networks
in a file that says no more), any label without a word is wrong.

**Silently wrong**: another label, score or name, with neither error nor warning. **List lost**: an
exception that ends a list of images: loud, but the photos after it get no label. **Error**: loud,
in words that are not the tool's own. What is logged as a warning counts as one. Of several pictures
the worst outcome stands in the table. Ten photos a case of those with photos (of BGR arrays also
four: toplabel's warning needs some to be sure; of random draws of the same photos it came for 54 %
of ten, 86 % of sixteen and 99 % of 24). A photo after an odd file is part of its case. torchvision
stands for the usual thirty lines (with ONNX Runtime's own for its files, and with strict=False
where people add it), and for ImageFolder with files; fastai is a Learner with its own blocks;
Ultralytics is its own reader of files before the right preprocessing. "-": no part in it.

"""


def page(found: dict[str, Any]) -> str:
    """The scoreboard as Markdown."""
    cells = found["cells"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    reports = REPORTS | REPORTED
    counted = {name: row for name, row in cells.items() if reports.get(name)}
    totals = ", ".join(_total(counted, tool) for tool in TOOLS)
    lines = [
        f"Silently wrong, of {len(counted)} reported kinds: {totals}.",
        "",
        f"| case | {' | '.join(TOOLS)} | reported |",
        "|---" * (len(TOOLS) + 2) + "|",
    ]
    for name, row in cells.items():
        shown = " | ".join(_shown(row[tool]) for tool in TOOLS)
        lines.append(f"| {name} | {shown} | {_links(reports.get(name, ()))} |")
    lines += ["", "## What each said", ""]
    for name, row in cells.items():
        for tool in TOOLS:
            detail = row[tool]["detail"].replace("|", "/")
            if detail and row[tool]["outcome"] != "not run":
                rivals = " --rivals PYTHON" if tool in ELSEWHERE else ""
                command = f'python -m benchmarks.silent "{name}" {tool}{rivals}'
                lines.append(f"- {name}, {tool}: {detail}. `{command}`")
    return INTRODUCTION.format(versions=versions) + "\n".join(lines) + "\n"


def _links(reports: tuple[str, ...]) -> str:
    """`owner/name#12` as a link to it; a pull request's number leads there, too."""
    places = [(one.split("#"), one.split("/")[1]) for one in reports]
    return ", ".join(
        f"[{short}](https://github.com/{name}/issues/{number})" for (name, number), short in places
    )


def _total(cells: dict[str, Any], tool: str) -> str:
    outcomes = [row[tool]["outcome"] for row in cells.values()]
    ran = [one for one in outcomes if one not in _UNCOUNTED]
    return f"{tool} {ran.count('silently wrong')} of {len(ran)}"


def _shown(cell: dict[str, str]) -> str:
    words = {"silently wrong": "**silently wrong**", "not applicable": "-", "not run": "not run"}
    return words.get(cell["outcome"], cell["outcome"])


if __name__ == "__main__":
    main()
