"""Render an explanation: the evidence in an image in, a PNG or JSON out."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from toplabel._internal.platform import read_start, written_aside
from toplabel._internal.text import ascii_json, written_out
from toplabel._version import __version__
from toplabel.analysis.explain.pipeline import Explanation, explain_with
from toplabel.errors import ImageError, ToplabelError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.image.options import ReadOptions
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine

Format = Literal["png", "json"]

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

LONGEST_SIDE = 2048
"""Larger images are shown at this size: nobody looks at heat of seven cells any closer."""

_UPLOADED_SIDES = {"png": 1024, "json": 128}
"""The longest side of what is sent over a network."""

_SOFTWARE = "toplabel explain"
"""How our PNGs are recognised: the first words of their text called Software."""

_STRONGEST = 0.72
"""How much of the image the colour covers where the heat is 1."""

_RISE = 0.8
"""Below 1, faint heat shows more than in proportion."""

_COLD_LIGHT = 0.72
"""What is left of the image's light where the heat is 0: what is hot stands out."""

_FRAME, _FRAME_EDGE = (255, 255, 255), (20, 20, 20)
_LEAST_MARGIN = 3
"""In pixels: what is cut off less is not worth a frame."""

_UNSEEN = "not seen by the model"

# fmt: off
_COLOURS = {
    0: "200943", 24: "430657", 39: "5d005c", 56: "7c005b", 69: "920055", 92: "b1014b",
    104: "c01943", 123: "d63430", 132: "de4225", 157: "ef690c", 167: "f47802", 177: "f98602",
    188: "fd960f", 192: "fe9c17", 200: "ffa92f", 233: "ffd877", 255: "fff4a5",
}
# fmt: on
"""sRGB colours of heat in 255ths, linear between them: dark violet, red, orange, pale yellow.

A path through OKLab (Ottosson 2020) whose lightness grows evenly: its colours are told apart in
grey print, too, and by people who see fewer colours.
"""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A response's bytes, and what they show: plain data for JSON."""

    content: bytes
    facts: dict[str, Any]


def explain_upload(
    classifier: Classifier,
    engine: Engine,
    source: object,
    *,
    label: int | None,
    format: Format,
    read: ReadOptions,
) -> Rendered:
    """A PNG of an uploaded image under its heat map, or a JSON object with the heat in rows.

    Args:
        classifier: The model.
        engine: Runs it.
        source: The image file, as `read_image` takes it.
        label: The index of the class; None: the predicted one.
        format: "png" or "json".
        read: Limits in reading it.

    Raises:
        ImageError: The image cannot be read.
        UsageError: There is no such class.
    """
    found = explain_with(classifier, engine, source, label=label, read=read)
    longest, facts = _UPLOADED_SIDES[format], found.to_dict()
    if format == "png":
        return Rendered(render_png(found, longest=longest), facts)
    heat = found.heat_at(shown_size(found.decoded.height, found.decoded.width, longest=longest))
    rows = [[round(float(value), 3) for value in row] for row in heat]
    return Rendered(ascii_json(facts | {"heat": rows}).encode(), facts)


def render_png(found: Explanation, *, longest: int = LONGEST_SIDE) -> bytes:
    """A PNG of the upright image under its heat map, shrunk to `longest` where it is larger."""
    size = shown_size(found.decoded.height, found.decoded.width, longest=longest)
    about = f"{found.label} {found.score:.4f} by {found.model}, {found.method}"
    texts = {"Title": found.label, "Description": about}
    return overlay(found.image, found.heat_at(size), seen=found.seen_at(size), texts=texts)


def shown_size(height: int, width: int, *, longest: int = LONGEST_SIDE) -> tuple[int, int]:
    """The (height, width) at which an image of this size is shown."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def overlay(
    pixels: NDArray[np.uint8],
    heat: NDArray[np.float32],
    *,
    seen: Box | None = None,
    texts: dict[str, str],
) -> bytes:
    """A PNG of the image with its heat over it, of the heat's size.

    Args:
        pixels: uint8 (H, W, 3), upright RGB.
        heat: float32 (h, w) in [0, 1], over all of the image.
        seen: What the model sees of it, in pixels of the heat; framed where that is not all.
        texts: What to write into the file beside, by keyword.

    Raises:
        ImageError: `wrong_size`: the pixels are not RGB.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(
            "wrong_size", f"got pixels of shape {pixels.shape}; expected RGB, (height, width, 3)"
        )
    height, width = heat.shape
    image = Image.fromarray(pixels)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", f"{_SOFTWARE} {__version__}")
    for keyword, text in texts.items():
        info.add_itxt(keyword, written_out(text))
    file = io.BytesIO()
    blended = Image.fromarray(_blend(np.asarray(image), heat))
    if seen is not None:
        _draw_frame(blended, seen)
    blended.save(file, "PNG", pnginfo=info, compress_level=4)
    return file.getvalue()


