"""Names: which classifiers the installed torchvision and timm have, without importing either.

Both declare their models in source code: a decorator, then `def NAME(`. Reading that takes 0.1 s,
importing the library, and torch with it, seconds.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_TORCHVISION_MODEL = re.compile(r"^@register_model\(\)\n(?:(?!def ).*\n)*?def (\w+)\(", re.M)
_TORCHVISION_OTHER = re.compile(r"^@register_model\(.*\)\n(?:(?!def ).*\n)*?def (\w+)\(", re.M)
_TIMM_MODEL = re.compile(r"^@register_model\ndef (\w+)\(", re.M)
_OLD = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.S)
_OLD_NAME = re.compile(r"'(\w+)'\s*:")


@functools.cache
def torchvision_names() -> frozenset[str] | None:
    """The names of torchvision's image classifiers; None where it is not installed."""
    return _names_in(_model_sources("torchvision", "*.py"), _TORCHVISION_MODEL)


@functools.cache
def timm_names() -> frozenset[str] | None:
    """The names of timm's architectures, without tags; None where it is not installed."""
    return _names_in(_model_sources("timm", "*.py"), _TIMM_MODEL)


@functools.cache
def other_names(library: str) -> frozenset[str]:
    """Names that the library knows and that `toplabel models` does not list.

    torchvision's detectors, segmenters and the like; timm's deprecated names.
    """
    if library == "timm":
        blocks = [b for text in _model_sources("timm", "*.py") or () for b in _OLD.findall(text)]
        return _names_in(blocks, _OLD_NAME) or frozenset()
    sources = _model_sources("torchvision", "*/*.py")
    return _names_in(sources, _TORCHVISION_OTHER) or frozenset()


def suggestions(name: str, *, library: str | None = None) -> list[str]:
    """At most three names of models that look like `name`, as they can be typed.

    Args:
        name: What was asked for, without weights or tag.
        library: Only names of "torchvision" or "timm", and with that in front.
    """
    torchvision, timm = torchvision_names() or frozenset(), timm_names() or frozenset()
    if library == "torchvision":
        return [f"torchvision/{other}" for other in _close(name, torchvision)]
    if library == "timm":
        return [f"timm/{other}" for other in _close(name, timm)]
    return [*_close(name, torchvision), *_close(name, timm - torchvision)][:3]


def _names_in(texts: Iterable[str] | None, pattern: re.Pattern[str]) -> frozenset[str] | None:
    if texts is None:
        return None
    return frozenset(name for text in texts for name in pattern.findall(text))


def _close(name: str, known: frozenset[str]) -> list[str]:
    return get_close_matches(name, sorted(known), n=3, cutoff=0.7)


@functools.cache
def _model_sources(library: str, pattern: str) -> tuple[str, ...] | None:
    """The texts of the source files in the library's `models` folder; None: not installed."""
    from importlib.util import find_spec  # finds a package without importing it

    spec = find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], "models")
    return tuple(path.read_text(encoding="utf-8") for path in sorted(folder.glob(pattern)))
