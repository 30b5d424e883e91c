"""Naming: what people type for a preprocessing, a preset's name or a file, in; its recipe out."""

from __future__ import annotations

import os
from pathlib import Path

from toplabel.errors import PreprocessError
from toplabel.models.transforms import translate
from toplabel.preprocess import Preprocess
from toplabel.preprocess.presets import preset

MAX_BYTES = 16_000_000
"""A larger file is no recipe; most have one kB."""

_FILES = (
    "a JSON file: a recipe of toplabel, timm's config.json or Hugging Face's"
    " preprocessor_config.json"
)


def preprocess_of(text: str | Path) -> Preprocess:
    """The recipe that a preset's name says, or a JSON file.

    Args:
        text: `imagenet-crop-256-224` or another of `presets`; or the path of a file with our own
            recipe, timm's `config.json` or Hugging Face's `preprocessor_config.json`. A `Path` is
            never a preset.

    Raises:
        PreprocessError: It is neither, or the file says no recipe; says which.
    """
    if isinstance(text, Path) or _looks_like_path(text):
        return _of_file(Path(text))
    try:
        return preset(text)
    except PreprocessError:
        if os.path.isfile(text):
            return _of_file(Path(text))
        raise


def _looks_like_path(text: str) -> bool:
    """Whether it has a separator or a suffix, which no preset's name has."""
    separators = {os.sep, os.altsep or os.sep}
    return not separators.isdisjoint(text) or bool(Path(text).suffix)


def _of_file(path: Path) -> Preprocess:
    shown = repr(os.fspath(path))
    try:
        _check(path)
        return translate(path)
    except PreprocessError as error:
        raise PreprocessError(f"cannot read preprocessing from {shown}: {error}") from error
    except (OSError, ValueError) as error:  # a name that no file can have
        raise PreprocessError(
            f"cannot read preprocessing from {shown}: {error}; expected {_FILES}"
        ) from error


def _check(path: Path) -> None:
    """Stop where there is no file, without opening it: a pipe could wait for ever."""
    if path.is_dir():
        inside = [n for n in ("preprocessor_config.json", "config.json") if (path / n).is_file()]
        advice = f"name its {' or '.join(inside)}" if inside else f"expected {_FILES}"
        raise PreprocessError(f"this is a folder; {advice}")
    if not path.exists():
        raise PreprocessError(
            f"there is no such file; expected {_FILES}; or a preset's name, which has neither"
            " '/' nor '.': `toplabel models --preprocess` lists them"
        )
    if not path.is_file():
        raise PreprocessError(f"this is no ordinary file; expected {_FILES}")
    if path.stat().st_size > MAX_BYTES:
        raise PreprocessError(f"this file is too large for a recipe; expected {_FILES}")
