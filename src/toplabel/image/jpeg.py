"""JPEG: bytes in, upright RGB out, by simplejpeg; Pillow takes what simplejpeg does not."""

from __future__ import annotations

import re
from dataclasses import dataclass

import simplejpeg

from toplabel.errors import ImageError
from toplabel.image.decoded_image import (
    USUAL_BYTES,
    DecodedImage,
    Pixels,
    ResizedSize,
    check_pixels,
    exif_orientation,
    is_sideways,
    turn,
    upright,
)
from toplabel.image.failures import cut_short, from_decoder
from toplabel.image.files import unsupported
from toplabel.image.options import ReadOptions

_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_END = b"\xff\xd9"
_NO_FILL = re.compile(rb"[^\xff]")
_MOST_SEGMENTS = 1 << 16
_MOST_FILL = 1 << 20
_LS_BYTES = 1 << 16  # within which a JPEG-LS has its frame, which others do not have
_MAX_SCAN_PIXELS = 2_000_000_000  # at 1.2 ns, twice where Pillow tries again


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What stands in a JPEG before its first scan.

    `height` and `width` as stored. `samples` is their number for each pixel: 3 in full colour,
    1.5 where colours are stored at half the resolution. `scan_start` is where
    the first scan begins, or 0 where the bytes end before it; `fill` counts bytes that only fill.
    """

    height: int
    width: int
    components: int
    samples: float
    precision: int
    progressive: bool
    orientation: int
    has_profile: bool
    scan_start: int
    fill: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        size = self.height, self.width
        return size[::-1] if is_sideways(self.orientation) else size

    @property
    def decoded_at_once(self) -> bool:
        """Whether simplejpeg decodes it; Pillow inverts the inks of CMYK and YCCK."""
        return self.components in (1, 3) and self.precision == 8


def read_header(data: bytes) -> JpegHeader | None:
    """The header, or None where `data` ends before the frame's size.

    Raises:
        ImageError: `corrupt`, it has more segments than any camera or editor writes.
    """
    frame: tuple[int, bytes] | None = None
    orientation, has_profile, scan_start = 1, False, 0
    seen_exif, fill = False, 0
    position, left = 2, _MOST_SEGMENTS
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        left -= 1
        if left < 0:
            raise ImageError(
                "corrupt", f"the JPEG's header has more than {_MOST_SEGMENTS:,} segments"
            )
        if marker == 0xFF:  # bytes that fill, any number of them
            filled = _NO_FILL.search(data, position)
            end = len(data) if filled is None else filled.start() - 1
            fill += end - position
            position = end
            continue
        if marker == 0 or marker == 1 or 0xD0 <= marker <= 0xD8:
            position += 2
            continue
        if marker in (0xD9, 0xDA):
            scan_start = position if marker == 0xDA else 0
            break
        start = position + 4
        position += 2 + max(2, data[position + 2] << 8 | data[position + 3])
        if marker in _FRAMES and frame is None and position <= len(data):
            frame = marker, data[start:position]
        elif marker == 0xE1 and not seen_exif and data.startswith(b"Exif\0\0", start):
            orientation, seen_exif = exif_orientation(data[start:position]), True
        elif marker == 0xE2 and data.startswith(b"ICC_PROFILE\0", start):
            has_profile = True
    if frame is None or len(frame[1]) < 6:
        return None
    marker, body = frame
    return JpegHeader(
        height=body[1] << 8 | body[2],
        width=body[3] << 8 | body[4],
        components=body[5],
        samples=_samples(body),
        precision=body[0],
        progressive=marker in _PROGRESSIVE,
        orientation=orientation,
        has_profile=has_profile,
        scan_start=scan_start,
        fill=fill,
    )


def _samples(frame: bytes) -> float:
    """Samples for each pixel, by the sampling factors of the components."""
    factors = [(factor >> 4, factor & 15) for factor in frame[7 : 6 + 3 * frame[5] : 3]]
    densest = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
    return sum(h * v for h, v in factors) / densest if densest else 1.0


def decode_jpeg(
    data: bytes, *, options: ReadOptions, resized_size: ResizedSize | None = None
) -> DecodedImage:
    """The image in a JPEG file.

    Raises:
        ImageError: It is too large, truncated, corrupt, or of a kind that cannot be decoded.
    """
    header = read_header(data)
    if header is None:
        if b"\xff\xf7" in data[:_LS_BYTES]:
            raise unsupported("JPEG-LS")
        if b"\xff\xd9" in data[-64:] or b"\xff\xda" in data:
            raise from_decoder(ValueError("no frame"), format_name="JPEG")
        raise cut_short("JPEG")
    _check(header, data, max_pixels=options.max_pixels)
    if not header.decoded_at_once or (options.srgb and header.has_profile):
        return _by_pillow(data, header, options=options)
    scale = 1 if resized_size is None else _scale(header, resized_size)
    try:
        pixels = _by_simplejpeg(data, header, scale=scale, strict=True)
    except MemoryError as error:
        raise from_decoder(error, format_name="JPEG") from error
    except Exception as error:
        if "Premature end" in str(error):
            if (whole := _without_end_mark(data, header, scale)) is not None:
                return whole
            if options.allow_truncated:
                return _part(data, header)
        # Pillow decides whether the complaint is a failure or a warning.
        return _by_pillow(data, header, options=options, complaint=str(error))
    return _image(pixels, header, scale=scale)


def _check(header: JpegHeader, data: bytes, *, max_pixels: int) -> None:
    """Refuse what has no pixels, and bombs: too many, or many passes over them."""
    if not header.height or not header.width:
        size = f"{header.width} x {header.height}"
        raise from_decoder(ValueError(f"its header gives a size of {size}"), format_name="JPEG")
    # All coefficients of a progressive JPEG are in memory at once, two bytes each.
    needed = 2 * header.samples + 4 if header.progressive else USUAL_BYTES
    check_pixels(header.height, header.width, max_pixels=max_pixels, bytes_per_pixel=needed)
    if not header.progressive or not header.scan_start:
        return
    scans = data.count(b"\xff\xda", header.scan_start)
    if scans > 20 and scans * header.height * header.width > _MAX_SCAN_PIXELS:
        raise ImageError(
            "too_large",
            f"the progressive JPEG has {scans} scans of {header.width} x {header.height} pixels;"
            f" the limit is {_MAX_SCAN_PIXELS:,} pixels in all; save it again",
        )


def _scale(header: JpegHeader, resized_size: ResizedSize) -> int:
    """The largest of 8, 4, 2 that leaves twice the resized size on both sides; else 1.

    An image that has to be turned must be divisible by it: a part of a pixel at the right or
    below, where the resize expects it, would come to lie at the left or above.
    """
    height, width = header.upright_size
    resized_height, resized_width = resized_size(height, width)
    for scale in (8, 4, 2):
        if header.orientation != 1 and (height % scale or width % scale):
            continue
        if -(-height // scale) >= 2 * resized_height and -(-width // scale) >= 2 * resized_width:
            return scale
    return 1


def _by_simplejpeg(data: bytes, header: JpegHeader, *, scale: int, strict: bool) -> Pixels:
    """Pixels as stored, at exactly 1 / `scale`: other fractions have no SIMD code."""
    height, width = -(-header.height // scale), -(-header.width // scale)
    # A progressive JPEG takes as much memory at any scale.
    pixels = header.height * header.width if header.progressive else height * width
    with turn(pixels):
        if scale == 1:
            decoded: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=strict)
            return decoded
        decoded = simplejpeg.decode_jpeg(
            data, "RGB", min_height=height, min_width=width, min_factor=scale, strict=strict
        )
    if decoded.shape != (height, width, 3):  # only images of a few pixels
        raise ValueError(f"decoded at {decoded.shape[1]} x {decoded.shape[0]}")
    return decoded


def _image(
    pixels: Pixels, header: JpegHeader, *, scale: int = 1, warnings: tuple[str, ...] = ()
) -> DecodedImage:
    if header.orientation != 1:
        pixels = upright(pixels, header.orientation)
    return DecodedImage(pixels, *header.upright_size, scale, warnings)


def _without_end_mark(data: bytes, header: JpegHeader, scale: int) -> DecodedImage | None:
    """The image of a file that lacks its last two bytes and no others, as some cameras write it."""
    if data.endswith(_END):
        return None
    try:
        pixels = _by_simplejpeg(data + _END, header, scale=scale, strict=True)
    except Exception:
        return None
    return _image(pixels, header, scale=scale, warnings=("the JPEG has no end mark",))


def _part(data: bytes, header: JpegHeader) -> DecodedImage:
    """What can be read of a JPEG that ends early; the rest is grey."""
    try:
        pixels = _by_simplejpeg(data, header, scale=1, strict=False)
    except Exception as error:
        raise from_decoder(error, format_name="JPEG") from error
    return _image(pixels, header, warnings=("the JPEG data ends early; the rest is missing",))


def _by_pillow(
    data: bytes, header: JpegHeader, *, options: ReadOptions, complaint: str = ""
) -> DecodedImage:
    if header.fill > _MOST_FILL:  # which Pillow reads one by one
        raise ImageError("corrupt", f"the JPEG has {header.fill:,} bytes that only fill")
    # Pillow costs 30 ms to import, and ordinary photos do not need it.
    from toplabel.image.decode import decode_stored

    pixels, warnings = decode_stored(data, "JPEG", options=options)
    if complaint and not complaint.startswith("tj"):  # that is what turbojpeg cannot do
        warnings = (f"the JPEG data may be damaged ({complaint})", *warnings)
    return _image(pixels, header, warnings=warnings)
