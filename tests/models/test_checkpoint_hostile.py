"""Hostile checkpoints: refused by name, in little time and memory, and never executed."""

import json
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402

import checkpoints as made  # noqa: E402
from toplabel.errors import CheckpointError  # noqa: E402
from toplabel.models.checkpoint.header import read_checkpoint_info  # noqa: E402
from toplabel.models.checkpoint.reading import read_checkpoint  # noqa: E402

# Reads the header of each file named on standard input; prints seconds and growth in kB of each.
MEASURE = """
import json, sys, time
from toplabel.models.checkpoint.header import read_checkpoint_info
from toplabel.errors import CheckpointError
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
def reset():
    open("/proc/self/clear_refs", "w").write("5")
for path in sys.stdin.read().split("\\0"):
    reset()
    before, start = peak(), time.process_time()
    try:
        read_checkpoint_info(path)
        text = "read"
    except CheckpointError as error:
        text = str(error)
    print(json.dumps([time.process_time() - start, peak() - before, text]))
"""


def measure(paths: list[Path]) -> list[tuple[float, int, str]]:
    """Seconds, growth in kB and error of each file, in a process of their own."""
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input="\0".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    return [tuple(json.loads(line)) for line in answer.stdout.splitlines()]


@pytest.mark.parametrize("container", made.CONTAINERS)
def test_no_gadget_runs_and_each_is_named(container: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name, (blocked, body) in made.gadgets(marker).items():
        path = made.CONTAINERS[container](tmp_path / name, made.whole(body))
        with pytest.raises(CheckpointError, match=blocked.replace(".", r"\.")):
            read_checkpoint(read_checkpoint_info(path))
        assert not marker.exists(), name


def test_the_gadgets_would_run_in_an_ordinary_reader(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    _, body = made.gadgets(marker)["reduce"]
    torch.load(made.zip_around(tmp_path / "x", made.whole(body)), weights_only=False)
    assert marker.exists()


def test_gadgets_of_protocol_0_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"cos\nsystem\n(S'touch marker'\ntR.")
    with pytest.raises(CheckpointError, match="it names os.system"):
        read_checkpoint(read_checkpoint_info(path))


def test_a_refusal_names_the_safe_ways_first(tmp_path: Path) -> None:
    _, body = made.gadgets(tmp_path / "marker")["reduce"]
    info = read_checkpoint_info(made.zip_around(tmp_path / "x", made.whole(body)))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(info)
    text = str(caught.value)
    assert "\n" not in text
    assert text.index("torch.save(model.state_dict()") < text.index("trust=True")


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_torchs_variables_loosen_nothing(
    container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = made.save_zip if container == "zip" else made.save_legacy
    whole = read_checkpoint_info(save(tmp_path / "whole", made.small_network()))
    state = read_checkpoint_info(save(tmp_path / "state", made.small_network().state_dict()))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert not isinstance(read_checkpoint(whole), torch.nn.Module)
    assert isinstance(read_checkpoint(whole, trust=True), torch.nn.Module)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")  # as an administrator may
    with pytest.raises(CheckpointError, match="forbids trusting a pickle"):
        read_checkpoint(whole, trust=True)
    assert "conv.weight" in read_checkpoint(state)


def test_pickles_are_read_without_torchs_guard_in_one_place_only() -> None:
    source = Path(read_checkpoint_info.__code__.co_filename).parents[1]
    places = [p for p in source.rglob("*.py") if "weights_only=False" in p.read_text()]
    assert [p.name for p in places] == ["reading.py"]
    assert places[0].read_text().count("weights_only=False") == 1


def zip_of_tensor(path: Path, body: bytes, stored: bytes = bytes(16)) -> Path:
    return made.zip_around(path, made.state_of(body), {"0": stored})


UNSUITABLE = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "meta": lambda: torch.ones(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "conjugated": lambda: torch.ones(3, dtype=torch.complex64).conj(),
}


@pytest.mark.parametrize("kind", UNSUITABLE)
def test_tensors_that_are_not_plain_are_refused(kind: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = UNSUITABLE[kind]()
        paths = [made.save_zip(tmp_path / "zip", {"weight": tensor})]
        if kind not in ("csr", "nested"):
            paths.append(made.save_legacy(tmp_path / "legacy", {"weight": tensor}))
    for path in paths:
        with pytest.raises(CheckpointError, match="expected plain ones|quantized"):
            read_checkpoint_info(path)


class Labelled(torch.Tensor):
    """A tensor of a class of its own."""


def test_tensor_subclasses_are_named_and_never_used(tmp_path: Path) -> None:
    path = made.save_zip(tmp_path / "x", {"weight": torch.ones(2).as_subclass(Labelled)})
    info = read_checkpoint_info(path)
    name = f"{__name__}.Labelled"
    assert name in info.blocked
    assert read_checkpoint(info)["weight"].kind == name
    with pytest.raises(CheckpointError, match="of the class Labelled; expected plain"):
        read_checkpoint(info, trust=True)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((1 << 30,), (0,), 0),  # 4 GiB of 16 bytes
        ((5,), (1,), 0),
        ((2,), (4,), 0),
        ((1,), (1,), 4),
        ((4, 2), (1, 0), 0),
        ((1 << 40, 1 << 40), (1, 1), 0),
        ((-1,), (1,), 0),
        ((2,), (-1,), 1),
        ((4,), (1,), -1),
        ((4,), (1, 1), 0),
    ],
)
def test_views_that_claim_more_than_is_stored_are_refused(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    body = made.tensor(made.storage("0", 4), shape, strides, offset=offset)
    with pytest.raises(CheckpointError, match="claims more than|never writes"):
        read_checkpoint_info(zip_of_tensor(tmp_path / "zip", body))
    body = made.tensor(made.legacy_storage("0", 4), shape, strides, offset=offset)
    stored = {"0": (4, bytes(16))}
    with pytest.raises(CheckpointError, match="claims more than|never writes"):
        read_checkpoint_info(made.legacy_around(tmp_path / "legacy", made.state_of(body), stored))


def test_views_within_the_storage_are_read(tmp_path: Path) -> None:
    body = made.tensor(made.storage("0", 4), (2, 2), (1, 2))
    stored = struct.pack("<4f", 1, 2, 3, 4)
    info = read_checkpoint_info(zip_of_tensor(tmp_path / "zip", body, stored))
    assert read_checkpoint(info)["weight"].tolist() == [[1, 3], [2, 4]]
    body = made.tensor(made.legacy_storage("0", 4), (2, 2), (1, 2))
    path = made.legacy_around(tmp_path / "old", made.state_of(body), {"0": (4, stored)})
    assert read_checkpoint(read_checkpoint_info(path))["weight"].tolist() == [[1, 3], [2, 4]]


def test_a_tensor_cannot_be_changed_after_it_was_made(tmp_path: Path) -> None:
    plain = made.tensor(made.storage("0", 4), (4,), (1,))
    change = b"(" + made.storage("0", 4) + made.number(0) + made.numbers((1 << 30,))
    body = plain + change + made.numbers((0,)) + b"tb"
    with pytest.raises(CheckpointError, match="changes a tensor after creating it"):
        read_checkpoint_info(zip_of_tensor(tmp_path / "x", body))


@pytest.mark.parametrize(
    "body",
    [
        made.named("torch.Tensor") + made.number(1 << 33) + b"\x85R",
        made.named("torch.storage.UntypedStorage") + made.number(1 << 33) + b"\x85R",
        made.named("builtins.bytearray") + made.number(1 << 33) + b"\x85R",
        made.named("_codecs.encode") + made.text("x") + made.text("rot13") + b"\x86R",
        made.named("torch.FloatTensor") + made.number(1 << 33) + b"\x85\x81",
    ],
)
def test_calls_that_only_allocate_are_refused(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no saved checkpoint does|damaged"):
        read_checkpoint_info(made.zip_around(tmp_path / "x", made.state_of(body)))


@pytest.mark.parametrize(
    ("storages", "reason"),
    [
        ({}, "needs 16 bytes of storage '0', but it is missing"),
        ({"0": bytes(12)}, "needs 16 bytes .* but the file has 12"),
        ({"0": bytes(20)}, "needs 16 bytes .* but the file has 20"),
    ],
)
def test_zip_storages_must_be_whole(
    storages: dict[str, bytes], reason: str, tmp_path: Path
) -> None:
    body = made.tensor(made.storage("0", 4), (4,), (1,))
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint_info(made.zip_around(tmp_path / "x", made.state_of(body), storages))


@pytest.mark.parametrize(
    "storages",
    [{}, {"1": (4, bytes(16))}, {"0": (3, bytes(12))}, {"0": (4, bytes(15))}],
)
def test_legacy_storages_must_be_whole(
    storages: dict[str, tuple[int, bytes]], tmp_path: Path
) -> None:
    body = made.tensor(made.legacy_storage("0", 4), (4,), (1,))
    with pytest.raises(CheckpointError, match="download it again"):
        read_checkpoint_info(made.legacy_around(tmp_path / "x", made.state_of(body), storages))


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    body = made.tensor(made.storage("0", 1 << 22), (1 << 22,), (1,))
    path = made.zip_around(
        tmp_path / "bomb",
        made.state_of(body),
        {"0": bytes(1 << 24)},
        compression=zipfile.ZIP_DEFLATED,
    )
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="is compressed"):
        read_checkpoint_info(path)


@pytest.mark.parametrize(
    "name", ["archive/data.pkl", "archive/DATA.pkl", "/etc/x", "archive/../x", "a\\b", "other/x"]
)
def test_names_that_two_readers_could_take_differently_are_refused(
    name: str, tmp_path: Path
) -> None:
    path = made.zip_around(tmp_path / "x", made.whole(b"}"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"}")
    with pytest.raises(CheckpointError, match="twice|leads out|not in one folder"):
        read_checkpoint_info(path)


def test_a_flipped_bit_of_a_tensor_is_found(tmp_path: Path) -> None:
    path = made.save_zip(tmp_path / "x", {"weight": torch.full((100,), 7.0)})
    body = bytearray(path.read_bytes())
    body[body.index(struct.pack("<f", 7.0)) + 100] ^= 1
    path.write_bytes(body)
    with pytest.raises(CheckpointError, match="damaged: it differs from its checksum"):
        read_checkpoint(read_checkpoint_info(path))


def overlapping(path: Path) -> Path:
    """Two members of the table at one place in the file."""
    made.zip_around(path, made.whole(b"}"), {"0": b"x" * 50, "1": b"x" * 50})
    body = path.read_bytes()
    table = body.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<L", body, table + 16)[0]
    first = body.index(b"archive/data/0", start) - 46
    second = body.index(b"archive/data/1", start) - 46
    changed = bytearray(body)
    changed[second + 42 : second + 46] = body[first + 42 : first + 46]
    path.write_bytes(changed)
    return path


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not where its directory|lies over another"):
        read_checkpoint_info(overlapping(tmp_path / "x"))


def _nested_legacy() -> bytes:
    """A storage in bytes, whose pickle has a storage in bytes, and so on."""
    body = made.storage("0", 1)
    for _ in range(200):
        file = pickle.dumps(made.LEGACY_MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        file += made.whole(body) + pickle.dumps(["0"], 2) + struct.pack("<qf", 1, 0)
        body = made.named("torch.storage._load_from_bytes") + b"B" + struct.pack("<I", len(file))
        body += file + b"\x85R"
    return body


def bombs() -> dict[str, bytes]:
    """Pickles that would cost much, were they believed."""
    pickles = {
        "laughs": b"]"
        + b"q\0"
        + b"".join(b"]h%c" % n + b"ah%ca" % n + b"q%c" % (n + 1) for n in range(60)),
        "memo": b"}r\xff\xff\xff\xff" * 300_000,
        "sets": b"\x8f" * 3_000_000,
        "marks": b"(" * 3_000_000,
        "lists": b"]" * 3_000_000,
        "depth": b"]" * 300_000 + b"a" * 299_999,
        "tuples": b")" + b"\x85" * 400_000,
        "keys": b"}" + b")" + b"\x85" * 300_000 + b"Ns",
        "cycle": b"]q\0h\0a",
        "pops": b"N0" * 3_000_000,
        "text": b"X\xff\xff\xff\x7f",
        "bytes": b"\x8e" + b"\xff" * 7 + b"\x7f",
        "line": b"c" + b"a" * 3_000_000,
        "digits": b"L" + b"9" * 3_000_000 + b"L\n",
        "things": b"cos\nsystem\n" + b"q\0" + b"h\0)R" * 700_000,
        "encode": b"X"
        + struct.pack("<I", 900_000)
        + b"a" * 900_000
        + b"q\0"
        + (b"c_codecs\nencode\nh\0" + made.text("latin1") + b"\x86R") * 2_000,
        "bytes within bytes": _nested_legacy(),
        "globals": b"".join(b"ca%d\nb\n" % n for n in range(300_000)),
        "storages": b"".join(made.storage(str(n), 1) for n in range(40_000)),
    }
    return {name: made.whole(body) for name, body in pickles.items()}


def check_costs(paths: list[Path]) -> None:
    for path, (seconds, growth, text) in zip(paths, measure(paths), strict=True):
        assert text.startswith("cannot read") or path.name == "encode", path.name
        assert seconds < 20, (path.name, seconds)  # 0.7 at most, measured; no hang
        assert growth < 50_000, (path.name, growth)


def test_bombs_cost_less_than_a_second_and_50_megabytes(tmp_path: Path) -> None:
    costly = {"laughs", "sets", "depth", "keys", "cycle", "text", "bytes", "line", "encode"}
    chosen = {name: body for name, body in bombs().items() if name in costly}
    check_costs([made.zip_around(tmp_path / name, body) for name, body in chosen.items()])


@pytest.mark.slow
@pytest.mark.parametrize("container", ["zip", "legacy", "raw"])
def test_every_bomb_costs_less_than_a_second_and_50_megabytes(
    container: str, tmp_path: Path
) -> None:
    put = made.CONTAINERS[container]
    check_costs([put(tmp_path / name, body) for name, body in bombs().items()])


def hostile_headers(folder: Path) -> list[Path]:
    def write(name: str, header: bytes, length: int | None = None) -> Path:
        path = folder / name
        size = len(header) if length is None else length
        path.write_bytes(struct.pack("<Q", size) + header)
        return path

    entry = b'"%s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    return [
        write("long", b"{" + b" " * 9_000_000 + b"}"),
        write("beyond", b"{}", 1 << 30),
        write("deep", b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}"),
        write("wide", b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"),
        write("digits", b'{"a":' + b"9" * 1_000_000 + b"}"),
        write("twice", b"{" + entry % b"a" + b"," + entry % b"a" + b"}" + bytes(4)),
        write("overlap", b"{" + entry % b"a" + b"," + entry % b"b" + b"}"),
        write("text", b"{" + bytes(100) + b"}"),
        write("not utf-8", b'{"\xff":1}'),
    ]


def test_hostile_headers_are_refused_in_little_time_and_memory(tmp_path: Path) -> None:
    check_costs(hostile_headers(tmp_path))
