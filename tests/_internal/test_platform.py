"""What differs between systems: cores, durable writes, locks."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from toplabel._internal import platform
from toplabel._internal.platform import (
    available_cpus,
    fork_safe,
    gpu_count,
    lock_file,
    remove_folder,
    replace_folder,
    trim_memory,
)


def cgroup(tmp_path: Path, listing: str, files: dict[str, str]) -> int:
    """The cores that are left with such a /proc/self/cgroup and such files in /sys/fs/cgroup."""
    (tmp_path / "list").write_text(listing)
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return available_cpus(cgroup_list=tmp_path / "list", cgroup_root=tmp_path / "root")


@pytest.fixture(autouse=True)
def _sixteen_cores(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "cgroup" in request.node.name:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def test_cores_are_at_least_one_and_at_most_the_machine_has() -> None:
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_cores_respect_the_affinity_mask() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from toplabel._internal.platform import available_cpus; print(available_cpus())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "1\n"


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 16),
        ("150000 100000", 2),
        ("400000 100000", 4),
        ("1000 100000", 1),
        ("9900000 100000", 16),
        ("", 16),
        ("nonsense", 16),
        ("1000 0", 16),
    ],
)
def test_cgroup_version_2_quota(tmp_path: Path, quota: str, cores: int) -> None:
    assert cgroup(tmp_path, "0::/docker/1a2b\n", {"docker/1a2b/cpu.max": quota}) == cores


def test_cgroup_version_2_quota_of_a_group_around(tmp_path: Path) -> None:
    files = {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "max 100000"}
    assert cgroup(tmp_path, "0::/a/b\n", files) == 3


def test_cgroup_version_2_inside_a_container_that_sees_only_the_root(tmp_path: Path) -> None:
    assert cgroup(tmp_path, "0::/../../x\n", {"cpu.max": "200000 100000"}) == 2


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_cgroup_version_1_quota(tmp_path: Path, mount: str) -> None:
    files = {
        f"{mount}/docker/1a/cpu.cfs_quota_us": "250000\n",
        f"{mount}/docker/1a/cpu.cfs_period_us": "100000\n",
    }
    assert cgroup(tmp_path, "7:memory:/x\n4:cpu,cpuacct:/docker/1a\n", files) == 3


def test_cgroup_version_1_without_a_quota(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert cgroup(tmp_path, "4:cpu:/\n", files) == 16


def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_file(path) as held:
        assert held
        with lock_file(path, wait=False) as second:
            assert not second
    with lock_file(path, wait=False) as third:
        assert third


def test_waiting_for_a_lock_is_told_once(tmp_path: Path) -> None:
    path, told, got = tmp_path / "lock", threading.Event(), threading.Event()

    def wait() -> None:
        with lock_file(path, waiting=told.set) as held:
            assert held
            got.set()

    thread = threading.Thread(target=wait)
    with lock_file(path):
        thread.start()
        assert told.wait(60)
        assert not got.is_set()
    assert got.wait(60)
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    lock, held, over = fork_safe(threading.RLock()), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.acquire(blocking=False) else 1)
    _, status = os.waitpid(child, 0)
    over.set()
    thread.join()
    assert status == 0


def test_a_dead_owners_lock_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from toplabel._internal.platform import lock_file\n"
        "with lock_file(Path(sys.argv[1])) as held: os._exit(0 if held else 1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], check=True)
    with lock_file(tmp_path / "lock", wait=False) as held:
        assert held


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "new"]


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_folder(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_importing_it_is_cheap() -> None:
    code = f"import sys; import {platform.__name__}; print('ctypes' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="what glibc keeps")
def test_what_lies_free_between_what_is_kept_is_given_back():
    def resident_mb() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    blocks = [b"x" * 64_000 for _ in range(2000)]  # each below what glibc maps on its own
    kept = blocks[::50]
    del blocks
    before = resident_mb()
    trim_memory()
    assert resident_mb() < before - 80
    assert len(kept) == 40


@pytest.mark.parametrize(
    ("devices", "visible", "count"),
    [
        ("null tty", None, 0),
        ("nvidiactl nvidia-uvm", None, 0),
        ("nvidiactl nvidia0 nvidia1 nvidia10", None, 3),
        ("nvidia3", None, 1),
        ("nvidia0 nvidia1", "1", 1),
        ("nvidia0 nvidia1", "", 0),
        ("nvidia0 nvidia1", "-1", 0),
        ("nvidia0 nvidia1", "0,-1,1", 1),
        ("nvidia0", "MIG-4ff0c1a2,MIG-07a1f2cc", 1),
        ("null", "0", 0),
        ("dxg", None, 0),
    ],
)
def test_gpus_are_counted_by_their_devices_and_what_is_visible(
    devices: str, visible: str | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name in devices.split():
        (tmp_path / name).touch()
    assert gpu_count(devices=tmp_path) == count


def test_gpus_of_windows_are_known_by_their_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_count(windows=tmp_path) == 0
    (tmp_path / "System32").mkdir()
    (tmp_path / "System32" / "nvcuda.dll").touch()
    assert gpu_count(windows=tmp_path) == 1
