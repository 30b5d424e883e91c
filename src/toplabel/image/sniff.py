"""Sniff: the first bytes of a file in, its format out, whatever the file is called."""

from __future__ import annotations

import re

from toplabel.errors import ImageError

HEAD_BYTES = 4096
"""How much of a file `sniff` wants to see."""

ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, PPM (and HEIC with toplabel[heif])"

_SUPPORTED: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%!PS", "PostScript (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"%PDF-", "PDF"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\xd7\xcd\xc6\x9a", "Windows metafile (WMF)"),
    (0, b"\x01\x00\x09\x00\x00\x03", "Windows metafile (WMF)"),
    (40, b" EMF", "Windows metafile (EMF)"),
    (0, b"\0\0\1\0", "Windows icon (ICO)"),
    (0, b"\0\0\2\0\1", "Windows cursor (CUR)"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"icns", "Apple icon (ICNS)"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"\x01\xda", "SGI"),
    (0, b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (128, b"DICM", "DICOM"),
)
_NO_IMAGE: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a NumPy array file; load it and pass the array"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"RIFF", "a sound or video file"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def sniff(head: bytes) -> str:
    """The format of a file that starts with `head`.

    Returns:
        One of JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIF, PPM.

    Raises:
        ImageError: `empty`, `unsupported_format` with the format's name, or `not_an_image`.
    """
    if not head:
        raise ImageError("empty", "it is empty; expected an image")
    found = _supported(head)
    if found is None:
        raise _refusal(head)
    return found


def _supported(head: bytes) -> str | None:
    for magic, name in _SUPPORTED:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if re.match(rb"P[456][\s#]", head):
        return "PPM"
    if head[4:8] == b"ftyp":
        return _iso_brand(head)
    return None


def _iso_brand(head: bytes) -> str | None:
    """AVIF or HEIF, by the brands in its first box."""
    length = max(16, min(int.from_bytes(head[:4], "big"), len(head)))
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, length, 4)}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


def _refusal(head: bytes) -> ImageError:
    """Why a file is not accepted, as exactly as its first bytes allow."""
    for offset, magic, name in _REFUSED:
        if head.startswith(magic, offset):
            return unsupported(name)
    if _looks_like_svg(head):
        return unsupported("SVG")
    if _looks_like_tga(head):
        return unsupported("Targa (TGA)")
    if head[4:8] == b"ftyp":
        return _not_an_image("a video or sound file")
    for magic, what in _NO_IMAGE:
        if head.startswith(magic):
            return _not_an_image(what)
    return _not_an_image(_text_kind(head) or "in no known format")


def unsupported(name: str) -> ImageError:
    """An image format that is known and not supported."""
    return ImageError(
        "unsupported_format", f"it is {name}; supported are {ACCEPTED}; convert it to PNG or JPEG"
    )


def _not_an_image(what: str) -> ImageError:
    return ImageError("not_an_image", f"it is {what}; supported are {ACCEPTED}")


def _looks_like_svg(head: bytes) -> bool:
    return re.match(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml|<!--|<!doctype svg|<svg)", head, re.I) is not (
        None
    ) and (b"<svg" in head.lower())


def _looks_like_tga(head: bytes) -> bool:
    """TGA has no magic number; these fields of its header have few values."""
    return (
        len(head) > 18
        and head[1] in (0, 1)
        and head[2] in (1, 2, 3, 9, 10, 11)
        and head[16] in (8, 15, 16, 24, 32)
        and (head[1] == 1) == (head[7] != 0)
    )


def _text_kind(head: bytes) -> str | None:
    """What text this is; None where there are bytes that text does not have."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # else only the last character is cut in two
            return None
        text = head[: error.start].decode("utf-8")
    if any(ord(character) < 32 and character not in "\t\n\r\f" for character in text):
        return None
    lowered = text.lower()
    return "a web page" if "<html" in lowered or "<!doctype html" in lowered else "text"
