"""Silent inputs: photos in; odd files made from them, and what each shows as a plain image, out.

python inputs.py FOLDER PHOTO...

Writes the files and prints a list of cases: each has a `case`, a `file`, and a `reference`: a plain
8-bit RGB PNG of the pixels that a person sees, or null where there is no image.
"""

import json
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ORIENTATION, QUARTER_LEFT = 0x0112, 6
HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body></body></html>\n"

Case = Callable[[Image.Image, Path], Image.Image | None]


def jpeg(photo: Image.Image, path: Path) -> Image.Image:
    """For comparison: nothing is odd."""
    photo.save(path, quality=95)
    return Image.open(path)


def rotated(photo: Image.Image, path: Path) -> Image.Image:
    """As a telephone held upright stores it: lying on its side, with a tag that says so."""
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_LEFT
    photo.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    return Image.open(path).transpose(Image.Transpose.ROTATE_270)


def rotated_webp(photo: Image.Image, path: Path) -> Image.Image:
    """The same as a WebP."""
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_LEFT
    photo.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, lossless=True)
    return photo


def grey_16_bit(photo: Image.Image, path: Path) -> Image.Image:
    """As microscopes and scanners write; 0 is black and 65,535 white."""
    grey = photo.convert("L")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path)
    return grey


def grey_float(photo: Image.Image, path: Path) -> Image.Image:
    """As numpy users write; 0 is black and 1 white."""
    grey = photo.convert("L")
    Image.fromarray(np.asarray(grey).astype(np.float32) / 255).save(path)
    return grey


def cut_out(photo: Image.Image, path: Path) -> Image.Image:
    """An ellipse on a transparent canvas that is black below, as background removers write."""
    canvas = Image.new("RGBA", photo.size)
    canvas.paste(photo, mask=_ellipse(photo))
    canvas.save(path)
    return _on_white(photo)


def cut_out_of_palette(photo: Image.Image, path: Path) -> Image.Image:
    """The same in 255 colours and a transparent one."""
    image = photo.quantize(255)
    colours = image.getpalette()[: 255 * 3]
    colours += [0] * (256 * 3 - len(colours))
    image.putpalette(colours)
    image.paste(255, mask=_ellipse(photo).point(lambda value: 255 - value))
    image.save(path, transparency=255)
    return _on_white(photo.quantize(255).convert("RGB"))


def cmyk(photo: Image.Image, path: Path) -> Image.Image:
    """As print shops have it, inverted, with Adobe's marker."""
    photo.convert("CMYK").save(path, quality=95)
    return Image.open(path).convert("RGB")


def ycck(photo: Image.Image, path: Path) -> Image.Image:
    """The same with its colours as luma and chroma, as Photoshop writes.

    Pillow writes no such file. It gets the luma and chroma of the inks for four plain channels
    (which it inverts), and the marker is told so afterwards: 2 is YCCK in Adobe's APP14.
    """
    inks = photo.convert("CMYK")
    luma = Image.merge("RGB", inks.split()[:3]).convert("YCbCr")
    bands = [band.point(lambda value: 255 - value) for band in luma.split()]
    Image.merge("CMYK", [*bands, inks.getchannel("K")]).save(path, quality=95)
    content = bytearray(path.read_bytes())
    content[content.index(b"Adobe") + 11] = 2
    path.write_bytes(content)
    seen = Image.open(path).convert("RGB")
    apart = np.abs(np.asarray(seen, np.int16) - np.asarray(photo, np.int16)).mean()
    assert apart < 4, f"the file shows another image: {apart:.1f} of 255 apart"
    return seen


def truncated(photo: Image.Image, path: Path) -> Image.Image:
    """A download that broke off after 60 %."""
    reference = jpeg(photo, path).convert("RGB")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    return reference


def damaged(photo: Image.Image, path: Path) -> Image.Image:
    """Whole in length; 64 bytes in the first third are zeros, as from a bad disk."""
    reference = jpeg(photo, path).convert("RGB")
    content = bytearray(path.read_bytes())
    at = len(content) // 3
    content[at : at + 64] = bytes(64)
    path.write_bytes(content)
    return reference


def noise(photo: Image.Image, path: Path) -> None:
    """Random bytes."""
    path.write_bytes(np.random.default_rng(photo.width).bytes(20_000))


def html(photo: Image.Image, path: Path) -> None:
    """What a web server answered instead."""
    path.write_bytes(HTML)


# TIFF as microscopes, scanners and numpy users write it, which Pillow cannot write


Page = dict[int, tuple[str, list[int]]]


