"""Progress in a notebook: the number of images done in, a bar of tqdm's out, where there is one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

Update = Callable[[int, int], None]


def in_notebook() -> bool:
    """Whether a kernel of IPython's runs this process: a notebook, not a terminal."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if hasattr(ipython, "get_ipython") else None
    return shell is not None and "IPKernelApp" in shell.config


@contextmanager
def bar_in_notebook(given: Update | None, *, what: str, total: int) -> Iterator[Update | None]:
    """What to call with the numbers of images done and failed.

    Args:
        given: What the caller wants to be called; then it is that.
        what: Stands beside the bar.
        total: Number of all images.
    """
    bar = _tqdm() if given is None and in_notebook() else None
    if bar is None:
        yield given
        return
    with bar(desc=what, total=total, unit="image") as shown:

        def update(done: int, failed: int) -> None:
            if failed:
                shown.set_postfix(failed=failed, refresh=False)
            shown.update(done - shown.n)

        yield update


def _tqdm() -> Any:
    """Its class for this place; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it says so, and draws with text
            return import_module("tqdm.auto").tqdm
    except ImportError:
        return None
