"""How an image's samples lie in a TIFF, by its tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from toplabel.errors import ImageError
from toplabel.image.tiff.directory import Directory

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, INKS, YCBCR, LAB, ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
UINT, INT, FLOAT, VOID = 1, 2, 3, 4
RAW, OLD_JPEG, JPEG = 1, 6, 7
COLOURS: Final = {
    WHITE_IS_ZERO: 1,
    BLACK_IS_ZERO: 1,
    RGB: 3,
    PALETTE: 1,
    INKS: 4,
    YCBCR: 3,
    LAB: 3,
    ICC_LAB: 3,
}
"""Photometric interpretations that are read, and how many samples are their colour."""

PHOTOMETRIC_NAMES: Final = {
    4: "a transparency mask",
    10: "ITU Lab",
    32803: "a camera's raw mosaic (CFA)",
    32844: "LogL",
    32845: "LogLuv",
    34892: "camera raw (LinearRaw)",
    51177: "depth",
}
BYTE_CODECS: Final = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions of bytes, whatever the samples are: none, LZW, Deflate, PackBits, LZMA, Zstd."""

_CODEC_NAMES = {
    2: "CCITT",
    3: "CCITT group 3",
    4: "CCITT group 4",
    6: "old-style JPEG",
    7: "JPEG",
    9: "JBIG",
    10: "JBIG",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    34933: "PNG",
    34934: "JPEG XR",
    22610: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
    32909: "PixarLog",
    32767: "Sony raw",
    34713: "Nikon raw",
    65000: "Kodak raw",
    32769: "Panasonic raw",
    32770: "Samsung raw",
    34718: "Microsoft document imaging",
    34719: "Microsoft document imaging",
}
_PILLOW_CODECS = {*BYTE_CODECS, 2, 3, 4, OLD_JPEG, JPEG, 32771, 32809}
_FAX = {2, 3, 4}
_PREDICTED = BYTE_CODECS - {RAW, 32773}
_MIN_TILE_PIXELS = 128  # tiles are at least 16 x 16 by the standard; smaller ones are bombs
_LARGE_TILE = 1 << 24  # pixels, 4096 x 4096
_ALWAYS_CHUNKS = 70_000  # a strip for each row of the longest image


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the samples of an image lie.

    `bits` and `formats` are of each sample of a pixel, `extra` what the samples beyond the colour
    are (0 unknown, 1 premultiplied alpha, 2 alpha), None where nothing says. `chunk_height` and
    `chunk_width` are of a strip or tile, in pixels.
    """

    height: int
    width: int
    photometric: int
    bits: tuple[int, ...]
    formats: tuple[int, ...]
    extra: tuple[int, ...] | None
    planar: bool
    tiled: bool
    chunk_height: int
    chunk_width: int
    compression: int
    predictor: int
    fill_order: int
    subsampling: tuple[int, int]

    @property
    def samples(self) -> int:
        """Samples a pixel, colours and others."""
        return len(self.bits)

    @property
    def colours(self) -> int:
        """How many of the samples are colours."""
        return COLOURS[self.photometric]

    @property
    def across(self) -> int:
        """Strips or tiles beside each other."""
        return -(-self.width // self.chunk_width)

    @property
    def down(self) -> int:
        """Strips or tiles below each other."""
        return -(-self.height // self.chunk_height)

    @property
    def is_subsampled(self) -> bool:
        """Colours stored at a lower resolution, in units of several pixels; not within JPEG."""
        return self.photometric == YCBCR and self.subsampling != (1, 1)


def layout_of(tags: Directory) -> Layout:
    """The layout that the tags state, or mean where they are silent.

    Raises:
        ImageError: `unsupported_format` for what nothing here reads, with its name.
        ValueError: The tags contradict each other.
    """
    height, width = tags.value(257, 0), tags.value(256, 0)
    if height < 1 or width < 1:
        raise ValueError(f"its header gives a size of {width} x {height}")
    compression = tags.value(259, RAW)
    photometric = _photometric(tags, compression)
    bits, formats = _bits(tags, compression, photometric)
    tiled = 322 in tags.entries or 324 in tags.entries
    chunk_width = tags.value(322, 0) if tiled else width
    chunk_height = tags.value(323, 0) if tiled else min(tags.value(278, height), height)
    if chunk_width < 1 or chunk_height < 1:
        raise ValueError(f"strips or tiles of {chunk_width} x {chunk_height}")
    layout = Layout(
        height=height,
        width=width,
        photometric=photometric,
        bits=bits,
        formats=formats,
        extra=tags.values(338) if 338 in tags.entries else None,
        planar=tags.value(284, 1) == 2 and len(bits) > 1,
        tiled=tiled,
        chunk_height=chunk_height,
        chunk_width=chunk_width,
        compression=compression,
        predictor=tags.value(317, 1) if compression in _PREDICTED else 1,
        fill_order=tags.value(266, 1),
        subsampling=_subsampling(tags, width * height) if photometric == YCBCR else (1, 1),
    )
    _check_chunks(layout)
    return layout


def _photometric(tags: Directory, compression: int) -> int:
    """What the colours are. Missing: as libtiff's RGBA reader has it."""
    if 262 not in tags.entries:
        if tags.value(277, 1) >= 3:
            return YCBCR if compression == OLD_JPEG else RGB
        return WHITE_IS_ZERO if compression in _FAX else BLACK_IS_ZERO
    found = tags.value(262, 0)
    if found not in COLOURS:
        name = PHOTOMETRIC_NAMES.get(found, "an unknown kind of colours")
        raise _unsupported(f"it holds {name} (photometric interpretation {found})")
    if found == INKS and tags.value(332, 1) != 1:
        raise _unsupported("its inks are not cyan, magenta, yellow and black (InkSet)")
    return found


