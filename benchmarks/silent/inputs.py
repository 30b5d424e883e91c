"""Silent inputs: photos in; odd files made from them, and what each shows as a plain image, out.

python inputs.py FOLDER PHOTO...

Writes the files and prints a list of cases: each has a `case`, a `file`, and a `reference`: a plain
8-bit RGB PNG of the pixels that a person sees, or null where there is no image.
"""

import json
import sys
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
