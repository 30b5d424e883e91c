"""Results: what a part found, as plain values that go to JSON and come back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure: what was measured, what came out, and whether that is enough.

    `goal` and `met` are left out where a figure is only reported.
    """

    what: str
    figure: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Details below the figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All that one part found.

    Args:
        title: The heading.
        rows: The figures.
        tables: Details.
        notes: Sentences: how it was measured, what to keep in mind.
        raw: Every single measurement, by name.
    """

    title: str
    rows: tuple[Row, ...]
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict)


def read_results(path: Path) -> dict[str, Any]:
    """What earlier runs found, by part; empty where there were none."""
    if not path.exists():
        return {}
    parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return parts


def write_results(path: Path, parts: dict[str, Any]) -> None:
    """Keep all parts' findings."""
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(parts, indent=1, ensure_ascii=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


def to_dict(section: Section, *, surroundings: dict[str, Any]) -> dict[str, Any]:
    """A section as plain data, with what was around it when it was measured."""
    return {**asdict(section), "surroundings": surroundings}