def _bits(
    tags: Directory, compression: int, photometric: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bits and formats of each sample."""
    bits = tags.values(258) or (1,)
    samples = tags.value(277, COLOURS[photometric] if compression == OLD_JPEG else len(bits))
    if not COLOURS[photometric] <= samples <= 1024:
        raise ValueError(f"{samples} samples a pixel, photometric interpretation {photometric}")
    formats = tags.values(339) or (UINT,)
    bits = (bits * samples if len(bits) == 1 else bits)[:samples]
    formats = (formats * samples if len(formats) < samples else formats)[:samples]
    if len(bits) < samples or not all(1 <= b <= 64 for b in bits):
        raise ValueError(f"{samples} samples a pixel, of {bits} bits")
    return bits, formats


def _subsampling(tags: Directory, pixels: int) -> tuple[int, int]:
    """(horizontal, vertical); 2 x 2 by the standard, but many write full colour without saying."""
    found = tags.values(530)
    if not found:
        raw = tags.value(259, RAW) == RAW
        return (1, 1) if raw and sum(tags.values(279)) >= 3 * pixels else (2, 2)
    if len(found) != 2 or not all(factor in (1, 2, 4) for factor in found):
        raise ValueError(f"YCbCr subsampling of {found}")
    return found[0], found[1]


def _check_chunks(layout: Layout) -> None:
    """Refuse bombs of tiny tiles, each of which costs a decoder's start, and of one huge tile."""
    pixels = layout.height * layout.width
    if layout.chunk_height * layout.chunk_width > max(_LARGE_TILE, 4 * pixels):
        raise ImageError(
            "too_large",
            f"its tiles are of {layout.chunk_width} x {layout.chunk_height} pixels, the image of"
            f" {layout.width} x {layout.height}; save it again",
        )
    count = layout.across * layout.down
    if count > _ALWAYS_CHUNKS + pixels // _MIN_TILE_PIXELS:
        raise ImageError(
            "too_large",
            f"it is cut into {count:,} parts of {layout.chunk_width} x {layout.chunk_height}"
            " pixels; the smallest tiles of the standard have 16 x 16; save it again",
        )


def reads_with_pillow(tags: Directory, layout: Layout) -> bool:
    """Whether this is one of the layouts of up to 8 bits that Pillow reads right."""
    if layout.compression not in _PILLOW_CODECS or (tags.big and tags.order == ">"):
        return False
    if set(layout.bits) not in ({1}, {2}, {4}, {8}) or not set(layout.formats) <= {UINT, VOID}:
        return False
    if layout.photometric == PALETTE and max(tags.values(320), default=0) < 256:
        return False
    if layout.compression == JPEG:
        return max(layout.bits) == 8 and _has_usual_samples(layout)
    if max(layout.bits) < 8:
        stated = 262 in tags.entries or layout.compression in _FAX
        return layout.samples == 1 and layout.photometric <= PALETTE and stated
    if layout.planar and layout.photometric in (LAB, YCBCR):
        return False
    return _has_usual_samples(layout) and not (
        layout.is_subsampled and layout.compression != OLD_JPEG
    )


def _has_usual_samples(layout: Layout) -> bool:
    if layout.samples == layout.colours:
        return layout.photometric != ICC_LAB
    one_alpha = layout.extra in ((1,), (2,)) and layout.samples == layout.colours + 1
    if layout.photometric == BLACK_IS_ZERO:
        return one_alpha and layout.extra == (2,) and not layout.planar
    return one_alpha and layout.photometric == RGB and not layout.planar


def check_readable(layout: Layout) -> None:
    """Refuse, by name, what the reader of samples cannot decode.

    Raises:
        ImageError: `unsupported_format`.
    """
    if layout.compression not in BYTE_CODECS:
        name = _CODEC_NAMES.get(layout.compression, "unknown")
        raise _unsupported(
            f"its {name} compression ({layout.compression}) of {max(layout.bits)}-bit samples"
            " is not supported"
        )
    if len(set(layout.formats)) > 1 or layout.formats[0] not in (UINT, INT, FLOAT, VOID):
        raise _unsupported(f"its samples are complex or mixed (SampleFormat {layout.formats[0]})")
    bits = set(layout.bits)
    whole = len(bits) == 1 and bits <= {8, 16, 32, 64}
    if layout.formats[0] == FLOAT and (not whole or bits == {8}):
        raise _unsupported(f"its samples are floats of {layout.bits[0]} bits")
    if layout.formats[0] == INT and not whole:
        raise _unsupported(f"its samples are signed, of {layout.bits[0]} bits")
    if layout.predictor not in (1, 2, 3) or (layout.predictor != 1 and not whole):
        raise _unsupported(
            f"its predictor {layout.predictor} of {layout.bits[0]}-bit samples is not supported"
        )
    if layout.planar and len(bits) > 1:
        raise _unsupported(f"its planes have different bits {layout.bits}")
    if layout.is_subsampled and (bits != {8} or layout.planar or layout.samples != 3):
        raise _unsupported("its colours are at a lower resolution, and not of 8 bits")


def _unsupported(what: str) -> ImageError:
    return ImageError("unsupported_format", f"it is a TIFF, and {what}; convert it to PNG or JPEG")
