"""A checkpoint's content in; the labels, settings and preprocessing recorded in it out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from toplabel._internal.notices import warn
from toplabel.errors import LabelsError
from toplabel.labels.labels import Labels
from toplabel.labels.listed import ListedNames
from toplabel.models.checkpoint.info import UnknownObject

Holder = tuple[str, Mapping[str, Any]]  # dotted path of the keys to it, and what it holds

LIGHTNING = "hyper_parameters"
"""Where Lightning keeps the arguments of a module's constructor."""

_SETTINGS = re.compile(
    "hyper_parameters|hparams|args|opt|train_args|model_args|model_kwargs|kwargs|config|cfg"
    "|model_config|datamodule_hyper_parameters|params"
)
_HOLDERS = re.compile(
    rf"{_SETTINGS.pattern}|meta|metadata|dataset_meta|dataset|data|info|extras?|dls|model"
    "|pretrained_cfg"
)
_INDEXED = re.compile(
    "(class(es)?|cls|label|name|cat|category|idx|ind|index|id|int)(_to_|_?2_?)"
    "(class|cls|label|name|cat|category|idx|ind|index|id|int)|class_indices|class_index"
    "|classes|class_names|class_labels|CLASSES"
)
_VAGUE = re.compile("labels|label_names|names|categories|vocab|target_names|class_list|label_map")
_ARCHITECTURE = ("architecture", "arch", "model_name", "model", "backbone", "net", "network")
_NAME = re.compile(r"[A-Za-z_][\w./:@-]{1,99}")
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # what transformers writes where nobody named the classes
_MAX_DEPTH = 3
_LONGEST = 1000  # values in a setting that is one, and not data

_OWN = ("preprocess", "preprocessing")
_TIMM = ("pretrained_cfg", "default_cfg", "data_config", "data_cfg")
_HF = ("preprocessor_config", "image_processor", "processor", "feature_extractor")
_HF_CLASS = ("image_processor_type", "feature_extractor_type")
_SIZES = ("input_size", "img_size", "image_size")
_SIZE_TEXT = re.compile(r"[(\[]?\d{1,5}(?:\s*[x,*]\s*\d{1,5}){0,3}[)\]]?")
_DIGITS = re.compile(r"\d+")
_FILTERS = frozenset({"bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"})


def find_holders(content: object, metadata: Mapping[str, str]) -> list[Holder]:
    """The mappings in which people leave what they know of a model; the outermost first.

    The state of an `argparse.Namespace`, or a live one, counts as a mapping.
    """
    holders: list[Holder] = []
    waiting: list[tuple[str, object, int]] = [("", content, 0)]
    if metadata:
        parsed = {key: _parsed(text) for key, text in metadata.items()}
        waiting.append(("metadata", parsed, 0))
    while waiting:
        where, value, depth = waiting.pop(0)
        plain = as_mapping(value)
        if plain is None:
            continue
        holders.append((where, plain))
        if depth < _MAX_DEPTH:
            waiting += [
                (f"{where}.{key}" if where else key, inner, depth + 1)
                for key, inner in plain.items()
                if isinstance(key, str) and _HOLDERS.fullmatch(key)
            ]
    return holders


def find_labels(holders: list[Holder], state: Mapping[str, Any]) -> tuple[Labels | None, str]:
    """The names of the classes, and where they stood.

    Where two places name different classes, or the indices are not those of outputs, nobody knows
    what the outputs mean: then there are no labels, and the second value says why.
    """
    found = list(_named_classes(holders))
    sizes = {size for tensor in state.values() for size in tensor.shape[:1]}
    clear = [one for one in found if _INDEXED.fullmatch(one[0].split(".")[-1])]
    vague = [one for one in found if one not in clear and len(one[1].names) in sizes]
    fitting = [one for one in clear if len(one[1].names) in sizes]
    first: tuple[str, Labels, str | None] | None = None
    for where, listed in fitting or clear or vague:
        try:
            labels, doubt = listed.arranged()
        except LabelsError as error:
            return None, f"{where}, but {error}"
        if all(_PLACEHOLDER.fullmatch(name) for name in labels):
            continue
        if first is None:
            first = where, labels, doubt
        elif labels != first[1]:
            return None, f"{first[0]} and {where}, which differ"
    if first is None:
        return None, ""
    if first[2] is not None:
        warn(f"{first[0]} in the file: {first[2]}", about="labels")
    return first[1], first[0]


