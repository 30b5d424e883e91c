"""Pixels: the samples of a TIFF in, RGB out, as viewers show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toplabel.errors import ImageError
from toplabel.image.decoded_image import Pixels, check_pixels
from toplabel.image.options import ReadOptions
from toplabel.image.ranges import (
    full_scale,
    invisible,
    on_white,
    stated_white,
    to_bytes,
    unfilled,
)
from toplabel.image.tiff.directory import Directory
from toplabel.image.tiff.layout import (
    BLACK_IS_ZERO,
    FLOAT,
    ICC_LAB,
    INKS,
    INT,
    LAB,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    check_readable,
)
from toplabel.image.tiff.samples import Samples, band_bytes, in_slices, read_samples

_BAND_PIXELS = 1 << 20
_PREMULTIPLIED, _ALPHA = 1, 2
_D50 = np.array([0.96422, 1.0, 0.82521])
_TO_LINEAR_RGB = np.array(  # from XYZ under D50 to sRGB's primaries, adapted by Bradford
    [[3.13386, -1.61687, -0.49062], [-0.97877, 1.91614, 0.03345], [0.07195, -0.22899, 1.40524]]
)

Colours = Callable[[Samples], NDArray[np.float32]]


def read_pixels(
    tags: Directory, layout: Layout, options: ReadOptions
) -> tuple[Pixels, tuple[str, ...]]:
    """RGB pixels (H, W, 3) as stored, not turned upright, and what is doubtful about them.

    Alpha is composited on white; of bands that are neither colour nor alpha nothing is seen.

    Raises:
        ImageError: `unsupported_format`, `too_large`, `truncated`, `non_finite`.
        ValueError: The tags contradict each other.
        OSError: The compressed data is damaged.
    """
    check_readable(layout)
    _check_size(layout, options)
    alpha = _alpha(layout)
    warnings: tuple[str, ...] = ()
    wanted = list(range(layout.colours)) + ([] if alpha is None else [alpha])
    truncated = options.allow_truncated
    if layout.is_subsampled:
        samples, missing = _full_resolution(tags, layout, allow_truncated=truncated)
    else:
        samples, missing = read_samples(tags, layout, wanted, allow_truncated=truncated)
    if alpha is not None and layout.extra is None:
        samples, warnings = _without_unnamed(samples, layout)
        alpha = None
    pixels, doubts = _convert(samples, tags, layout, alpha)
    return pixels, missing + warnings + doubts


def _check_size(layout: Layout, options: ReadOptions) -> None:
    """By the header, before anything is decoded: samples, pixels, and a band in three forms."""
    of_sample = 1 << (max(layout.bits) - 1).bit_length() >> 3 or 2
    held = max(2, of_sample) * min(layout.samples, layout.colours + 1) + 4
    once = replace(layout, bits=layout.bits[:1]) if layout.planar else layout
    band = 3 * band_bytes(in_slices(once)) / (layout.height * layout.width)
    check_pixels(
        layout.height, layout.width, max_pixels=options.max_pixels, bytes_per_pixel=held + band
    )


def _alpha(layout: Layout) -> int | None:
    """Which sample is alpha, or may be.

    Raises:
        ImageError: `unsupported_format`: bands of which none is known to be a colour.
    """
    beyond = layout.samples - layout.colours
    if not beyond:
        return None
    extra = (layout.extra or ())[:beyond]
    for at, kind in enumerate(extra):
        if kind in (_PREMULTIPLIED, _ALPHA):
            return layout.colours + at
    if layout.colours == 1 and beyond > 1:
        raise ImageError(
            "unsupported_format",
            f"it is a TIFF of {layout.samples} bands, and does not say which are colours; save"
            " three of them as an RGB image",
        )
    return layout.colours if layout.extra is None else None


def _without_unnamed(samples: Samples, layout: Layout) -> tuple[Samples, tuple[str, ...]]:
    """Without the sample that may be alpha, and a word where that makes a difference."""
    unnamed = samples[:, :, -1]
    first = unnamed[0, 0]
    if (unnamed == first).all():
        return samples[:, :, :-1], ()
    return samples[:, :, :-1], (
        f"the TIFF has {layout.samples} samples a pixel and does not say whether the last is alpha"
        " (no ExtraSamples); it is left out",
    )


def _full_resolution(
    tags: Directory, layout: Layout, *, allow_truncated: bool
) -> tuple[Samples, tuple[str, ...]]:
    """YCbCr whose colours are stored once for several pixels, in units of Y..., Cb, Cr."""
    across, down = layout.subsampling
    lights = across * down
    units = replace(
        layout,
        height=-(-layout.height // down),
        width=-(-layout.width // across),
        bits=(8,) * (lights + 2),
        formats=(1,) * (lights + 2),
        chunk_height=max(1, -(-layout.chunk_height // down)),
        chunk_width=-(-layout.chunk_width // across),
    )
    if layout.predictor != 1:
        raise ValueError("a predictor over units of several pixels")
    stored, missing = read_samples(tags, units, range(lights + 2), allow_truncated=allow_truncated)
    lit = stored[:, :, :lights].reshape(units.height, units.width, down, across)
    light = lit.swapaxes(1, 2).reshape(units.height * down, units.width * across, 1)
    colours = stored[:, :, lights:].repeat(down, axis=0).repeat(across, axis=1)
    whole = np.concatenate([light, colours], axis=2)
    return whole[: layout.height, : layout.width], missing


def _convert(
    samples: Samples, tags: Directory, layout: Layout, alpha: int | None
) -> tuple[Pixels, tuple[str, ...]]:
    """RGB by bands of rows, so that floats of a whole image are never held."""
    white, warnings = _white(samples[:, :, : layout.colours], tags, layout)
    colours = _colours(tags, layout, white)
    opaque, premultiplied = float(white[0]), False
    if alpha is not None:
        if layout.bits[alpha] != layout.bits[0]:
            opaque = _full(layout, alpha)
        premultiplied = (layout.extra or ())[alpha - layout.colours] == _PREMULTIPLIED
        warnings += invisible(float(samples[:, :, -1].max()) / opaque * 255)
    pixels = np.empty((layout.height, layout.width, 3), np.uint8)
    table = _table(colours, layout, white) if alpha is None else None
    step = max(1, _BAND_PIXELS // layout.width)
    for top in range(0, layout.height, step):
        band = samples[top : top + step]
        if table is not None:
            pixels[top : top + step] = table[band]
            continue
        values = colours(band[:, :, : layout.colours])
        if alpha is not None:
            cover = np.clip(band[:, :, -1:].astype(np.float32) / np.float32(opaque), 0, 1)
            values = on_white(values, cover, premultiplied=premultiplied)
        pixels[top : top + step] = to_bytes(values)
    return pixels, warnings


def _table(
    colours: Colours, layout: Layout, white: NDArray[np.float32]
) -> NDArray[np.uint8] | None:
    """What each value becomes, where that is the same for all samples: the usual case, and fast."""
    alike = layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) and len(set(white)) == 1
    if not alike or layout.formats[0] == FLOAT or max(layout.bits) > 16:
        return None
    values = np.arange(int(white[0]) + 1, dtype=np.float32)
    levels = to_bytes(colours(values[:, None, None].repeat(layout.colours, axis=2)))
    return np.ascontiguousarray(levels[:, 0, 0])


def _full(layout: Layout, sample: int) -> int:
    """The largest value of a sample."""
    signed = layout.formats[0] == INT
    return int((1 << (layout.bits[sample] - signed)) - 1)


def _white(
    samples: Samples, tags: Directory, layout: Layout
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The value of white of each sample, and what is doubtful about it.

    Raises:
        ImageError: `non_finite`, or `unsupported_format` for samples that have no known scale.
    """
    full = [_full(layout, sample) for sample in range(layout.colours)]
    if layout.photometric in (PALETTE, LAB, ICC_LAB, YCBCR):
        if layout.formats[0] == FLOAT or (layout.photometric == YCBCR and max(layout.bits) != 8):
            raise _unscaled(layout)
        return np.array(full, np.float32), ()
    low, high = float(samples.min()), float(samples.max())
    inverted = layout.photometric in (WHITE_IS_ZERO, INKS)
    if layout.formats[0] == FLOAT or (max(layout.bits) > 16 and not inverted):
        one, warnings = full_scale(low, high, floats=layout.formats[0] == FLOAT)
        return np.array([one] * layout.colours, np.float32), warnings
    if low < 0:
        raise ImageError(
            "unsupported_format",
            f"its signed {layout.bits[0]}-bit samples from {low:g} to {high:g} have no known"
            " scale; expected 0 or more; scale them to 8 or 16 bits without a sign",
        )
    if stated := tags.values(281) or tags.values(341):
        full = [stated_white(stated, high, of_one) for of_one in full]
    doubts = unfilled(high, max(full), inverted=inverted) if max(layout.bits) > 8 else ()
    return np.array(full, np.float32), doubts


