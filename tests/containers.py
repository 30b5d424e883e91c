"""Archives and tables of seven images, as files."""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from run_material import colour_bytes

IMAGES = {f"{n % 3}/{n:03d}.png": colour_bytes(n) for n in range(7)}


def write_tar(path: Path, mode: str = "w", **options: Any) -> Path:
    with tarfile.open(path, mode, **options) as archive:
        for name, content in {**IMAGES, "labels.json": b"{}"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**IMAGES, "labels.json": b"{}"}.items():
            archive.writestr(name, content)
    return path


def write_parquet(path: Path, *, struct: bool = True, rows_of_group: int = 3, **more: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    images = list(IMAGES.values())
    if struct:
        column = [{"bytes": content, "path": name} for name, content in IMAGES.items()]
    else:
        column = images
    table = pa.table({"id": list(range(7)), "image": column, **more})
    pq.write_table(table, path, row_group_size=rows_of_group)
    return path
