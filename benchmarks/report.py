"""Report: all parts' findings in, docs/benchmarks.md out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

INTRODUCTION = """\
# Benchmarks

`make bench` measures all of this anew and writes this page; `python -m benchmarks NAME` one part.
Each figure is taken against its alternative in the same run, the alternatives in turn (A B A B),
and is the median of the repeats, with the smallest and the largest in brackets. Whole processes are
measured from outside; loops inside fresh processes, after loading and warming up. Thread counts are
the same for all: one for each core. The rivals stand in `benchmarks/rivals/`, as scripts to judge.
Ratios matter; absolute values drift with the machine and what else it does.
"""


_QUIET = 0.15  # cores; what a system does beside


def render(parts: dict[str, Any]) -> str:
    """The page, for findings by part, in the order given."""
    blocks = [INTRODUCTION, _machines(parts), "## Goals\n\n" + _goals(parts)]
    blocks += [_section(name, part) for name, part in parts.items()]
    return "\n".join(blocks)


def summary(part: dict[str, Any]) -> str:
    """One part's figures as plain lines, for a terminal."""
    lines = [f"{row['what']}: {row['figure']}{_verdict(row)}" for row in part["rows"]]
    lines += [noise.strip()] if (noise := _noise(part["surroundings"])) else []
    return "\n".join([part["title"], *(f"  {line}" for line in lines)])


def _machines(parts: dict[str, Any]) -> str:
    """The machine's description, once where it is the same for all parts."""
    seen: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, part in parts.items():
        machine = tuple(part["surroundings"]["machine"].items())
        seen.setdefault(machine, []).append(name)
    blocks = []
    for machine, names in seen.items():
        heading = "## Machine" if len(seen) == 1 else f"## Machine of {', '.join(names)}"
        blocks.append(f"{heading}\n\n{_table(('', ''), machine)}")
    return "\n".join(blocks)


def _goals(parts: dict[str, Any]) -> str:
    rows = [
        (
            part["title"],
            row["what"],
            row["figure"],
            row["goal"],
            "PASS" if row["met"] else "**MISS**",
        )
        for part in parts.values()
        for row in part["rows"]
        if row["met"] is not None
    ]
    return _table(("part", "what", "figure", "goal", ""), rows)


def _section(name: str, part: dict[str, Any]) -> str:
    around = part["surroundings"]
    rows = [(row["what"], row["figure"] + _verdict(row)) for row in part["rows"]]
    lines = [
        f"## {part['title']}",
        "",
        f"`python -m benchmarks {name}`, {around['date']}, on {around['photos']}.{_noise(around)}",
        "",
        *(f"{note}\n" for note in part["notes"]),
    ]
    if rows:
        lines.append(_table(("what", "figure"), rows))
    for table in part["tables"]:
        lines += [f"{table['title']}:", "", _table(table["header"], table["rows"])]
    return "\n".join(lines)


def _noise(around: dict[str, Any]) -> str:
    """A warning where other processes disturbed the measurement."""
    cores = around["used_by_others"]
    if cores < _QUIET:
        return ""
    return f" **Other processes kept {cores:.1f} cores busy meanwhile: not to be relied on.**"


def _verdict(row: dict[str, Any]) -> str:
    if row["met"] is None:
        return ""
    return f" (goal {row['goal']}: {'PASS' if row['met'] else '**MISS**'})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