def is_overlay(content: bytes) -> bool:
    """Whether this is the beginning of a file that `overlay` made."""
    return content.startswith(b"\x89PNG") and f"Software\0{_SOFTWARE} ".encode() in content[:1024]


@cache
def colour_table() -> NDArray[np.uint8]:
    """The colours of heat 0, 1/255, ... 1: uint8 (256, 3), sRGB."""
    stops = np.array([[*bytes.fromhex(colour)] for colour in _COLOURS.values()])  # (S, 3)
    channels = [np.interp(np.arange(256), [*_COLOURS], channel) for channel in stops.T]
    table: NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return table


def _draw_frame(image: Image.Image, seen: Box) -> None:
    """Frame what the model sees, and say beside it that it sees no more, where there is room."""
    left, top, right, bottom = map(round, seen)
    margins = left, top, image.width - right, image.height - bottom
    if max(margins) < _LEAST_MARGIN:
        return
    draw, thick = ImageDraw.Draw(image), max(1, round(min(image.size) / 200))
    frame = (left, top, right - 1, bottom - 1)
    draw.rectangle(frame, outline=_FRAME_EDGE, width=2 * thick)
    draw.rectangle(frame, outline=_FRAME, width=thick)
    _caption(image, draw, right, bottom, margins, size=max(10, round(min(image.size) / 28)))


def _caption(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    right: int,
    bottom: int,
    margins: tuple[int, int, int, int],
    *,
    size: int,
) -> None:
    """Write it below the frame, or upwards on its right."""
    font = ImageFont.load_default(size)
    _, _, width, height = map(math.ceil, font.getbbox(_UNSEEN))
    text = Image.new("L", (width, height))
    ImageDraw.Draw(text).text((0, 0), _UNSEEN, 255, font=font)
    if margins[3] > height + 4 and image.width > width + 8:
        place = ((image.width - width) // 2, bottom + (margins[3] - height) // 2)
    elif margins[2] > height + 4 and image.height > width + 8:
        text = text.transpose(Image.Transpose.ROTATE_90)
        place = (right + (margins[2] - height) // 2, (image.height - width) // 2)
    else:
        return
    draw.bitmap((place[0] + 1, place[1] + 1), text, fill=_FRAME_EDGE)
    draw.bitmap(place, text, fill=_FRAME)


def _blend(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image, darker where it is cold and coloured where it is hot: uint8 (h, w, 3)."""
    colours = colour_table()[np.rint(heat * 255).astype(np.uint8)]
    share = (_STRONGEST * heat**_RISE)[..., None]
    light = _COLD_LIGHT + (1 - _COLD_LIGHT) * heat[..., None]
    blended = pixels * (light * (1 - share)) + colours * share
    return np.rint(blended).astype(np.uint8)


def check_png_target(path: str | os.PathLike[str]) -> None:
    """Stop where the PNG could not, or should not, be written.

    Raises:
        UsageError: There is no such folder, or a file stands there that explain did not write.
    """
    name = os.fspath(path)
    if not name.lower().endswith(".png"):
        raise UsageError(f"got {name!r}; expected a name that ends in .png")
    target = Path(os.path.realpath(name))
    if not target.parent.is_dir():
        raise UsageError(f"got {name!r}; there is no folder {str(target.parent)!r}")
    if not target.exists():
        return
    if not target.is_file() or not is_overlay(read_start(target, 1024)):
        raise UsageError(
            f"got {name!r}, which exists and was not written by toplabel explain; choose another"
            " name"
        )


def save_png(found: Explanation, path: str | os.PathLike[str]) -> None:
    """Write the PNG at once, or leave what stands there; raises as `Explanation.save`."""
    check_png_target(path)
    target = Path(os.path.realpath(path))  # a link stays one
    content = render_png(found)
    try:
        with written_aside(target) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise ToplabelError(f"cannot write {os.fspath(path)!r}: {error.strerror}") from error