def tiff(path: Path, *pages: tuple[Page, list[bytes]], order: str = "<") -> None:
    """A TIFF with these directories: tags to (type, values), and the strips."""
    content = bytearray((b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8))
    for number, (tags, strips) in enumerate(pages):
        counts = [len(strip) for strip in strips]
        tags = tags | {273: ("I", [0] * len(strips)), 279: ("I", counts)}
        lists = len(content) + 2 + 12 * len(tags) + 4
        data = lists + sum(
            struct.calcsize(f"{len(values)}{letter}") // 2 * 2
            for letter, values in tags.values()
            if struct.calcsize(f"{len(values)}{letter}") > 4
        )
        tags[273] = ("I", [data + sum(counts[:i]) for i in range(len(strips))])
        extra = bytearray()
        content += struct.pack(f"{order}H", len(tags))
        for tag, (letter, values) in sorted(tags.items()):
            packed = struct.pack(f"{order}{len(values)}{letter}", *values)
            where = packed.ljust(4, b"\0")
            if len(packed) > 4:
                where = struct.pack(f"{order}I", lists + len(extra))
                extra += packed
            content += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[letter], len(values))
            content += where
        end = data + sum(counts) + sum(counts) % 2
        content += struct.pack(f"{order}I", end if number + 1 < len(pages) else 0)
        content += extra + b"".join(strips)
        content += bytes(end - len(content))
    path.write_bytes(content)


def _page(
    pixels: np.ndarray, photometric: int, more: Page | None = None, *, apart: bool = False
) -> tuple[Page, list[bytes]]:
    """An uncompressed page of (H, W) or (H, W, bands); `apart` stores each band by itself."""
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    tags: Page = {
        256: ("I", [pixels.shape[1]]),
        257: ("I", [pixels.shape[0]]),
        258: ("H", [pixels.dtype.itemsize * 8] * bands),
        259: ("H", [1]),
        262: ("H", [photometric]),
        277: ("H", [bands]),
        278: ("I", [pixels.shape[0]]),
        284: ("H", [2 if apart else 1]),
    }
    strips = list(pixels.transpose(2, 0, 1)) if apart else [pixels]
    return tags | (more or {}), [strip.tobytes() for strip in strips]


def _words(photo: Image.Image) -> np.ndarray:
    return np.asarray(photo).astype(np.uint16) * 257


def planes(photo: Image.Image, path: Path) -> Image.Image:
    """16 bits, each colour stored apart."""
    tiff(path, _page(_words(photo), 2, apart=True))
    return photo


def white_is_zero(photo: Image.Image, path: Path) -> Image.Image:
    """16-bit grey whose 0 is white, as radiographs and faxes have it."""
    grey = photo.convert("L")
    tiff(path, _page(65535 - _words(grey), 0))
    return grey


def fax(photo: Image.Image, path: Path) -> Image.Image:
    """One bit, group 4, white is 0."""
    seen = photo.convert("1")
    seen.save(path, compression="group4")
    return seen


def big_endian(photo: Image.Image, path: Path) -> Image.Image:
    """16-bit grey of a Mac or a microscope."""
    grey = photo.convert("L")
    tiff(path, _page(_words(grey).astype(">u2"), 1), order=">")
    return grey


def rgb_48(photo: Image.Image, path: Path) -> Image.Image:
    """16 bits a colour, interleaved."""
    tiff(path, _page(_words(photo), 2))
    return photo


def twelve_bits(photo: Image.Image, path: Path) -> Image.Image:
    """12-bit samples in 16: 4,095 is white, which the file does not say."""
    grey = photo.convert("L")
    tiff(path, _page((_words(grey) >> 4).astype(np.uint16), 1))
    return grey


def signed(photo: Image.Image, path: Path) -> Image.Image:
    """int16 around 0, as numpy users and scanners of patients write."""
    grey = photo.convert("L")
    pixels = (_words(grey).astype(np.int32) - 32768).astype(np.int16)
    tiff(path, _page(pixels, 1, {339: ("H", [2])}))
    return grey


def palette_of_bytes(photo: Image.Image, path: Path) -> Image.Image:
    """A colour map whose entries go to 255, where the standard wants 65,535."""
    image = photo.quantize(256)
    colours = np.asarray(image.getpalette() or []).reshape(-1, 3)
    colours = np.vstack([colours, np.zeros((256 - len(colours), 3), int)])
    tiff(path, _page(np.asarray(image), 3, {320: ("H", colours.T.ravel().tolist())}))
    return image.convert("RGB")


