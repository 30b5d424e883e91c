"""Colours: heat from 0 to 1 in, a colour out, whose lightness grows evenly with the heat.

Dark violet, red, orange, pale yellow: told apart in grey print, too, and by people who see fewer
colours. The path is drawn in OKLab (Ottosson 2020), where equal steps look equal.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LIGHTNESS = (0.22, 0.96)
_CHROMA = (0.10, 0.19, 0.20, 0.17, 0.10)
_HUE_DEGREES = (-65.0, -10.0, 30.0, 65.0, 100.0)  # violet, rose, red, orange, yellow

_TO_CONES = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_LINEAR = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@cache
def colour_table() -> NDArray[np.uint8]:
    """The colours of heat 0, 1/255, ... 1: uint8 (256, 3), sRGB."""
    place = np.linspace(0, 1, 256)
    lightness = np.linspace(*_LIGHTNESS, 256)
    chroma = np.interp(place, np.linspace(0, 1, len(_CHROMA)), _CHROMA)
    hue = np.radians(np.interp(place, np.linspace(0, 1, len(_HUE_DEGREES)), _HUE_DEGREES))
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)  # (256, 3)
    linear = np.clip((lab @ _TO_CONES.T) ** 3 @ _TO_LINEAR.T, 0, 1)
    encoded = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
    table: NDArray[np.uint8] = np.rint(255 * encoded).astype(np.uint8)
    return table
