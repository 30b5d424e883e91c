"""The cache: what it finds, notices, survives."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from toplabel._internal.platform import lock_file
from toplabel.bundle import cache
from toplabel.bundle.cache import FileSignature, list_entries, prune
from toplabel.bundle.program import A_DAY, NotCompiled, Program
from toplabel.errors import DownloadError, ModelError

KEY = "ab" * 32
OTHER_KEY = "cd" * 32

PROGRAM_TEXT = f"""
import logging, os, sys, time
from pathlib import Path
from toplabel.bundle import cache
from toplabel.bundle.program import Program
KEY = {KEY!r}
def make(folder, key=KEY, size_bytes=400):
    (folder / "program.onnx").write_bytes(bytes(size_bytes))
    (folder / "goldens.npz").write_bytes(b"outputs")
    program = Program(
        path=folder / "program.onnx", reference_path=folder / "goldens.npz", key=key,
        input_name="input", output_name="logits", input_shape=(3, 8, 9), outputs=4,
        fixed_batch=False, exporter="none", agreement={{}})
    program.write(folder)
    return program
def wait_for(path):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.01)
"""


def make(folder: Path, key: str = KEY, size_bytes: int = 400) -> Program:
    """Fill a folder as a compilation does."""
    scope: dict[str, object] = {}
    exec(PROGRAM_TEXT, scope)
    return scope["make"](folder, key, size_bytes)


def start(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM_TEXT + text], stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of one megabyte as the cache."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    monkeypatch.setenv("TOPLABEL_CACHE", str(folder / "cache"))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


# Where it is


def test_the_variable_moves_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", str(tmp_path / "here"))
    assert cache.cache_dir() == tmp_path / "here"
    monkeypatch.setenv("TOPLABEL_CACHE", "~/there")
    assert cache.cache_dir() == Path.home() / "there"


def test_without_the_variable_it_follows_xdg(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TOPLABEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / "toplabel"
    for nothing in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", nothing)
        assert cache.cache_dir() == Path.home() / ".cache" / "toplabel"


# Entries


def test_an_entry_comes_back(own_cache: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    manifest = {"name": "résnet", "program": KEY, "labels": ["a", "b"]}
    assert cache.store_entry(
        "torchvision/resnet50", manifest, weights_files=[FileSignature.of(weights)]
    )
    assert cache.find_entry("torchvision/resnet50") == manifest
    assert cache.find_entry("torchvision/resnet18") is None


@pytest.mark.parametrize(
    "spec", ["hf/org/name@main", "a" * 500, "../../up", ".", "", "nul\0", "\udce9.pth", "名前/模型"]
)
def test_any_text_is_a_model_name(own_cache: Path, spec: str) -> None:
    assert cache.store_entry(spec, {"spec": 1}, weights_files=[])
    assert cache.store_entry(spec + "x", {"spec": 2}, weights_files=[])
    assert cache.find_entry(spec) == {"spec": 1}
    assert {path.parent for path in own_cache.rglob("*.json")} == {own_cache / "entries"}


def rewrite_with_old_time(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer weights"),
        lambda path: os.utime(path, (1, 1)),
        lambda path: (
            path.with_suffix(".new").write_bytes(b"WEIGHTS"),
            path.with_suffix(".new").replace(path),
        ),
        rewrite_with_old_time,
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["size", "time", "another file", "same size and time", "a folder"],
)
def test_changed_weights_make_an_entry_stale(own_cache: Path, tmp_path: Path, change) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    cache.store_entry("model", {}, weights_files=[FileSignature.of(weights)])
    assert cache.find_entry("model") == {}
    change(weights)
    assert cache.find_entry("model") is None


def test_a_link_that_points_elsewhere_makes_an_entry_stale(own_cache: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"weights")
    link = tmp_path / "link"
    link.symlink_to("one")
    cache.store_entry("model", {}, weights_files=[FileSignature.of(link)])
    link.unlink()
    link.symlink_to("two")
    assert cache.find_entry("model") is None


def test_vanished_weights_leave_a_zoo_model_usable(own_cache: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    cache.store_entry("zoo", {}, weights_files=[FileSignature.of(weights)])
    cache.store_entry(
        "own", {}, weights_files=[FileSignature.of(weights)], weights_may_vanish=False
    )
    weights.unlink()
    assert cache.find_entry("zoo") == {}
    assert cache.find_entry("own") is None


def test_a_signature_taken_before_the_weights_were_read_notices_a_change(
    own_cache: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    signature = FileSignature.of(weights)
    weights.write_bytes(b"the next epoch")  # while the model is compiled
    cache.store_entry("model", {}, weights_files=[signature])
    assert cache.find_entry("model") is None


def test_damaged_entries_count_as_none(own_cache: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    cache.store_entry("model", {"a": 1}, weights_files=[FileSignature.of(weights)])
    (path,) = (own_cache / "entries").iterdir()
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert cache.find_entry("model") is None
    for damage in (
        {"weights_files": [{}]},
        {"weights_files": 3},
        {"manifest": 3},
        {"schema": 99},
        {"spec": 0},
    ):
        path.write_text(json.dumps(json.loads(content) | damage))
        assert cache.find_entry("model") is None


# Hashes


def test_an_unchanged_file_is_hashed_once(own_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert cache.file_sha256(path) == known
    (index,) = (own_cache / "hashes").iterdir()
    index.write_text(index.read_text().replace(known, "from the index"))
    assert cache.file_sha256(path) == "from the index"
    (tmp_path / "link").symlink_to(path)
    assert cache.file_sha256(tmp_path / "link") == "from the index"
    path.write_bytes(b"abd")
    assert cache.file_sha256(path) == (
        "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"
    )


# Programs


def test_a_built_program_is_found_and_not_built_again(own_cache: Path) -> None:
    assert cache.find_program(KEY) is None
    built = cache.store_program(KEY, make)
    assert isinstance(built, Program)
    assert built.path.is_relative_to(own_cache)
    assert cache.find_program(KEY) == built
    assert cache.store_program(KEY, lambda folder: pytest.fail("built twice")) == built


def test_a_model_that_does_not_compile_leaves_nothing(own_cache: Path) -> None:
    def build(folder: Path) -> NotCompiled:
        (folder / "half").write_bytes(b"half")
        return NotCompiled("no")

    assert cache.store_program(KEY, build) == NotCompiled("no")
    assert list((own_cache / "programs").iterdir()) == []


@pytest.mark.parametrize("error", [ModelError("refused"), DownloadError("offline")])
def test_refusals_pass_through_and_leave_nothing(own_cache: Path, error: Exception) -> None:
    def build(folder: Path) -> NotCompiled:
        raise error

    with pytest.raises(type(error), match=str(error)):
        cache.store_program(KEY, build)
    assert list((own_cache / "programs").iterdir()) == []


@pytest.mark.parametrize("name", ["program.onnx", "goldens.npz", "program.json"])
def test_a_truncated_program_is_built_again(own_cache: Path, name: str) -> None:
    folder = cache.store_program(KEY, make).path.parent
    (cache.optimised_folder(KEY) / "copy.onnx").write_bytes(b"copy")
    (folder / name).write_bytes((folder / name).read_bytes()[:-3])
    assert cache.find_program(KEY) is None
    assert isinstance(cache.store_program(KEY, make), Program)
    assert cache.find_program(KEY) is not None
    assert not (own_cache / "optimised" / KEY).exists()  # copies of what was damaged


def test_half_written_folders_are_ignored_and_swept(own_cache: Path) -> None:
    process = start(
        """
