"""Files: a path, file object, URL or standard input in, bytes or an open file out; its format."""

from __future__ import annotations

import os
import re
import stat
import sys
from typing import Any, BinaryIO

from toplabel.errors import ImageError
from toplabel.image.failures import from_system, is_damage

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe; use - to read standard input"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

HEAD_BYTES = 4096
"""How much of a file `sniff` wants to see."""

ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, PPM (and HEIC with toplabel[heif])"
"""For messages; PPM stands for all of Netpbm: PBM, PGM, PPM, PAM and PFM."""

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
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"icns", "Apple icon (ICNS)"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"\x01\xda", "SGI"),
    (0, b"FUJIFILMCCD-RAW", "camera raw (Fujifilm RAF)"),
    (8, b"CR\x02", "camera raw (Canon CR2)"),
    (6, b"HEAPCCDR", "camera raw (Canon CRW)"),
    (4, b"ftypcrx ", "camera raw (Canon CR3)"),
    (0, b"IIU\0", "camera raw (Panasonic RW2)"),
    (0, b"IIRO", "camera raw (Olympus ORF)"),
    (0, b"IIRS", "camera raw (Olympus ORF)"),
    (0, b"MMOR", "camera raw (Olympus ORF)"),
    (0, b"\0MRM", "camera raw (Minolta MRW)"),
    (0, b"FOVb", "camera raw (Sigma X3F)"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"\0\0\0\x0cjXS ", "JPEG XS"),
    (0, b"\xff\x10\xff\x50", "JPEG XS"),
    (0, b"\x97JB2\r\n\x1a\n", "JBIG2"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG"),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG"),
    (0, b"FLIF", "FLIF"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"/* XPM */", "X pixmap (XPM)"),
    (0, b"! XPM2", "X pixmap (XPM)"),
    (0, b"id=ImageMagick", "ImageMagick's MIFF"),
    (0, b"farbfeld", "farbfeld"),
    (0, b"SDPX", "DPX"),
    (0, b"XPDS", "DPX"),
    (0, b"\x80\x2a\x5f\xd7", "Cineon"),
    (0, b"\xabKTX ", "a KTX texture"),
    (0, b"\x13\xab\xa1\x5c", "an ASTC texture"),
    (0, b"VTF\0", "a Valve texture (VTF)"),
    (0, b"BLP1", "a Blizzard texture (BLP)"),
    (0, b"BLP2", "a Blizzard texture (BLP)"),
    (0, b"Paint Shop Pro Image File", "Paint Shop Pro (PSP)"),
    (0, b"NRRD000", "NRRD"),
    (344, b"n+1\0", "NIfTI"),
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
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


def open_file(path: str, *, max_bytes: int) -> BinaryIO:
    """A regular file, open for reading; never waits for a pipe or a device.

    Raises:
        ImageError: `not_found`, `not_a_file`, `permission_denied`, `too_large`.
    """
    try:
        _check(os.stat(path), path, max_bytes=max_bytes)  # before opening: it may rewind a tape
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except ImageError:
        raise
    except OSError as error:
        raise from_system(error) from error
    except ValueError as error:  # a NUL, or a surrogate that stands for no byte
        raise ImageError("not_found", f"no file can have this name ({error})") from error
    try:
        _check(os.fstat(descriptor), path, max_bytes=max_bytes)  # it may have been replaced
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(status: os.stat_result, path: str, *, max_bytes: int) -> None:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
                raise ImageError("permission_denied", "this user may not read the folder")
            raise ImageError("not_a_file", f"it is {name}; expected an image file")
    check_bytes(status.st_size, max_bytes=max_bytes)


def check_bytes(size_bytes: int, *, max_bytes: int) -> None:
    """Refuse what is larger than the limit.

    Raises:
        ImageError: `too_large`.
    """
    if size_bytes > max_bytes:
        raise ImageError(
            "too_large",
            f"it has more than {max_bytes:,} bytes (max_bytes); make it smaller or raise the limit",
        )


class UnknownSource(TypeError):
    """A source of a kind that is not accepted; the text lists those that are."""


def read_stream(stream: Any, *, max_bytes: int, head_bytes: int | None = None) -> bytes:
    """All bytes of a binary file object from where it stands; all of it where that is its end.

    Args:
        stream: May say by `stored_bytes` how many it will give.
        max_bytes: More are refused.
        head_bytes: Only so many of its first.

    Raises:
        ImageError: `too_large`, or what reading failed with.
        UnknownSource: It gives something else than bytes.
    """
    try:
        check_bytes(getattr(stream, "stored_bytes", 0), max_bytes=max_bytes)  # before it is read
        content = stream.read(max_bytes + 1 if head_bytes is None else head_bytes)
        if not content and _rewind(stream):
            content = stream.read(max_bytes + 1)
    except ImageError:
        raise
    except OSError as error:
        raise from_system(error) from error
    except ValueError as error:
        raise ImageError("not_found", f"the file object cannot be read ({error})") from error
    except EOFError as error:
        raise ImageError("truncated", f"the file object ends early ({error})") from error
    except Exception as error:
        if not is_damage(error):
            raise  # of its own making
        raise ImageError("corrupt", f"its compressed bytes are damaged ({error})") from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise UnknownSource(
            f"got a file object that reads {type(content).__name__}; expected a binary one,"
            ' as open(path, "rb") gives'
        )
    check_bytes(len(content), max_bytes=max_bytes)
    return bytes(content)


