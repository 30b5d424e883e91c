"""Values of large pages: those that Arrow gives, without the page in memory."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from toplabel.errors import ImageError
from toplabel.runs.readers import parquet
from toplabel.runs.readers.inputs import ArchiveMember, list_entries

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def read_all(path: Path) -> list[bytes | str]:
    """What is read of each row; its code where it cannot be."""
    found: list[bytes | str] = []
    for entry in list_entries([str(path)]):
        try:
            found.append(ArchiveMember(entry).read())
        except ImageError as error:
            found.append(error.code)
    return found


@pytest.fixture(autouse=True)
def walk(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Walk every page, however small; what was walked."""
    walked: list[Any] = []
    really = parquet._column_values

    def column_values(*arguments: Any) -> Any:
        walked.append(really(*arguments))
        return walked[-1]

    monkeypatch.setattr(parquet, "_WALKED_BYTES", -1)
    monkeypatch.setattr(parquet, "_column_values", column_values)
    for cached in (parquet._window, parquet._table):
        cached.cache_clear()
    return walked


def values(count: int, *, seed: int, nulls: bool, most: int = 3000) -> list[bytes | None]:
    """Random bytes of any length, some of them again and again, some none."""
    chance = np.random.default_rng(seed)
    made = [chance.bytes(int(chance.integers(0, most))) for _ in range(max(1, count // 2))]
    picked = [made[int(chance.integers(len(made)))] for _ in range(count)]
    return [None if nulls and chance.random() < 0.3 else one for one in picked]


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "brotli"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_values_are_those_of_arrow_whatever_the_writer_chose(
    tmp_path: Path, walk: list[Any], codec: str, dictionary: bool, version: str
) -> None:
    for number, nulls in enumerate((False, True)):
        rows = values(400, seed=number, nulls=nulls)
        path = tmp_path / f"{number}.parquet"
        pq.write_table(
            pa.table({"image": pa.array(rows, pa.binary())}),
            path,
            compression=codec,
            use_dictionary=dictionary,
            data_page_version=version,
            data_page_size=50_000,
            write_batch_size=7,
            row_group_size=250,
            write_page_checksum=True,
        )
        wanted = ["empty" if row is None else row for row in rows]
        assert read_all(path) == wanted
        assert len(walk) == 2 * (number + 1)
        assert all(walk)
        backwards = [ArchiveMember(entry) for entry in reversed(list(list_entries([str(path)])))]
        found = [member.read(9) for member in backwards if rows[int(member.name.split("#")[1])]]
        assert found == [row[:9] for row in reversed(rows) if row]


def test_structs_and_paths_are_those_of_arrow(tmp_path: Path, walk: list[Any]) -> None:
    (tmp_path / "there.png").write_bytes(b"of the file")
    rows = [
        {"bytes": b"one", "path": "a.png"},
        {"bytes": None, "path": str(tmp_path / "there.png")},
        None,
        {"bytes": b"", "path": None},
        {"bytes": b"five", "path": "b.png"},
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "a.parquet")
    assert read_all(tmp_path / "a.parquet") == [b"one", b"of the file", "empty", b"", b"five"]
    assert all(walk)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), codec=st.sampled_from(["none", "snappy", "gzip", "zstd"]))
def test_damaged_pages_are_errors_and_nothing_worse(
    seed: int, codec: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = np.random.default_rng(seed)
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    rows = values(40, seed=seed % 7, nulls=True, most=300)
    pq.write_table(pa.table({"image": pa.array(rows, pa.binary())}), path, compression=codec)
    content = bytearray(path.read_bytes())
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for _ in range(int(chance.integers(1, 5))):  # in the pages, not in the footer
        content[int(chance.integers(4, end))] = int(chance.integers(256))
    path.write_bytes(content)
    for value in read_all(path):
        assert isinstance(value, bytes) or value in ("corrupt", "empty", "too_large", "truncated")


def test_a_page_of_many_photos_is_never_in_memory(tmp_path: Path) -> None:
    photos = [np.random.default_rng(number).bytes(300_000) for number in range(200)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": photos}), path)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    for entry, photo in zip(list_entries([str(path)]), photos, strict=True):
        assert ArchiveMember(entry).read() == photo
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 << 20  # of 60
    assert pa.total_allocated_bytes() - before < 5 << 20


def test_what_cannot_be_walked_is_read_by_arrow(tmp_path: Path, walk: list[Any]) -> None:
    rows = [b"a" * 5000, b"b" * 10, b"c"]
    for number, options in enumerate(
        (
            {"column_encoding": {"image": "DELTA_LENGTH_BYTE_ARRAY"}, "use_dictionary": False},
            {"compression": "lz4"},
        )
    ):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"image": rows}), path, **options)
        assert read_all(path) == rows
    assert walk == [None, None]