def _unscaled(layout: Layout) -> ImageError:
    return ImageError(
        "unsupported_format",
        f"it is a TIFF of {layout.bits[0]}-bit samples with photometric interpretation"
        f" {layout.photometric}, which is not read; convert it to PNG or JPEG",
    )


def _colours(tags: Directory, layout: Layout, white: NDArray[np.float32]) -> Colours:
    """What makes RGB, 0 to 255, of samples as stored."""
    if layout.photometric == PALETTE:
        return _palette(tags, layout)
    if layout.photometric in (LAB, ICC_LAB):
        wide, icc = layout.bits[0] == 16, layout.photometric == ICC_LAB
        if layout.bits[0] not in (8, 16):
            raise _unscaled(layout)
        return lambda band: _lab(band, wide=wide, icc=icc)
    if layout.photometric == YCBCR:
        return _ycbcr

    def scaled(band: Samples) -> NDArray[np.float32]:
        values: NDArray[np.float32] = np.multiply(band, 255 / white, dtype=np.float32)
        if layout.photometric == WHITE_IS_ZERO:
            values = np.float32(255) - values
        elif layout.photometric == INKS:
            values = (255 - values[:, :, :3]) * (255 - values[:, :, 3:]) / np.float32(255)
        return values

    return scaled


def _palette(tags: Directory, layout: Layout) -> Colours:
    stored = np.array(tags.values(320), np.float32)
    if stored.size != 3 << layout.bits[0]:
        raise ValueError(f"a colour map of {stored.size} entries for {layout.bits[0]} bits")
    # Old programs wrote 0 to 255 where the standard has 0 to 65535; libtiff allows for it, too.
    unit = 1 if stored.max() < 256 else 257
    table = stored.reshape(3, -1).T / np.float32(unit)
    return lambda band: table[band[:, :, 0].astype(np.intp)]


def _ycbcr(band: Samples) -> NDArray[np.float32]:
    light, blue, red = np.moveaxis(band.astype(np.float32), 2, 0)
    blue, red = blue - 128, red - 128
    rgb = light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue
    return np.stack(rgb, axis=2).astype(np.float32, copy=False)


def _lab(band: Samples, *, wide: bool, icc: bool) -> NDArray[np.float32]:
    """CIELab under D50 as sRGB. TIFF's a and b are signed, ICC's have their zero in the middle."""
    unit = 256 if wide else 1
    colours = band[:, :, 1:]
    if icc:
        ab = colours.astype(np.float32) / unit - 128
    else:
        ab = colours.astype(np.int16 if wide else np.int8).astype(np.float32) / unit
    full = (65_280 if icc else 65_535) if wide else 255
    y = (band[:, :, 0] / full * 100 + 16) / 116
    f = np.stack([y + ab[:, :, 0] / 500, y, y - ab[:, :, 1] / 200], axis=2)
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * _D50
    linear = np.clip(xyz @ _TO_LINEAR_RGB.T, 0, 1)
    curve = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    rgb: NDArray[np.float32] = (curve * 255).astype(np.float32)
    return rgb