def build(folder):
    (folder / "program.onnx").write_bytes(b"half")
    print("building", flush=True)
    time.sleep(60)
cache.store_program(KEY, build)
"""
    )
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(list((own_cache / "programs").iterdir())) == 1
    assert cache.find_program(KEY) is None
    assert isinstance(cache.store_program(KEY, make), Program)  # the dead owner's lock is free
    assert [path.name for path in (own_cache / "programs").iterdir()] == [KEY]


def test_of_processes_at_once_one_builds_and_the_others_wait(
    own_cache: Path, tmp_path: Path
) -> None:
    builders, waiting = tmp_path / "builders", tmp_path / "waiting"
    text = f"""
def build(folder):
    with open({str(builders)!r}, "a") as file:
        print(os.getpid(), file=file)
    wait_for(Path({str(waiting)!r}))
    return make(folder)
class Touch(logging.Handler):
    def emit(self, record):
        if "waiting" in record.getMessage():
            Path({str(waiting)!r}).touch()
logging.basicConfig(level="INFO", handlers=[logging.StreamHandler(sys.stdout), Touch()])
program = cache.store_program(KEY, build)
print(program.path)
"""
    processes = [start(text) for _ in range(4)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(str(own_cache / "programs" / KEY) in output for output in outputs)
    assert len(builders.read_text().splitlines()) == 1
    assert sum("waiting" in output for output in outputs) >= 1


def test_building_one_program_does_not_wait_for_another(own_cache: Path) -> None:
    def build(folder: Path) -> Program:
        return make(folder, OTHER_KEY)

    (own_cache / "locks").mkdir()
    with lock_file(own_cache / "locks" / KEY):
        assert isinstance(cache.store_program(OTHER_KEY, build), Program)


def test_a_full_disk_costs_only_the_keeping(
    mounted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def build(folder: Path) -> Program:
        return make(folder, size_bytes=3 * 2**20)

    program = cache.store_program(KEY, build)
    assert isinstance(program, Program)
    assert not program.path.is_relative_to(mounted)
    assert program.path.stat().st_size == 3 * 2**20
    assert "No space left" in caplog.text
    assert "TOPLABEL_CACHE" in caplog.text
    assert cache.find_program(KEY) is None
    assert list((mounted / "cache" / "programs").iterdir()) == []
    shutil.rmtree(program.path.parent)


def test_a_full_disk_makes_entries_and_hashes_forgetful(mounted: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with pytest.raises(OSError, match="space"):
        fill(mounted / "filler")
    assert not cache.store_entry("model", {"a": 1}, weights_files=[])
    assert cache.find_entry("model") is None
    assert cache.file_sha256(path).startswith("ba7816bf")
    (mounted / "filler").unlink()
    assert cache.store_entry("model", {"a": 1}, weights_files=[])


def test_a_read_only_cache_is_still_read(mounted: Path) -> None:
    kept = cache.store_program(KEY, make)
    cache.store_entry("model", {"program": KEY}, weights_files=[])
    cache.optimised_folder(KEY)
    make_read_only(mounted)
    assert cache.find_entry("model") == {"program": KEY}
    assert cache.find_program(KEY) == kept
    assert cache.store_program(KEY, make) == kept
    assert cache.optimised_folder(KEY) is not None


def test_a_read_only_home_still_works(mounted: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_read_only(mounted)
    program = cache.store_program(KEY, make)
    assert isinstance(program, Program)
    assert program.path.exists()
    assert "Read-only file system" in caplog.text
    assert not cache.store_entry("model", {}, weights_files=[])
    assert cache.optimised_folder(KEY) is None
    shutil.rmtree(program.path.parent)


def test_a_cache_that_is_a_file_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TOPLABEL_CACHE", str(tmp_path / "file"))
    program = cache.store_program(KEY, make)
    assert isinstance(program, Program)
    assert cache.find_entry("model") is None
    assert list_entries() == []
    shutil.rmtree(program.path.parent)


def test_the_temporary_folder_goes_with_the_process(tmp_path: Path) -> None:
    process = start(
        """
