"""Advice: what a checkpoint lacks in, what to pass for all of it in one sentence out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toplabel.models.checkpoint.state_dict_search import FoundStateDict
from toplabel.models.inspect import script_beside
from toplabel.models.options import ModelOptions

if TYPE_CHECKING:
    from toplabel.models.input_size import InputSize

_LIST = "`toplabel models --preprocess` lists the presets"


def network_advice(path: Path, found: FoundStateDict, options: ModelOptions) -> str:
    """What to pass where no library's network fits the tensors, with all else that is lacking."""
    lacks, arguments = _lacking(found, options)
    also = f"; the file has no {' and no '.join(lacks)} either" if lacks else ""
    arguments.insert(0, 'arch="nets.py:MyCNN"')
    hint = f" ({_LIST})" if "preprocessing" in lacks else ""
    script = script_beside(path)
    beside = f'script="{script}", where all this may be read, or ' if script else ""
    return f"{also}; pass {beside}{' '.join(arguments)}{hint}"


def preprocess_advice(
    path: Path, size: InputSize, found: FoundStateDict, options: ModelOptions
) -> str:
    """What to pass where it is not known how images were preprocessed, and names if they lack.

    Args:
        path: Of the checkpoint.
        size: What the network takes.
        found: What the file holds.
        options: What the user states.
    """
    lacks, _ = _lacking(found, options)
    names = '; labels="classes.txt" gives its classes names' if "class names" in lacks else ""
    script = None if options.script else script_beside(path)
    first = f'script="{script}" may say it; ' if script else ""
    return f"{first}{what_it_takes(size)}{names}"


def what_it_takes(size: InputSize) -> str:
    """What images a network takes, and the usual presets that make such."""
    if size.low is None:
        return f"the network takes {size}, which only code of your own can make of an image"
    ways = ", ".join(
        f'preprocess="{name}" if that was {values}' for name, values in presets_for(size).items()
    )
    return f"the network takes {size}, as by {ways}"


def presets_for(size: InputSize) -> dict[str, str]:
    """Presets that make what a network takes -> whose values they are; the usual ones."""
    side = size.side or (224 if size.high is None else size.low)
    if size.channels == 1:
        presets = {
            f"raw-1-squash-{side}-grey": "ToTensor() alone",
            f"half-squash-{side}-grey": "Normalize(0.5, 0.5)",
        }
        if side == 28:
            presets["mnist-28"] = "Normalize(0.1307, 0.3081)"
        return presets
    if size.channels != 3:
        return {f"raw-1-squash-{side}-{size.channels}ch": "a division by 255"}
    return {
        f"raw-1-squash-{side}": "ToTensor() alone",
        f"half-squash-{side}": "Normalize(0.5, 0.5)",
        f"imagenet-squash-{side}": "ImageNet's mean and std",
    }


def _lacking(found: FoundStateDict, options: ModelOptions) -> tuple[list[str], list[str]]:
    """What neither the file nor the user says, beside the network, and the arguments for it."""
    lacks, arguments = [], []
    if found.preprocess is None and options.preprocess is None:
        lacks.append("preprocessing")
        arguments.append('preprocess="PRESET"')
    if found.labels is None and options.labels is None:
        lacks.append("class names")
        arguments.append('labels="classes.txt"')
    return lacks, arguments