def find_architecture(holders: list[Holder]) -> str | None:
    """The name that it gives its network; what it was called by outranks its class."""
    named: dict[tuple[bool, int], str] = {}
    for where, plain in holders:
        for rank, key in enumerate(_ARCHITECTURE):
            name = plain.get(key)
            if isinstance(name, str) and _NAME.fullmatch(name):
                # timm writes the class as "arch" where no arguments say the model
                outer = not (key == "model" and where.split(".")[-1] == "args")
                named.setdefault((outer, rank), name)
    return named[min(named)] if named else None


def find_settings(holders: list[Holder]) -> dict[str, Any]:
    """Hyper-parameters: plain values only; of two of one name, the outermost."""
    settings: dict[str, Any] = {}
    for where, plain in holders:
        if _SETTINGS.fullmatch(where.split(".")[-1]):
            for key, value in plain.items():
                if isinstance(key, str) and _is_plain(value):
                    settings.setdefault(key, value)
    return settings


def find_preprocess(holders: list[Holder]) -> dict[str, Any] | None:
    """What `transforms.translate` takes, where the checkpoint gives all of it; else None.

    Half of it is nothing: a mean without its size and crop would leave the rest to a guess.
    """
    for _, plain in holders:
        found = _own(plain) or _huggingface(plain) or _timm(plain)
        if found:
            return found
    return None


def as_mapping(value: object) -> Mapping[str, Any] | None:
    """The value as a mapping, where it is one or an object that only holds names and values."""
    if isinstance(value, UnknownObject):
        state = value.state
        if value.kind.startswith("omegaconf.") and isinstance(state, Mapping):
            content = state.get("_content")
            return {k: _node(v) for k, v in content.items()} if isinstance(content, dict) else None
        return state if isinstance(state, Mapping) else None
    if isinstance(value, Mapping):
        return value
    if type(value).__name__ in ("Namespace", "SimpleNamespace"):
        return vars(value)
    return None


def _node(value: object) -> object:
    """The value in a node of OmegaConf's."""
    if (
        isinstance(value, UnknownObject)
        and isinstance(value.state, Mapping)
        and "_val" in value.state
    ):
        return value.state["_val"]
    return value


def _named_classes(holders: list[Holder]) -> Iterator[tuple[str, ListedNames]]:
    for where, plain in holders:
        for key, value in plain.items():
            if isinstance(key, str) and (_INDEXED.fullmatch(key) or _VAGUE.fullmatch(key)):
                listed = _listed(_node(value), key)
                if listed is not None:
                    yield (f"{where}.{key}" if where else key), listed


def _listed(value: object, key: str) -> ListedNames | None:
    """The names where the value under the key is nothing else than names of classes."""
    if isinstance(value, UnknownObject) and isinstance(value.state, Mapping):  # fastai's vocabulary
        value = value.state.get("items", value.state.get("_content"))
    if isinstance(value, Mapping):
        pairs = list(value.items())
        to_index = all(isinstance(k, str | int) and type(v) is int for k, v in pairs)
        to_name = all(_is_index(k) and isinstance(v, str) for k, v in pairs)
        if not pairs or not (to_index or to_name):
            return None
    elif not isinstance(value, list | tuple) or not value:
        return None
    elif all(type(v) is int for v in value):  # classes that are called by numbers
        numbers = _INDEXED.fullmatch(key) and len(set(value)) == len(value) > 1
        return ListedNames(names=tuple(map(str, value))) if numbers else None
    elif not all(isinstance(v, str) for v in value):
        return None
    try:
        return ListedNames.of(value, called=key)
    except LabelsError:
        return None


