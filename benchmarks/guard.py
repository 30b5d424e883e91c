"""Guard: how far the scaled decode moves the logits, and how wide a margin keeps every label."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import SUBJECTS, Bench
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section, Table

MARGINS = (0.25, 0.5, 0.75, 1.0, 1.5)
ENLARGED = "8:90:4:2:0"
MORE = ("8:75:4:2:0", "8:95:4:4:4", "3:90:4:2:0")

Found = list[dict[str, Any]]
"""One for each photo: what subjects/margins.py says of it."""


def measure(bench: Bench) -> Section:
    """The photos as stored and the small ones enlarged to 8 megapixels."""
    photos = find_photos(bench)
    compare = partial(_compare, bench)
    groups = {
        "200 photos, as stored": compare("stored", photos.small),
        "camera photos": compare("stored", photos.camera),
        "200 photos, enlarged to 8 megapixels": compare(ENLARGED, photos.small),
    }
    return _section("No label changed by the guarded decode", groups)


def measure_margin(bench: Bench) -> Section:
    """A thousand photos: those, and the small ones enlarged in other ways."""
    photos = find_photos(bench)
    groups = {"camera photos": _compare(bench, "stored", photos.camera + photos.others)}
    for variant in (ENLARGED, *MORE):
        megapixels, quality, subsampling = variant.split(":", 2)
        name = f"200 photos at {megapixels} megapixels, quality {quality}, {subsampling}"
        groups[name] = _compare(bench, variant, photos.small)
    return _section("The guard's margin, on a thousand photos", groups)


def _compare(bench: Bench, variant: str, photos: tuple[Path, ...]) -> Found:
    found: Found = bench.ask_script(SUBJECTS / "margins.py", variant, *photos) if photos else []
    return found


def _section(title: str, groups: dict[str, Found]) -> Section:
    every = [one for found in groups.values() for one in found]
    changed = [one for one in every if one["guarded_label_changed"]]
    unguarded = [one["margin"] for one in every if one["label_changed"]]
    return Section(
        title=title,
        rows=(
            Row(
                what=f"labels changed with the guard, of {len(every)} photos",
                figure=str(len(changed)),
                goal="0",
                met=not changed,
            ),
            Row(
                what="labels changed without it",
                figure=f"{len(unguarded)}, with the first two logits at most"
                f" {max(unguarded, default=0.0):.2f} apart",
            ),
        ),
        tables=(_summary(groups), _shares(groups)),
        notes=(
            "A JPEG is decoded at 1/2, 1/4 or 1/8 where both sides keep at least twice the size"
            " that they are resized to. The margin is the difference of the two largest logits"
            " after the scaled decode; below `inference.rescan.MARGIN` the photo is decoded"
            " again in full. So a label that the scaled decode changes stays wrong only where its"
            " margin is at least that.",
        ),
        raw={
            name: [one for one in found if one["label_changed"]] for name, found in groups.items()
        },
    )


def _scaled(found: Found) -> Found:
    return [one for one in found if one["scale"] > 1]


def _summary(groups: dict[str, Found]) -> Table:
    rows = []
    for name, found in groups.items():
        scaled = _scaled(found)
        margins = [one["margin"] for one in scaled if one["label_changed"]]
        changes = [abs(one["margin"] - one["margin_exact"]) for one in scaled] or [0.0]
        rows.append(
            (
                name,
                f"{len(scaled)} of {len(found)}",
                f"{median(changes):.2f}, {max(changes):.2f}",
                str(len(margins)),
                f"{max(margins):.2f}" if margins else "",
                str(sum(one["guarded_label_changed"] for one in found)),
            )
        )
    header = (
        "photos",
        "decoded at a reduced scale",
        "change of the margin: median, maximum",
        "labels changed without the guard",
        "largest margin of those",
        "labels changed with it",
    )
    return Table(title="What the scaled decode does", header=header, rows=tuple(rows))


def _shares(groups: dict[str, Found]) -> Table:
    rows = []
    for name, found in groups.items():
        scaled = _scaled(found)
        if not scaled:
            continue
        shares = [sum(one["margin"] < margin for one in scaled) for margin in MARGINS]
        rows.append((name, *(f"{100 * share / len(scaled):.0f} %" for share in shares)))
    header = ("photos", *(f"margin {margin}" for margin in MARGINS))
    return Table(
        title="Share of them that is decoded again in full", header=header, rows=tuple(rows)
    )
