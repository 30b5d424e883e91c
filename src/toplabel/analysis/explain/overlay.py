"""Overlay: a picture and the heat over it in, the bytes of a PNG that shows both out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, PngImagePlugin

from toplabel._version import __version__
from toplabel.analysis.explain.colour_map import colour_table
from toplabel.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LONGEST_SIDE = 2048
"""Larger pictures are shown at this size: nobody looks at heat of seven cells any closer."""

SOFTWARE = "toplabel explain"
"""How our pictures are known: the first words of their text called Software."""

_STRONGEST = 0.72
"""How much of the picture the colour covers where the heat is 1."""

_RISE = 0.8
"""Below 1, faint heat shows more than in proportion."""

_COLD_LIGHT = 0.72
"""What is left of the picture's light where the heat is 0: what is hot stands out."""


def shown_size(height: int, width: int, *, longest: int = LONGEST_SIDE) -> tuple[int, int]:
    """The (height, width) that a picture of this size is shown at."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def overlay(
    pixels: NDArray[np.uint8], heat: NDArray[np.float32], *, texts: Mapping[str, str]
) -> bytes:
    """A PNG of the picture with its heat over it, of the heat's size.

    Args:
        pixels: uint8 (H, W, 3), upright RGB.
        heat: float32 (h, w) in [0, 1], over all of the picture.
        texts: What to write into the file beside, by keyword.

    Raises:
        ImageError: `wrong_size`: these pixels are no colours.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(
            "wrong_size", f"got pixels of shape {pixels.shape}; only RGB pictures can be shown"
        )
    height, width = heat.shape
    image = Image.fromarray(pixels)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    shown = Image.fromarray(_blend(np.asarray(image), heat))
    said = PngImagePlugin.PngInfo()
    said.add_text("Software", f"{SOFTWARE} {__version__}")
    for keyword, text in texts.items():
        said.add_itxt(keyword, text)
    file = io.BytesIO()
    shown.save(file, "PNG", pnginfo=said, compress_level=4)
    return file.getvalue()


def is_overlay(content: bytes) -> bool:
    """Whether this is the beginning of a file that `overlay` made."""
    return content.startswith(b"\x89PNG") and f"Software\0{SOFTWARE} ".encode() in content[:1024]


def _blend(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture, darker where it is cold and coloured where it is hot: uint8 (h, w, 3)."""
    colours = colour_table()[np.rint(heat * 255).astype(np.uint8)]
    share = (_STRONGEST * heat**_RISE)[..., None]
    light = _COLD_LIGHT + (1 - _COLD_LIGHT) * heat[..., None]
    blended = pixels * (light * (1 - share)) + colours * share
    return np.rint(blended).astype(np.uint8)
