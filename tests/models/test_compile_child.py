"""Children: what happens in there stays in there, and nothing is left behind."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from locks import WatchedLock
from toplabel._internal.platform import can_fork
from toplabel.bundle.program import NotCompiled
from toplabel.errors import ModelError
from toplabel.models.compile import child
from toplabel.models.compile.child import (
    Report,
    can_have_children,
    describe,
    run_here,
    run_in_child,
)

pytestmark = pytest.mark.skipif(not can_fork(), reason="forking is not safe on this system")


def is_alive(pid: int) -> bool:
    """Whether the process lives; one that is dead and not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_dead(pid: int, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def run(work, tmp_path: Path, *, seconds: float = 300, report: Report | None = None):
    return run_in_child(work, log=tmp_path / "log", time_limit_seconds=seconds, report=report)


def script(text: str, tmp_path: Path) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    head = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from toplabel.models.compile.child import run_in_child\n"
        f"log = Path({str(tmp_path / 'log')!r})\n"
    )
    path.write_text(head + text)
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True)


def test_the_result_comes_back_from_another_process(tmp_path: Path) -> None:
    pid, value = run(lambda _: (os.getpid(), bytes(10_000_000)), tmp_path)
    assert pid != os.getpid()
    assert len(value) == 10_000_000
    assert wait_until_dead(pid)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)  # not even a zombie


def test_progress_arrives_in_order(tmp_path: Path) -> None:
    lines: list[str] = []

    def work(report: Report) -> int:
        for number in range(3):
            report(f"step {number}")
        return 7

    assert run(work, tmp_path, report=lines.append) == 7
    assert lines == ["step 0", "step 1", "step 2"]


def test_prints_of_any_kind_go_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    def work(_: Report) -> None:
        print("by Python")
        print("as an error", file=sys.stderr)
        os.write(1, b"past Python\n")
        os.write(2, b"past Python, as an error\n")

    assert run(work, tmp_path) is None
    assert capfd.readouterr() == ("", "")
    log = (tmp_path / "log").read_text()
    for text in ("by Python", "as an error", "past Python\n", "past Python, as an error"):
        assert text in log


def test_errors_of_ours_are_raised_here(tmp_path: Path) -> None:
    def work(_: Report) -> None:
        raise ModelError("got a model that cannot be used")

    with pytest.raises(ModelError, match="^got a model that cannot be used$"):
        run(work, tmp_path)


