"""What differs between Linux, macOS and Windows: cores, durable writes, locks, forks."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio

_WSL_DRIVER = Path("/usr/lib/wsl/lib/libcuda.so.1")  # NVIDIA's, where Windows has it
_LOCK_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # from glibc's malloc.h
_M_ARENA_MAX = -8


def available_cpus(
    *, cgroup_list: Path = Path("/proc/self/cgroup"), cgroup_root: Path = Path("/sys/fs/cgroup")
) -> int:
    """The number of cores this process may use, at least 1.

    That is the smaller of its affinity mask and of any quota on its control group or a group
    around it (containers set these), rounded up.

    Args:
        cgroup_list: Where Linux lists the control groups of this process.
        cgroup_root: Where Linux mounts the control groups, version 1 or 2.
    """
    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    quota = _cgroup_quota(cgroup_list, cgroup_root)
    if quota is not None:
        cpus = min(cpus, -int(-quota // 1))  # 1.5 -> 2
    return max(1, cpus)


def _cgroup_quota(cgroup_list: Path, cgroup_root: Path) -> float | None:
    """The smallest quota, in cores, on any group around this process; None where there is none."""
    quotas: list[float] = []
    for line in _read_text(cgroup_list).splitlines():
        _, _, rest = line.partition(":")  # "0::/docker/1a2b" or "4:cpu,cpuacct:/docker/1a2b"
        controllers, _, group = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = ("cpu", controllers) if controllers else ("", "unified")
        for mount in mounts:
            for folder in _with_ancestors(cgroup_root / mount, group):
                quotas.extend(_folder_quota(folder))
    return min(quotas, default=None)


def _with_ancestors(mount: Path, group: str) -> Iterator[Path]:
    # "/a/b" -> mount/a/b, mount/a, mount; inside a container the first ones are often not mounted
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _folder_quota(folder: Path) -> Iterator[float]:
    with suppress(ValueError, ZeroDivisionError):
        quota, period = _read_text(folder / "cpu.max").split()  # "150000 100000", "max 100000"
        yield int(quota) / int(period)
    with suppress(ValueError, ZeroDivisionError):
        quota = _read_text(folder / "cpu.cfs_quota_us")  # "150000", or "-1" for no limit
        if int(quota) > 0:
            yield int(quota) / int(_read_text(folder / "cpu.cfs_period_us"))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


_FORK_SAFE = WeakSet[Any]()


def fork_safe(lock: Any) -> Any:
    """The lock of `threading`, free again in a child: its owner may be a thread of the parent."""
    _FORK_SAFE.add(lock)
    return lock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [lock._at_fork_reinit() for lock in _FORK_SAFE])


def fsync_file(path: Path) -> None:
    """Wait until the file's content is on the disk."""
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Wait until the folder's list of names is on the disk, where the system can do that."""
    if sys.platform == "win32":
        return  # Windows cannot open a folder as a file
    with suppress(OSError):  # some network file systems refuse
        fsync_file(folder)


def replace_file(aside: Path, path: Path) -> None:
    """Put the finished file `aside` at `path`, in the same folder, at once and durably.

    A reader of `path` sees the old file or the new one, whole.
    """
    fsync_file(aside)
    os.replace(aside, path)
    fsync_folder(path.parent)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Where to write what `path` is to hold: put there at once and durably, or not at all.

    Raises:
        OSError: It cannot be put there.
    """
    aside = path.with_name(f".aside-{os.getpid()}-{time.monotonic_ns()}")
    try:
        yield aside
        replace_file(aside, path)
    finally:
        with suppress(OSError):  # it was renamed, or never made
            aside.unlink()


def replace_folder(aside: Path, folder: Path) -> None:
    """Put the finished folder `aside` at `folder`, in the same parent, durably.

    A folder that stands there already is renamed away and removed. A reader sees the old folder,
    for a moment none, then the new one; never a mixture.
    """
    for file in aside.iterdir():
        fsync_file(file)
    fsync_folder(aside)
    remove_folder(folder)
    os.rename(aside, folder)
    fsync_folder(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that no reader ever sees half of it; nothing happens where it is missing.

    Raises:
        OSError: It stands there and cannot be removed.
    """
    import shutil  # costs milliseconds that a start from a warm cache does not pay

    trash = folder.with_name(f".trash-{folder.name}-{os.getpid()}-{time.monotonic_ns()}")
    try:
        os.rename(folder, trash)
    except FileNotFoundError:
        return
    shutil.rmtree(trash, ignore_errors=True)


