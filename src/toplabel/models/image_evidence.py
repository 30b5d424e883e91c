"""What a checkpoint shows of the images it was trained on: for suggestions, never for a guess."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toplabel._internal.text import number_of

_SIZE = re.compile(
    r"(?:model|data|train|val|test)?_?"
    r"(?:(?:image|img|input|crop|resize|train_crop|val_crop|val_resize)_?"
    r"(?:size|dims?|shape|res|resolution|height|width|h|w|sz)|resolution|imgsz|image_?sz|size)",
    re.IGNORECASE,
)
_VALUES = re.compile(r"(?:(?:image|img|pixel|data|norm|dataset|normali[sz]e)_)?(?:means?|stds?)")


@dataclass(frozen=True, slots=True)
class ImageEvidence:
    """What is known of a network's images.

    Args:
        channels: Of its first convolution; None where it has none.
        side: Their smaller side in pixels, where the file says one; else None.
        words: All of it, a clause each, for people.
    """

    channels: int | None
    side: int | None
    words: tuple[str, ...]

    def allows(self, channels: int, size: tuple[int, int]) -> bool:
        """Whether images of so many channels, of this (height, width), are in accord with it."""
        if self.channels is not None and self.channels != channels:
            return False
        return self.side is None or min(size) == self.side


def image_evidence(state: Mapping[str, Any], settings: Mapping[str, Any]) -> ImageEvidence:
    """What tensors and hyper-parameters say.

    Args:
        state: Name -> tensor, or what has its shape.
        settings: Plain values that the file has beside them.
    """
    kernels = [tensor.shape[1] for tensor in state.values() if len(tensor.shape) == 4]
    channels = int(kernels[0]) if kernels else None
    stated = {
        name: value
        for name, value in settings.items()
        if (_SIZE.fullmatch(name) or _VALUES.fullmatch(name)) and _is_numbers(value)
    }
    sides = [
        side for name, value in stated.items() if _SIZE.fullmatch(name) for side in _side(value)
    ]
    words = [f"its file says {name}={value}" for name, value in stated.items()]
    if channels is not None:
        words.append(f"its first layer takes {number_of(channels, 'channel')}")
    return ImageEvidence(channels, sides[0] if sides else None, tuple(words))


def _is_numbers(value: object) -> bool:
    several = value if isinstance(value, list | tuple) else [value]
    return bool(several) and all(type(one) in (int, float) for one in several)


def _side(value: Any) -> list[int]:
    """The smaller side in a size as people write it: 32, [32, 32], [3, 32, 32]."""
    sides = value[-2:] if isinstance(value, list | tuple) else [value]
    found = min(sides)
    return [int(found)] if found == int(found) and found > 3 else []
