"""What a file is, by its content alone."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from pictures import code_of
from toplabel.errors import ImageError
from toplabel.image.reading import read_image


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"\xc5\xd0\xd3\xc6" + bytes(30), "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1" + bytes(30), "PSD"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"\xd7\xcd\xc6\x9a" + bytes(30), "WMF"),
        (b"\1\0\0\0" + bytes(36) + b" EMF", "EMF"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG"),
        (b"<svg width='3'></svg>", "SVG"),
        (b"\0\0\1\0\1\0" + bytes(30), "ICO"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(9), "JPEG 2000"),
        (b"\xff\x0a" + bytes(9), "JPEG XL"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"\0\0\2" + bytes(9) + b"\1\0\1\0\x18\0" + bytes(9), "TGA"),
        (b"\x0a\5\1\x08" + bytes(60), "PCX"),
        (b"II\xbc\1" + bytes(30), "JPEG XR"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\4\0\4\1\1\x11\0" + bytes(30), "JPEG-LS"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(60), "CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
        (b"IIRO\x08\0\0\0" + bytes(30), "ORF"),
        (b"IIU\0\x18\0\0\0" + bytes(30), "RW2"),
        (b"\x59\xa6\x6a\x95" + bytes(30), "Sun raster"),
        (b"#define cat_width 8\n#define cat_height 1\n", "XBM"),
        (b"/* a cat */\n#define cat_width 8\n", "XBM"),
        (b"/* XPM */\nstatic char *x[] = {", "XPM"),
        (b"FORM\0\0\1\0ILBMBMHD" + bytes(30), "ILBM"),
        (b"\x8aMNG\r\n\x1a\n" + bytes(30), "MNG"),
        (b"\x8bJNG\r\n\x1a\n" + bytes(30), "JNG"),
        (b"#?RGBE\nFORMAT=32-bit_rle_rgbe\n", "Radiance HDR"),
        (b"FLIF31" + bytes(30), "FLIF"),
        (b"BPG\xfb" + bytes(30), "BPG"),
        (gzip.compress(b"<svg width='3'></svg>", mtime=0), "SVG"),
    ],
)
def test_other_image_formats_are_refused_by_name(content: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=name) as caught:
        read_image(content)
    assert caught.value.code == "unsupported_format"
    assert "convert it to PNG or JPEG" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"just words, with \xc3\xa9 in them\n" * 200, "text"),
        (b"PK\3\4" + bytes(30), "a zip archive"),
        (gzip.compress(b"just words", mtime=0), "a gzip archive"),
        (b"P1 is the first point of the list", "text"),
        (b"#define WIDTH 8 pixels", "text"),
        (b"\x93NUMPY" + bytes(30), "NumPy"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\0\0\0\x18ftypmp42" + bytes(30), "a video"),
        (b"RIFF\0\0\0\0WAVE", "a sound"),
        (b"\x07\x13\xfe" * 9, "no known format"),
    ],
)
def test_what_is_no_image_says_what_it_is(content: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=what) as caught:
        read_image(content)
    assert caught.value.code == "not_an_image"


def test_eps_starts_no_other_program(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    program = (
        "import sys\n"
        "def audit(event, arguments):\n"
        "    if event in ('subprocess.Popen', 'os.fork', 'os.posix_spawn', 'os.system'):\n"
        "        print('STARTED', event)\n"
        "sys.addaudithook(audit)\n"
        "from toplabel.image.reading import read_image\n"
        f"try: read_image({str(path)!r})\n"
        "except ValueError as error: print(error.code)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.split() == ["unsupported_format"]


def test_reads_heic_with_the_extra_and_names_it_without(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert code_of(head + bytes(40)) in ("corrupt", "truncated")
    program = (
        "import sys; sys.modules['pi_heif'] = None\n"
        "from toplabel.image.reading import read_image\n"
        "from toplabel.errors import ImageError\n"
        f"try: read_image({head!r} + bytes(40))\n"
        "except ImageError as error: print(error.code, error.message)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.startswith("unsupported_format")
    assert "pip install 'toplabel[heif]'" in answer.stdout