@contextmanager
def lock_file(
    path: Path, *, wait: bool = True, waiting: Callable[[], None] | None = None
) -> Iterator[bool | None]:
    """Hold the lock `path` for the body; yields whether it is held, None where nobody can tell.

    The lock belongs to the process: when its owner dies, it is free. The file stays behind, empty;
    removing it would let two processes hold two locks of one name.

    Args:
        path: The lock's file, made where it is missing.
        wait: Wait for another owner; otherwise yield False where there is one.
        waiting: Called once when there is another owner to wait for.

    Raises:
        OSError: The file cannot be made. Where the file system knows no locks, None is yielded.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        held = _try_lock(descriptor)
        if held is False and wait:
            if waiting is not None:
                waiting()
            while held is False:
                time.sleep(_LOCK_POLL_SECONDS)
                held = _try_lock(descriptor)
        try:
            yield held
        finally:
            if held:
                _unlock(descriptor)
    finally:
        os.close(descriptor)


def gpu_count(*, devices: Path = Path("/dev"), windows: Path = Path("C:/Windows")) -> int:
    """How many NVIDIA GPUs this process may use, by what the system shows; opens none.

    Args:
        devices: Where Linux has them.
        windows: Where Windows has its libraries.
    """
    if sys.platform == "win32" or not devices.is_dir():
        found = int((windows / "System32" / "nvcuda.dll").exists())
    else:
        found = sum(map(_is_nvidia, os.listdir(devices)))
        found = found or int((devices / "dxg").exists() and _WSL_DRIVER.exists())
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return found
    numbers = [part.strip() for part in allowed.split(",")]
    ends = (place for place, part in enumerate(numbers) if part in ("", "-1"))
    return min(found, next(ends, len(numbers)))  # CUDA stops at the first that is none


def _is_nvidia(name: str) -> bool:
    """Whether a device is a GPU of NVIDIA: "nvidia0", not "nvidiactl"."""
    return name.startswith("nvidia") and name.removeprefix("nvidia").isdigit()


def read_start(path: str | os.PathLike[str], size: int) -> bytes:
    """The first bytes of a regular file; none of what cannot be read, and of anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except (OSError, ValueError):  # a name with a NUL in it is a ValueError
        return b""


def has_posix_processes() -> bool:
    """Whether there are process groups, signals to them, and descriptors that children inherit."""
    return hasattr(os, "fork") and hasattr(os, "killpg")


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool | None:
        """True: locked. False: somebody else has it. None: there are no locks here."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    try:
        import fcntl
    except ImportError:  # WebAssembly
        fcntl = None  # type: ignore[assignment]

    def _try_lock(descriptor: int) -> bool | None:
        """True: locked. False: somebody else has it. None: there are no locks here."""
        if fcntl is None:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def _unlock(descriptor: int) -> None:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


_READING = threading.Lock()


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Bytes of an open file from `offset`; for several threads at once, where they do only this.

    Raises:
        OSError: They cannot be read.
    """
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _READING:  # Windows has one position in a file, whoever reads
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


def on_signals(loop: asyncio.AbstractEventLoop, call: Callable[[int], None]) -> None:
    """Let the loop call this with the number of each SIGTERM and SIGINT from now on."""
    import signal  # only a server has a loop

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, call, number)
        except NotImplementedError:  # loops on Windows
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(call, number))


def processor_name() -> str:
    """What tells this kind of processor from others: its architecture, its instruction sets."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            lines = file.read(8192).splitlines()  # the first processor's entry
        sets = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        return f"{os.uname().machine}\n{sets}"
    except (OSError, AttributeError):  # elsewhere than on Linux
        import platform as standard

        return f"{standard.machine()}\n{standard.processor()}"


def processor_title() -> str:
    """What people call this processor; its architecture where its maker does not say more."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read(8192).splitlines()
        titles = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(titles, "") or os.uname().machine
    except (OSError, AttributeError):  # elsewhere than on Linux
        import platform as standard

        return standard.processor() or standard.machine()


def multiplies_bytes_exactly() -> bool:
    """Whether the processor sums products of 8-bit numbers without overflow, as int8 needs.

    By VNNI on x86, where older ones sum in 16 bits; all others do. False where it is not known.
    """
    architecture, _, sets = processor_name().partition("\n")
    if architecture.lower() not in ("x86_64", "amd64", "i686", "x86"):
        return True
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(sets.split())


def return_memory(size: int) -> None:
    """Have blocks of at least `size` bytes go back to the system when they are freed (glibc).

    By default it keeps those of up to 32 MB, once one was freed, for each thread. Small ones are
    kept: they are wanted again; those of all threads in two places, not in one for each.
    """
    _set_malloc({_M_MMAP_THRESHOLD: size, _M_TRIM_THRESHOLD: 16 * size, _M_ARENA_MAX: 2})


def keep_memory() -> None:
    """Keep what is freed for what is wanted next (glibc), in a process that ends soon.

    By default the system takes back and clears what a network's every layer takes anew.
    """
    _set_malloc({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})


def _set_malloc(settings: Mapping[int, int]) -> None:
    import ctypes  # only servers and compiling need it

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for name, value in settings.items():
            libc.mallopt(name, value)


def trim_memory() -> None:
    """Give back what was freed in the middle of other blocks, too, whatever its size (glibc).

    It takes a few milliseconds for a hundred megabytes, in which Python goes on.
    """
    import ctypes

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def can_fork() -> bool:
    """Whether a forked child can do real work here: on Linux; macOS's own libraries forbid it."""
    return sys.platform == "linux" and has_posix_processes()


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when `parent`, which forked it, ends (Linux)."""
    import ctypes  # only a forked child needs it
    import signal

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