def _rewind(stream: Any) -> bool:
    """Back to the start, where something was written and the position is still behind it."""
    try:
        if not stream.seekable() or stream.tell() == 0:
            return False
        stream.seek(0)
    except (AttributeError, OSError, ValueError):
        return False
    return True


def read_standard_input(*, max_bytes: int) -> bytes:
    """All of standard input.

    Raises:
        ImageError: `not_found` where there is none; `too_large`.
    """
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise ImageError("not_found", "this process has no standard input")
    return read_stream(stream, max_bytes=max_bytes)


def is_url(text: str) -> bool:
    """Whether this names something to fetch: http or https."""
    return text[:8].lower().startswith(("http://", "https://"))


def is_data_uri(text: str) -> bool:
    """Whether this is the content of a file itself: data:image/png;base64,..."""
    return text[:5].lower() == "data:"


def read_data_uri(uri: str, *, max_bytes: int) -> bytes:
    """The content that a data URI holds: base64 in either alphabet, or percent-encoded.

    Raises:
        ImageError: `not_an_image` where it is damaged; `too_large`.
    """
    import base64
    from urllib.parse import unquote_to_bytes

    kind, comma, text = uri[5:].partition(",")
    check_bytes(len(text) * 3 // 4 if "base64" in kind.lower() else 0, max_bytes=max_bytes)
    content = unquote_to_bytes(text)
    try:
        if not comma:
            raise ValueError("it has no comma before its content")
        if kind.lower().endswith(";base64"):
            content = b"".join(content.split()).rstrip(b"=").translate(_STANDARD_ALPHABET)
            content = base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
    except ValueError as error:
        raise ImageError(
            "not_an_image", f"the data URI is damaged ({error}); expected data:image/png;base64,..."
        ) from error
    check_bytes(len(content), max_bytes=max_bytes)
    return content


def is_bare_base64(text: str) -> bool:
    """Whether this is an image in base64, without the beginning of a data URI."""
    if len(text) < 64 or re.fullmatch(r"[A-Za-z0-9+/_\s-]{64,}={0,2}\s*", text) is None:
        return False
    import base64

    start = text[:40].encode().translate(_STANDARD_ALPHABET)
    return _supported(base64.b64decode(start)) is not None


def fetch(url: str, *, timeout_seconds: float, max_bytes: int) -> bytes:
    """The body that a URL answers with; redirects are followed.

    Args:
        url: http or https.
        timeout_seconds: From now to the last byte, redirects and all.
        max_bytes: Largest body.

    Raises:
        ImageError: `timeout`, `too_large`, or `fetch_failed` with the status or the reason.
    """
    # It costs 60 ms to import, and only URLs need it.
    from toplabel._internal.http import FetchOptions, HttpError, get

    options = FetchOptions(
        timeout_seconds=timeout_seconds,
        stall_seconds=timeout_seconds,
        max_bytes=max_bytes,
        accept="image/*",
    )
    try:
        return get(url, options)
    except HttpError as error:
        if error.problem == "too_large":
            check_bytes(max_bytes + 1, max_bytes=max_bytes)
        if error.problem == "timeout":
            message = f"the URL took longer than {timeout_seconds:g} seconds (timeout_seconds)"
            raise ImageError("timeout", message) from error
        message = str(error) if error.problem == "status" else f"cannot fetch the URL: {error}"
        raise ImageError("fetch_failed", message) from error


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
    if head.startswith(b"CR\x02", 8):  # a TIFF in which only the preview is an image
        return None
    for magic, name in _SUPPORTED:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P":
        from toplabel.image.netpbm import begins_netpbm  # only for what begins so

        if begins_netpbm(head):
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
    if (found := _by_fields(head)) is not None:
        return unsupported(found)
    if head[4:8] == b"ftyp":
        return _not_an_image("a video or sound file")
    for magic, what in _NO_IMAGE:
        if head.startswith(magic):
            return _not_an_image(what)
    from toplabel._internal.mistaken import mistaken_for  # only where something is wrong already

    if (other := mistaken_for(head)) is not None:
        return ImageError("not_an_image", f"it is {other}")
    return _not_an_image("text" if _is_text(head) else "in no known format")


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


def _by_fields(head: bytes) -> str | None:
    """The format of a file whose magic is short or none, by the few values of other fields."""
    if head[:4] in (b"FORM", b"CAT ") and head[8:12] in (b"ILBM", b"PBM ", b"ACBM", b"RGBN"):
        return "Amiga IFF (ILBM)"
    if re.match(rb"(?:\s|/\*.*?\*/)*#define\s+\w*_?width\s+\d", head, re.S):
        return "X bitmap (XBM)"
    if head[:3] == b"\x1f\x8b\x08":
        return "SVG (SVGZ)" if _looks_like_svg(_gunzipped(head)) else None
    if len(head) > 4 and head[0] == 10 and head[1] < 6 and head[2] == 1 and head[3] in (1, 2, 4, 8):
        return "PCX"
    looks_like_tga = (
        len(head) > 18
        and head[1] in (0, 1)
        and head[2] in (1, 2, 3, 9, 10, 11)
        and head[16] in (8, 15, 16, 24, 32)
        and (head[1] == 1) == (head[7] != 0)
    )
    return "Targa (TGA)" if looks_like_tga else None


def _gunzipped(head: bytes) -> bytes:
    import zlib

    try:
        return zlib.decompressobj(31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def _is_text(head: bytes) -> bool:
    """Whether there are no bytes that text does not have."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # else only the last character is cut in two
            return False
        text = head[: error.start].decode("utf-8")
    return all(ord(character) >= 32 or character in "\t\n\r\f" for character in text)