os.environ["TOPLABEL_CACHE"] = "/dev/null"
program = cache.store_program(KEY, make)
child = os.fork()
if child == 0:
    sys.exit(0)  # runs the exit handlers of its parent
os.waitpid(child, 0)
print(program.path, program.path.exists())
"""
    )
    path, existed = process.communicate(timeout=120)[0].split()
    assert existed == "True"
    assert not Path(path).parent.exists()


def test_without_room_anywhere_it_is_not_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", "/dev/null/cache")

    def build(folder: Path) -> Program:
        folder.rmdir()
        raise OSError(28, "No space left on device")

    result = cache.store_program(KEY, build)
    assert isinstance(result, NotCompiled)
    assert "it could not be written" in result.reason
    assert result.seconds == 0


def test_a_forgotten_program_is_gone_with_its_copies(own_cache: Path) -> None:
    cache.store_program(KEY, make)
    (cache.optimised_folder(KEY) / "copy.onnx").write_bytes(b"copy")
    assert cache.forget_program(KEY)
    assert cache.find_program(KEY) is None
    assert list((own_cache / "optimised").iterdir()) == []
    assert cache.forget_program(KEY)


def test_a_program_in_a_read_only_cache_cannot_be_forgotten(mounted: Path) -> None:
    cache.store_program(KEY, make)
    make_read_only(mounted)
    assert not cache.forget_program(KEY)


# Pruning


def test_lists_what_is_there(own_cache: Path, tmp_path: Path) -> None:
    cache.store_program(KEY, make)
    cache.store_entry("torchvision/resnet50", {}, weights_files=[])
    (cache.optimised_folder(KEY) / "copy.onnx").write_bytes(bytes(1000))
    cache.file_sha256(tmp_path / "file") if (tmp_path / "file").write_bytes(b"x") else None
    entries = list_entries()
    assert [entry.kind for entry in entries] == ["program", "model", "other", "other"]
    assert entries[0].name == KEY
    assert entries[0].size_bytes > 400
    assert entries[1].name == "torchvision/resnet50"
    assert entries[2].size_bytes == 1000
    assert all(abs(entry.changed_at - time.time()) < 60 for entry in entries)


def test_clears_everything_or_what_is_named(own_cache: Path) -> None:
    cache.store_program(KEY, make)
    cache.store_entry("torchvision/resnet50", {}, weights_files=[])
    cache.store_entry("timm/vit", {}, weights_files=[])
    assert prune(["torchvision/"]) > 0
    assert cache.find_entry("torchvision/resnet50") is None
    assert cache.find_entry("timm/vit") == {}
    assert prune([""]) == 0
    assert prune() > 400
    assert list_entries() == []
    assert cache.find_program(KEY) is None
    assert isinstance(cache.store_program(KEY, make), Program)


def test_clearing_an_absent_cache_frees_nothing(own_cache: Path) -> None:
    own_cache.rmdir()
    assert prune() == 0


def test_clearing_spares_what_another_process_builds(own_cache: Path, tmp_path: Path) -> None:
    cleared = tmp_path / "cleared"
    process = start(
        f"""