def four_bands(photo: Image.Image, path: Path) -> Image.Image:
    """Red, green, blue and near infrared, as satellites have; the fourth is no transparency."""
    infrared = 255 - np.asarray(photo.convert("L"))
    pixels = np.dstack([np.asarray(photo), infrared])
    tiff(path, _page(pixels, 2, {338: ("H", [0])}))
    return photo


def float_rgb(photo: Image.Image, path: Path) -> Image.Image:
    """float32 from 0 to 1 in three colours."""
    pixels = np.asarray(photo).astype(np.float32) / 255
    tiff(path, _page(pixels, 2, {339: ("H", [3, 3, 3])}))
    return photo


def cmyk_tiff(photo: Image.Image, path: Path) -> Image.Image:
    """Inks, not inverted."""
    inks = photo.convert("CMYK")
    inks.save(path, compression="tiff_lzw")
    return inks.convert("RGB")


def thumbnail_first(photo: Image.Image, path: Path) -> Image.Image:
    """A reduced page, marked so, before the image itself."""
    small = np.asarray(photo.resize((24, 24)))
    tiff(path, _page(small, 2, {254: ("I", [1])}), _page(np.asarray(photo), 2, {254: ("I", [0])}))
    return photo


def first_of_pages(photo: Image.Image, path: Path) -> None:
    """Two pages: which is meant?"""
    other = photo.transpose(Image.Transpose.FLIP_TOP_BOTTOM).convert("L").convert("RGB")
    other.save(path, save_all=True, append_images=[photo])


def grey_with_key(photo: Image.Image, path: Path) -> Image.Image:
    """A grey PNG of which one value is transparent, and that is the background."""
    grey = np.asarray(photo.convert("L")).clip(1)
    inside = np.asarray(_ellipse(photo)) > 0
    pixels = np.where(inside, grey, 0).astype(np.uint8)
    Image.fromarray(pixels).save(path, transparency=0)
    return Image.fromarray(np.where(inside, grey, 255).astype(np.uint8))


def hidden_colours(photo: Image.Image, path: Path) -> Image.Image:
    """Transparent parts whose hidden colours are another picture."""
    hidden = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert("L").convert("RGB")
    canvas = hidden.convert("RGBA")
    canvas.putalpha(0)
    canvas.paste(photo, mask=_ellipse(photo))
    canvas.save(path)
    return _on_white(photo)


def interlaced(photo: Image.Image, path: Path) -> Image.Image:
    """Adam7, which Pillow reads and does not write."""
    pixels = np.asarray(photo)
    raw = bytearray()
    for x, y, dx, dy in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):  # fmt: skip
        for row in pixels[y::dy, x::dx]:
            raw += b"\0" + row.tobytes()
    header = struct.pack(">IIBBBBB", photo.width, photo.height, 8, 2, 0, 0, 1)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(raw))), (b"IEND", b"")):
        checksum = zlib.crc32(name + data)
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
    path.write_bytes(content)
    return photo


