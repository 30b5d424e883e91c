"""A learning curve in; its drawing, as SVG in the page's colours, out."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log2
from typing import TYPE_CHECKING

from toplabel.analysis.page.fragments import Html, fill, join

if TYPE_CHECKING:
    from toplabel.training.result import CurvePoint

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 20, 24, 40
_MARGIN = 26  # between the axis and the first point, for its figure


def draw_curve(curve: Sequence[CurvePoint], twice: CurvePoint | None) -> Html:
    """Accuracy over the number of images, each twice the one before, with 95 % intervals.

    What twice the images would reach is dashed.
    """
    points = [*curve, *([twice] if twice else [])]
    floor_ = _floor(min(point.low for point in points))
    first, last = log2(curve[0].images), log2(points[-1].images)

    def across(point: CurvePoint) -> float:
        share = 0.5 if last == first else (log2(point.images) - first) / (last - first)
        return _LEFT + _MARGIN + share * (_WIDTH - _LEFT - _RIGHT - _MARGIN - 10)

    def down(accuracy: float) -> float:
        return _TOP + (1 - accuracy) / (1 - floor_) * (_HEIGHT - _TOP - _BOTTOM)

    places = [(across(point), down(point.accuracy)) for point in points]
    measured = len(curve)
    return fill(
        "curve",
        box=f"0 0 {_WIDTH} {_HEIGHT}",
        title=_in_words(curve, twice),
        grid=join(_grid_line(value, down(value)) for value in _ticks(floor_)),
        line=" ".join(f"{x:.1f},{y:.1f}" for x, y in places[:measured]),
        dashed=" ".join(f"{x:.1f},{y:.1f}" for x, y in places[measured - 1 :]),
        points=join(
            fill(
                "point",
                x=f"{x:.1f}",
                y=f"{y:.1f}",
                low=f"{down(point.low):.1f}",
                high=f"{down(point.high):.1f}",
                kind="projected" if place >= measured else "measured",
                images=f"{point.images:,}",
                below=_HEIGHT - _BOTTOM + 16,
                accuracy=f"{100 * point.accuracy:.1f}",
                above=f"{y - 7:.1f}",
                beside=f"{x - 4:.1f}",
            )
            for place, (point, (x, y)) in enumerate(zip(points, places, strict=True))
        ),
        axis_x=_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2,
        axis_y=_HEIGHT - 6,
    )


def _floor(lowest: float) -> float:
    """Where the axis begins: a multiple of a tenth, so that it has room."""
    return max(0.0, min(0.9, floor(10 * lowest) / 10))


def _ticks(lowest: float) -> list[float]:
    """Each tenth, or each fifth of a long axis, down from 1."""
    step = 1 if lowest >= 0.5 else 2
    return [tenths / 10 for tenths in range(10, round(10 * lowest) - 1, -step)]


def _grid_line(value: float, y: float) -> Html:
    return fill(
        "grid",
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        y=f"{y:.1f}",
        text_x=_LEFT - 6,
        text_y=f"{y + 4:.1f}",
        text=f"{100 * value:.0f}",
    )


def _in_words(curve: Sequence[CurvePoint], twice: CurvePoint | None) -> str:
    parts = [f"{point.images:,} images: {100 * point.accuracy:.1f} %" for point in curve]
    if twice is not None:
        parts.append(f"{twice.images:,} images would bring about {100 * twice.accuracy:.1f} %")
    return "Learning curve. " + "; ".join(parts)