def test_a_full_disk_is_raised_here(tmp_path: Path) -> None:
    def work(_: Report) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "file")

    with pytest.raises(OSError, match="No space left") as caught:
        run(work, tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_a_full_disk_is_raised_where_the_log_lies_on_it_too(tmp_path: Path) -> None:
    import resource  # which Windows does not have

    def work(_: Report) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no byte more, of any file
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run(work, tmp_path)


@pytest.mark.parametrize("error", [ValueError("bad\nworse"), SystemExit(4), MemoryError()])
def test_other_errors_become_a_reason(tmp_path: Path, error: BaseException) -> None:
    def work(_: Report) -> None:
        raise error

    result = run(work, tmp_path)
    assert isinstance(result, NotCompiled)
    assert result.reason.startswith(type(error).__name__)
    assert "\n" not in result.reason
    assert "Traceback" in (tmp_path / "log").read_text()


def test_a_result_that_cannot_travel_is_a_failure(tmp_path: Path) -> None:
    assert isinstance(run(lambda _: lambda: None, tmp_path), NotCompiled)


def test_a_child_that_leaves_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    def work(_: Report) -> None:
        os.write(2, b"first words\nlast words\n")
        os._exit(3)

    assert run(work, tmp_path) == NotCompiled("its process ended early with status 3: last words")


def test_a_crash_is_a_failure(tmp_path: Path) -> None:
    result = run(lambda _: os.kill(os.getpid(), signal.SIGSEGV), tmp_path)
    assert result == NotCompiled("its process crashed (SIGSEGV)")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_from_outside_says_nothing_of_the_model(tmp_path: Path, number: int) -> None:
    result = run(lambda _: os.kill(os.getpid(), number), tmp_path)
    name = signal.Signals(number).name
    assert result == NotCompiled(f"its process was ended ({name})", seconds=0)


def test_neither_does_leaving_without_an_outcome(tmp_path: Path) -> None:
    result = run(lambda _: os._exit(0), tmp_path)
    assert result == NotCompiled("its process ended early with status 0", seconds=0)


def test_being_killed_hints_at_memory(tmp_path: Path) -> None:
    result = run(lambda _: os.kill(os.getpid(), signal.SIGKILL), tmp_path)
    assert isinstance(result, NotCompiled)
    assert "memory" in result.reason
    assert result.seconds == 0


def test_the_time_limit_ends_the_child_and_its_own_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[str] = []
    clock = SimpleNamespace(monotonic=lambda: 3600.0 * len(pids))  # an hour passes once both live
    monkeypatch.setattr(child, "time", clock)

    def work(report: Report) -> None:
        grandchild = os.fork()
        if grandchild == 0:
            time.sleep(3600)
            os._exit(0)
        report(f"{os.getpid()} {grandchild}")
        time.sleep(3600)

    result = run(work, tmp_path, seconds=600, report=pids.append)
    assert result == NotCompiled("it took longer than 600 s", seconds=86_400)
    assert all(wait_until_dead(int(pid)) for pid in pids[0].split())


def test_an_error_while_reporting_ends_the_child(tmp_path: Path) -> None:
    pids: list[int] = []

    def work(report: Report) -> None:
        report(str(os.getpid()))
        time.sleep(3600)

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(work, tmp_path, report=interrupt)
    assert wait_until_dead(pids[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_child_ends_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = script(
        """
def work(report):
    report(str(os.getpid()))
    time.sleep(3600)
run_in_child(work, log=log, time_limit_seconds=60, report=lambda line: print(line, flush=True))
""",
        tmp_path,
    )
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.send_signal(number)
    parent.communicate(timeout=60)
    assert wait_until_dead(pid)


def test_a_program_that_ends_does_not_wait_for_a_child_of_another_thread(tmp_path: Path) -> None:
    parent = script(
        """
import threading
started = threading.Event()
pids = []
def work(report):
    report(str(os.getpid()))
    time.sleep(3600)
def tell(line):
    pids.append(line)
    started.set()
options = {"log": log, "time_limit_seconds": 3600, "report": tell}
threading.Thread(target=run_in_child, args=(work,), kwargs=options, daemon=True).start()
started.wait()
print(*pids)
""",
        tmp_path,
    )
    output, _ = parent.communicate(timeout=60)
    assert parent.returncode == 0
    assert wait_until_dead(int(output))


def test_unwritten_output_and_exit_handlers_stay_with_the_parent(tmp_path: Path) -> None:
    parent = script(
        """
import atexit
atexit.register(print, "goodbye")
print("not yet written", end=" ")
result = run_in_child(lambda _: 5, log=log, time_limit_seconds=60)
print(result)
""",
        tmp_path,
    )
    output, _ = parent.communicate(timeout=60)
    assert output == "not yet written 5\ngoodbye\n"


def test_running_here_keeps_prints_in_the_log(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    def work(_: Report) -> int:
        print("by Python")
        os.write(1, b"past Python\n")
        return os.getpid()

    print("before")
    assert run_here(work, log=tmp_path / "log") == os.getpid()
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "before\nafter\n"
    assert (tmp_path / "log").read_text() == "by Python\npast Python\n"


def test_running_here_in_two_threads_gives_each_its_log_and_the_output_back(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = WatchedLock(threading.Lock())
    monkeypatch.setattr(child, "_HERE", lock)

    def first(_: Report) -> None:
        other.start()
        lock.wait_until_asked(2)
        os.write(1, b"first\n")

    def second(_: Report) -> None:
        os.write(1, b"second\n")

    other = threading.Thread(target=run_here, args=(second,), kwargs={"log": tmp_path / "second"})
    run_here(first, log=tmp_path / "first")
    other.join()
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == [
        "first\n",
        "second\n",
    ]


def test_running_here_gives_reasons_and_errors_alike(tmp_path: Path) -> None:
    def leave(_: Report) -> None:
        raise SystemExit("enough")

    def refuse(_: Report) -> None:
        raise ModelError("refused")

    assert run_here(leave, log=tmp_path / "log") == NotCompiled("SystemExit: enough")
    with pytest.raises(ModelError, match="refused"):
        run_here(refuse, log=tmp_path / "log")


def test_errors_are_described_in_one_line_by_their_first_cause() -> None:
    outer = RuntimeError("outer")
    outer.__cause__ = ValueError("\x1b[96mcoloured\x1b[0m\nand long")
    assert describe(outer) == "ValueError: coloured"
    assert describe(ValueError()) == "ValueError"
    assert len(describe(ValueError("x" * 1000))) == 200


def test_a_worker_of_a_pool_may_have_no_children() -> None:
    assert can_have_children()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert not pool.apply(can_have_children)
