"""Readers of transforms: one as people have it in, the same as a `Preprocess` out, to the bit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toplabel._internal.optional import require
from toplabel.errors import PreprocessError
from toplabel.preprocess.preprocess import Preprocess, RangeMismatch, parse_object, read_text
from toplabel.preprocess.presets import preset

if TYPE_CHECKING:
    from toplabel.preprocess.custom import AnyPreprocess

MAX_BYTES = 16_000_000
"""A larger file holds no preprocessing; most have one kB."""

_FILES = (
    "a JSON file: toplabel's own, timm's config.json or Hugging Face's preprocessor_config.json"
)
_ACCEPTED = (
    "a toplabel.Preprocess, its JSON, a torchvision Compose or preset, a timm data config, a"
    " Hugging Face image processor or its preprocessor_config, or a function of a PIL image"
)
_TIMM_KEYS = frozenset({"crop_pct", "crop_mode", "test_input_size", "test_crop_pct", "url"})
_HF_KEYS = frozenset(
    {"image_processor_type", "feature_extractor_type", "do_resize", "image_mean", "do_normalize"}
)
_CODE = re.compile(r"(?:.+\.py|[^\W\d][\w.]*):[^\W\d][\w.]*")  # FILE.py:NAME, module:NAME


def read_preprocess(given: object) -> AnyPreprocess:
    """The preprocessing that a user gives, whatever it is.

    What can be translated to the bit becomes a `Preprocess`; any other code runs as it is, with a
    warning.

    Args:
        given: The text of a JSON object; a preset's name; the path of a file; `FILE.py:NAME` or
            `package.module:NAME` of code; or what `translate` takes; or code that can be called
            with an image.

    Raises:
        PreprocessError: It is none of these, or cannot be used; says why.
        UsageError: There is no such file, module or name.
        ModelError: The file's code fails.
    """
    if isinstance(given, str) and given.lstrip().startswith("{"):
        return translate(given)
    if isinstance(given, str) and _CODE.fullmatch(given) and not os.path.exists(given):
        name = re.split(r"[/\\]", given)[-1]  # records have no path of this machine
        return _of_object(_import(given), name=name)
    if isinstance(given, str | os.PathLike):
        named = given if isinstance(given, str) else Path(given)
        return preprocess_of(named)
    return _of_object(given)


def _import(text: str) -> object:
    require("torch", extra="torch", purpose=f"the preprocessing {text!r}")
    from toplabel.models.fit.build_module import import_object
    from toplabel.models.zoo_import import declare_missing_operators

    declare_missing_operators()  # for code that imports torchvision
    return import_object(text)


def _of_object(transform: object, *, name: str | None = None) -> AnyPreprocess:
    """Translated where that is possible; else run as it is, where it can be called."""
    if callable(transform):
        from toplabel.models.transforms.custom import name_of, resolve

        transform = resolve(transform, name=name or name_of(transform))
    try:
        return translate(transform)
    except RangeMismatch:  # code with such a mean would be run, and be wrong
        raise
    except PreprocessError as error:
        is_code = callable(transform) or (
            isinstance(transform, list | tuple) and transform and all(map(callable, transform))
        )
        if not is_code:
            raise
        untranslated = error
    from toplabel.models.transforms.custom import custom_preprocess

    why = "" if isinstance(untranslated, _UnknownTransform) else str(untranslated)
    try:
        return custom_preprocess(transform, name=name, why=why)  # type: ignore[arg-type]
    except PreprocessError as error:
        raise error from untranslated


class _UnknownTransform(PreprocessError):
    """It is of no library whose transforms are read."""


def translate(transform: object) -> Preprocess:
    """The preprocessing that does what this transform does, to the bit.

    What can be called is run on drawn photos of several shapes and compared.

    Args:
        transform: A `Preprocess`; a mapping, the text of a JSON object, or the `Path` of a file
            with one (a `Preprocess` as JSON, timm's data config or `pretrained_cfg`, Hugging Face's
            `preprocessor_config.json`); a torchvision `Compose`, preset or single transform (v1
            or v2); timm's `PretrainedCfg`; a Hugging Face image processor.

    Raises:
        PreprocessError: It is none of these, or does something that a `Preprocess` cannot express;
            the operation is named.
    """
    if isinstance(transform, Preprocess):
        return transform
    if isinstance(transform, Path):
        return _from_mapping(parse_object(read_text(transform)))
    if isinstance(transform, str):
        return _from_mapping(parse_object(transform))
    if isinstance(transform, Mapping):
        return _from_mapping(transform)
    return _from_object(transform)


def _from_mapping(plain: Mapping[str, Any]) -> Preprocess:
    if "pretrained_cfg" in plain:
        return _read_by("timm", "from_config", plain["pretrained_cfg"])
    if not _HF_KEYS.isdisjoint(plain):
        return _read_by("huggingface", "from_config", plain)
    size = plain.get("input_size")
    if not _TIMM_KEYS.isdisjoint(plain) or (isinstance(size, list | tuple) and len(size) == 3):
        return _read_by("timm", "from_config", plain)
    return Preprocess.from_dict(plain)


def _from_object(transform: object) -> Preprocess:
    """Choose by the library of the object's class, or of one that it derives from."""
    libraries = {cls.__module__.split(".")[0] for cls in type(transform).__mro__}
    if "transformers" in libraries:
        return _read_by("huggingface", "from_processor", transform)
    to_dict = getattr(transform, "to_dict", None)
    if "timm" in libraries and callable(to_dict):
        return _read_by("timm", "from_config", to_dict())
    if libraries & {"torchvision", "timm", "torch"} or isinstance(transform, list | tuple):
        return _read_by("torchvision", "from_transform", transform)
    kind = f"{type(transform).__module__}.{type(transform).__qualname__}"
    raise _UnknownTransform(f"got a transform of type {kind}; expected {_ACCEPTED}")


def _read_by(library: str, function: str, transform: object) -> Preprocess:
    """What the reader for a library's transforms makes of one; some of them import torch."""
    reader = getattr(import_module(f"toplabel.models.transforms.{library}"), function)
    preprocess: Preprocess = reader(transform)
    return preprocess


def preprocess_of(text: str | Path) -> Preprocess:
    """The preprocessing of a preset, or in a JSON file.

    Args:
        text: `imagenet-crop-256-224` or another of `presets`; or the path of a file with a
            `Preprocess` as JSON, timm's `config.json` or Hugging Face's
            `preprocessor_config.json`. A `Path` is never a preset.

    Raises:
        PreprocessError: It is neither, or the file holds no preprocessing; says which.
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
        advice = f"give its {' or '.join(inside)}" if inside else f"expected {_FILES}"
        raise PreprocessError(f"it is a folder; {advice}")
    if not path.exists():
        raise PreprocessError(
            f"there is no such file; expected {_FILES}; or the name of a preset, which has neither"
            " '/' nor '.': `toplabel models --preprocess` lists them"
        )
    if not path.is_file():
        raise PreprocessError(f"it is not a regular file; expected {_FILES}")
    if path.stat().st_size > MAX_BYTES:
        raise PreprocessError(f"it is larger than {MAX_BYTES:,} bytes; expected {_FILES}")