def _is_index(key: object) -> bool:
    return type(key) is int or (isinstance(key, str) and key.isdecimal())


def _is_plain(value: object) -> bool:
    """Whether it is text, a number, a truth, nothing, or a short nesting of these."""
    waiting, count = [value], 0
    while waiting and count <= _LONGEST:
        item = waiting.pop()
        count += 1
        if isinstance(item, list | tuple):
            waiting += item[: _LONGEST + 1]
        elif isinstance(item, dict):
            waiting += list(item.values())[: _LONGEST + 1]
        elif item is not None and not isinstance(item, str | int | float | bool):
            return False
    return count <= _LONGEST


def _parsed(text: str) -> object:
    """What a text of safetensors' metadata means: JSON where it is some, else itself."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _own(plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """A `Preprocess` of ours: an object, or its JSON."""
    for key in _OWN:
        fields = plain.get(key)
        fields = _parsed(fields) if isinstance(fields, str) else fields
        if isinstance(fields, Mapping) and {"input_size", "mean", "std"} <= fields.keys():
            return dict(fields)
    return None


def _huggingface(plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """An image processor's configuration; one without its class's name has no meaning."""
    for config in (plain, *(as_mapping(plain.get(key)) or {} for key in _HF)):
        if any(isinstance(config.get(key), str) for key in _HF_CLASS):
            return {str(key): value for key, value in config.items()}
    return None


def _timm(plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """The data config of timm, in a mapping of its own or among the arguments of its training."""
    for config in (*(as_mapping(plain.get(key)) or {} for key in _TIMM), plain):
        found = _complete(config)
        if found:
            return found
    return None


def _complete(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Size, mean, std, filter and crop; None where one is missing or is for training only."""
    mean, std = _numbers(config.get("mean")), _numbers(config.get("std"))
    size, crop = _size(config, len(mean)), config.get("crop_pct")
    if not mean or not std or not size or config.get("interpolation") not in _FILTERS:
        return None
    if isinstance(crop, bool) or not isinstance(crop, int | float) or crop <= 0:
        return None
    return {
        "input_size": size,
        "interpolation": config["interpolation"],
        "mean": mean,
        "std": std,
        "crop_pct": crop,
        "crop_mode": config.get("crop_mode") or "center",
    }


def _size(config: Mapping[str, Any], channels: int) -> list[int]:
    """(channels, height, width), `channels` where they are not given; empty: no size is given.

    Also of (height, width, channels), and with a batch of one in front.
    """
    for key in _SIZES:
        sides = _whole_numbers(config.get(key))
        if len(sides) == 4 and sides[0] == 1:
            sides = sides[1:]
        if len(sides) in (1, 2):
            return [config.get("in_chans") or channels, sides[0], sides[-1]]
        if len(sides) == 3 and sides[0] != channels and sides[2] == channels:
            return [channels, *sides[:2]]
        if len(sides) == 3:
            return sides
    return []


def _whole_numbers(value: object) -> list[int]:
    """The numbers of a size: 32, [3, 32, 32], [32.0, 32.0] or "32x32"; empty for anything else."""
    if isinstance(value, str) and _SIZE_TEXT.fullmatch(value.strip()):
        return [int(number) for number in _DIGITS.findall(value)]
    listed = value if isinstance(value, list | tuple) else [value]
    numbers = _numbers(listed)
    whole = [int(number) for number in numbers if number == int(number)]
    return whole if len(whole) == len(listed) else []


def _numbers(value: object) -> list[float]:
    """A list of numbers; empty for anything else."""
    listed = value if isinstance(value, list | tuple) else ()
    numbers = [v for v in listed if isinstance(v, int | float) and not isinstance(v, bool)]
    return numbers if len(numbers) == len(listed) else []