def build(folder):
    (folder / "program.onnx").write_bytes(b"half")
    print("building", flush=True)
    wait_for(Path({str(cleared)!r}))
    return make(folder)
print(cache.store_program(KEY, build).path)
"""
    )
    assert process.stdout.readline() == "building\n"
    prune()
    cleared.touch()
    assert str(own_cache) in process.communicate(timeout=120)[0]
    assert cache.find_program(KEY) is not None


def test_clearing_spares_a_reduced_program_that_is_being_made_and_a_dead_ones_rest_goes(
    own_cache: Path, tmp_path: Path
) -> None:
    rest, cleared = own_cache / "reduced" / f".building-reduced {KEY}-1", tmp_path / "cleared"
    rest.mkdir(parents=True)
    process = start(
        f"""
def build(folder):
    (folder / "reduced.onnx").write_bytes(b"half")
    print("building", flush=True)
    wait_for(Path({str(cleared)!r}))
    return "made"
print(cache.store_reduced(KEY, build))
"""
    )
    assert process.stdout.readline() == "building\n"
    assert not rest.exists()
    prune()
    cleared.touch()
    assert process.communicate(timeout=120)[0] == "made\n"
    assert (cache.reduced_folder(KEY) / "reduced.onnx").exists()


def test_clearing_while_in_use_leaves_open_files_readable(own_cache: Path) -> None:
    program = cache.store_program(KEY, make)
    with open(program.path, "rb") as file:
        prune()
        assert len(file.read()) == 400
    assert cache.find_program(KEY) is None


def test_a_compile_that_took_too_long_is_tried_again_after_a_day(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    cache.remember_failed_compile(KEY, NotCompiled("too slow", seconds=A_DAY), exporter="torch 2")
    assert cache.find_failed_compile(KEY, exporter="torch 2") == "too slow"
    assert cache.find_failed_compile(KEY, exporter="torch 3") is None
    monkeypatch.setattr(time, "time", lambda: now + A_DAY + 60)
    assert cache.find_failed_compile(KEY, exporter="torch 2") is None
    cache.remember_failed_compile(KEY, NotCompiled("no such operator"), exporter="torch 2")
    monkeypatch.setattr(time, "time", lambda: now + 1000 * A_DAY)
    assert cache.find_failed_compile(KEY, exporter="torch 2") == "no such operator"


def test_what_vanishes_while_the_cache_is_listed_is_no_error(own_cache: Path) -> None:
    folder = own_cache / "programs" / ".building-of-another-process"
    folder.parent.mkdir(parents=True)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            folder.mkdir()
            folder.rmdir()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(1000):
            assert {entry.name for entry in list_entries()} <= {f"programs/{folder.name}"}
    finally:
        stop.set()
        thread.join()


def test_processes_that_build_and_clear_at_once_never_see_half_a_program(own_cache: Path) -> None:
    builder = """
for _ in range(40):
    program = cache.store_program(KEY, make)
    assert isinstance(program, Program), program
    found = cache.find_program(KEY)
    assert found is None or found == program
"""
    clearer = """
from toplabel.bundle.cache import prune
for _ in range(80):
    prune()
    time.sleep(0.005)
"""
    processes = [start(builder), start(builder), start(clearer)]
    for process in processes:
        process.communicate(timeout=300)
    assert [process.returncode for process in processes] == [0, 0, 0]
