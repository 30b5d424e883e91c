"""Fixtures that several test files share."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# the same examples each time, however slow the machine is
settings.register_profile(
    "toplabel",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("toplabel")

# before torch is imported, and for the processes of tests: several share the processors, and a
# thread that waits for another one's part spins meanwhile; one second became seventeen
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# no process goes on when the test that has started it is over
os.environ["TOPLABEL_COMPILE"] = "wait"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts what runs in the background so, and processes of tests would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

CHROMIUM = Path("/usr/bin/chromium")
SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos and hostile files, or a skip that says why."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for what begins before a test does, such as the server of a module."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TOPLABEL_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, so that no test sees another's or the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TOPLABEL_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def one_thread_of_torch() -> Iterator[None]:
    """PyTorch's engine asks for one on each processor, for the rest of the process."""
    yield
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "get_num_threads") and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium, or a skip that says why."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"], timeout=120_000
        )
        yield chromium
        chromium.close()
