"""What a page owes to its readers, measured in a browser: contrast, names, keyboard, print."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

PHONE, DESKTOP = 390, 1280
SCHEMES = ("light", "dark")

_AUDIT = Path(__file__).with_suffix(".js").read_text()


def _ask(page: Any, name: str) -> Any:
    return page.evaluate(f"{_AUDIT.rstrip()}.{name}()")


def contrasts(page: Any) -> list[str]:
    """Texts whose contrast with what is behind them is below WCAG's AA."""
    return list(_ask(page, "contrasts"))


def flaws(page: Any) -> list[str]:
    """What is wrong with the page as it stands: contrasts, names, and a scroll to the side."""
    found = [*contrasts(page), *_ask(page, "structure")]
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return [*found, *([f"{wide} pixels wider than the window"] if wide > 0 else [])]


def keyboard_flaws(page: Any, *, most: int = 120) -> list[str]:
    """What Tab does not reach, in order, or does not show that it has reached.

    Args:
        page: Of a browser, as it was opened.
        most: Elements that are stepped through.
    """
    wanted = _ask(page, "reachable")[:most]
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    found, reached = [], []
    for _ in range(2 * len(wanted) + 10):  # what scrolls is reached, too
        page.keyboard.press("Tab")
        one = _ask(page, "focused")
        if len(set(reached)) >= min(most, len(wanted)):
            break
        if one is None:  # at the window's own controls: the next is the first again
            continue
        if one.get("reach") is not None:
            reached.append(one["reach"])
        if not one["ringed"] and not _looks_other(page, one["box"]):
            found.append(f"focus does not show: {one['about']}")
    for reach in itertools.filterfalse(set(reached).__contains__, wanted):
        text = page.locator(f"[data-reach='{reach}']").first.evaluate("e => e.outerHTML")
        found.append(f"Tab does not reach: {text[:80]}")
    return found


def _looks_other(page: Any, box: dict[str, float]) -> bool:
    """Whether the focused element looks other than when it is not focused."""
    size = page.viewport_size
    left, top = max(0, box["x"]), max(0, box["y"])
    clip = {
        "x": left,
        "y": top,
        "width": max(1, min(box["width"], size["width"] - left)),
        "height": max(1, min(box["height"], size["height"] - top)),
    }
    with_focus = hashlib.sha256(page.screenshot(clip=clip)).digest()
    handle = page.evaluate_handle("document.activeElement")
    handle.evaluate("(one) => one.blur()")
    without = hashlib.sha256(page.screenshot(clip=clip)).digest()
    handle.evaluate("(one) => one.focus({focusVisible: true, preventScroll: true})")
    return with_focus != without


def print_flaws(page: Any) -> list[str]:
    """What is wrong on paper: contrasts there, and what is wider than an A4 sheet."""
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less margins, at 96 dots an inch
    found = [f"print: {one}" for one in contrasts(page)]
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    page.emulate_media(media="screen")
    return [*found, *([f"print: {wide} pixels too wide"] if wide > 0 else [])]