def frame_within(photo: Image.Image, path: Path) -> Image.Image:
    """A GIF whose only frame does not cover the canvas: the rest is transparent."""
    image = photo.resize((photo.width // 2, photo.height // 2)).quantize(255)
    image.save(path)
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", photo.width, photo.height)
    at = content.index(b"\x2c" + struct.pack("<HHHH", 0, 0, *image.size))
    left, top = photo.width // 4, photo.height // 4
    content[at + 1 : at + 5] = struct.pack("<HH", left, top)
    path.write_bytes(content)
    seen = Image.new("RGB", photo.size, (255, 255, 255))
    seen.paste(image.convert("RGB"), (left, top))
    return seen


def padded_bmp(photo: Image.Image, path: Path) -> Image.Image:
    """32 bits a pixel, the fourth byte unused and 0, as Windows writes it."""
    pixels = np.zeros((photo.height, photo.width, 4), np.uint8)
    pixels[..., :3] = np.asarray(photo)[::-1, :, ::-1]
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack(
        "<IiiHHIIiiII", 108, photo.width, photo.height, 1, 32, 3, pixels.nbytes, 0, 0, 0, 0
    )
    info += masks + b"BGRs" + bytes(36 + 12)
    head = b"BM" + struct.pack("<IHHI", 14 + len(info) + pixels.nbytes, 0, 0, 14 + len(info))
    path.write_bytes(head + info + pixels.tobytes())
    return photo


def rgb_jpeg(photo: Image.Image, path: Path) -> Image.Image:
    """Not converted to luma and chroma; Adobe's marker says so."""
    photo.save(path, quality=95, keep_rgb=True)
    return Image.open(path)


def jpeg_2000(photo: Image.Image, path: Path) -> Image.Image:
    """Luma and chroma, said by its colour box."""
    photo.convert("YCbCr").save(path)
    return photo


def without_end(photo: Image.Image, path: Path) -> Image.Image:
    """A JPEG whose last marker is missing: every viewer shows it whole."""
    seen = jpeg(photo, path).convert("RGB")
    path.write_bytes(path.read_bytes()[:-2])
    return seen


def two_in_one(photo: Image.Image, path: Path) -> Image.Image:
    """A camera's file of two images; the first is the photo."""
    small = photo.resize((32, 32)).transpose(Image.Transpose.ROTATE_90)
    photo.save(path, format="MPO", save_all=True, append_images=[small], quality=95)
    return Image.open(path).convert("RGB")


def turned_avif(photo: Image.Image, path: Path) -> Image.Image:
    """Turned by the file's own property."""
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_LEFT
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    turned.save(path, quality=95)
    seen = Image.open(path).convert("RGB").transpose(Image.Transpose.ROTATE_270)
    turned.save(path, exif=exif, quality=95)
    return seen


CASES: tuple[tuple[str, str, Case], ...] = (
    ("plain JPEG, for comparison", "jpg", jpeg),
    ("JPEG on its side (EXIF)", "jpg", rotated),
    ("PNG on its side (EXIF)", "png", rotated),
    ("WebP on its side (EXIF)", "webp", rotated_webp),
    ("16-bit grey PNG", "png", grey_16_bit),
    ("float grey TIFF, 0 to 1", "tif", grey_float),
    ("transparent PNG (RGBA)", "png", cut_out),
    ("transparent PNG (palette)", "png", cut_out_of_palette),
    ("CMYK JPEG (Adobe)", "jpg", cmyk),
    ("YCCK JPEG (Adobe)", "jpg", ycck),
    ("truncated JPEG", "jpg", truncated),
    ("damaged JPEG", "jpg", damaged),
    ("random bytes called .jpg", "jpg", noise),
    ("HTML page called .jpg", "jpg", html),
    ("TIFF of 16 bits in planes", "tif", planes),
    ("TIFF of 16 bits, white is 0", "tif", white_is_zero),
    ("fax, white is 0", "tif", fax),
    ("TIFF of 16 bits, big-endian", "tif", big_endian),
    ("TIFF of 48 bits", "tif", rgb_48),
    ("TIFF of 12 bits in 16", "tif", twelve_bits),
    ("TIFF of signed 16 bits", "tif", signed),
    ("TIFF palette that ends at 255", "tif", palette_of_bytes),
    ("TIFF with an infrared band", "tif", four_bands),
    ("float RGB TIFF, 0 to 1", "tif", float_rgb),
    ("CMYK TIFF", "tif", cmyk_tiff),
    ("thumbnail before the image", "tif", thumbnail_first),
    ("two pages", "tif", first_of_pages),
    ("grey PNG with a transparent value", "png", grey_with_key),
    ("hidden colours under transparency", "png", hidden_colours),
    ("interlaced PNG", "png", interlaced),
    ("GIF frame within its canvas", "gif", frame_within),
    ("BMP of 32 bits, all alpha 0", "bmp", padded_bmp),
    ("RGB JPEG", "jpg", rgb_jpeg),
    ("JPEG 2000 in YCbCr", "jp2", jpeg_2000),
    ("JPEG without its last marker", "jpg", without_end),
    ("two images in a JPEG", "jpg", two_in_one),
    ("AVIF on its side", "avif", turned_avif),
)


def write(folder: Path, photos: list[Path]) -> Iterator[dict[str, str | None]]:
    """Write the files of all cases."""
    for number, (name, ending, make) in enumerate(CASES):
        for photo in photos:
            path = folder / f"{number:02d}-{photo.stem}.{ending}"
            seen = make(Image.open(photo).convert("RGB"), path)
            reference = None if seen is None else path.with_name(f"{path.stem}-seen.png")
            if seen is not None:
                seen.convert("RGB").save(reference)
            yield {"case": name, "file": str(path), "reference": reference and str(reference)}


def _ellipse(photo: Image.Image) -> Image.Image:
    mask = Image.new("L", photo.size)
    width, height = photo.size
    ImageDraw.Draw(mask).ellipse((0, 0, width - 1, height - 1), fill=255)
    return mask


def _on_white(photo: Image.Image) -> Image.Image:
    white = Image.new("RGB", photo.size, (255, 255, 255))
    white.paste(photo, mask=_ellipse(photo))
    return white


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(json.dumps(list(write(target, [Path(photo) for photo in sys.argv[2:]]))))
