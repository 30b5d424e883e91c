"""Notices: whom a warning reaches, and where it points."""

import logging
import pickle
import threading
import warnings
from contextlib import ExitStack

import pytest

from toplabel import ToplabelWarning
from toplabel._internal.notices import (
    Notice,
    collect_warnings,
    forwarded_to,
    quiet_libraries,
    show_warnings,
    warn,
)


def test_a_warning_points_at_the_line_that_called_toplabel() -> None:
    with pytest.warns(ToplabelWarning, match="no class names") as found:
        warn("no class names")
    assert [one.filename for one in found] == [__file__]


def test_a_collector_gets_each_text_once() -> None:
    with warnings.catch_warnings(), collect_warnings() as texts:
        warnings.simplefilter("ignore")
        warn("a")
        with collect_warnings() as inner:
            warn("b")
            warn("b")
        warn("a")
    assert (texts, inner) == (["a", "b"], ["b"])


def test_a_notice_keeps_what_it_is_about_wherever_it_goes() -> None:
    notice = Notice("no  class\nnames", "labels")
    with pytest.warns(ToplabelWarning), collect_warnings() as noticed:
        warn(pickle.loads(pickle.dumps(notice)))
    assert noticed == ["no class names"]
    assert noticed[0].about == "labels"


def test_a_warning_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(ToplabelWarning):
        warn("no class names")
    assert caplog.record_tuples == [("toplabel.notices", logging.WARNING, "no class names")]


def test_nothing_is_collected_outside() -> None:
    with collect_warnings() as texts:
        pass
    with pytest.warns(ToplabelWarning):
        warn("late")
    assert texts == []


def test_quiet_libraries_that_overlap_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    first, second = ExitStack(), ExitStack()
    with second:
        with first:
            first.enter_context(quiet_libraries())
            second.enter_context(quiet_libraries())
        warnings.warn("of a library about itself", UserWarning, stacklevel=1)
    assert warnings.filters == before
    with pytest.raises(UserWarning):  # as tests have it
        warnings.warn("of a library about itself", UserWarning, stacklevel=1)


def test_what_is_told_is_heard_while_libraries_are_quiet() -> None:
    def body() -> None:
        warnings.warn("of a library about itself", UserWarning, stacklevel=1)
        warn("here")
        thread = threading.Thread(target=warn, args=("in another thread",))
        thread.start()
        thread.join()

    with pytest.warns(ToplabelWarning) as found, quiet_libraries():
        body()
    assert [str(one.message) for one in found] == ["here", "in another thread"]


def test_filters_that_are_reset_meanwhile_are_no_error() -> None:
    with warnings.catch_warnings():
        with quiet_libraries():
            warnings.resetwarnings()
        assert warnings.filters == []


def test_the_deprecated_notify_still_gets_everything() -> None:
    lines: list[str] = []
    before = list(logging.getLogger("toplabel").handlers)

    def body() -> None:
        with forwarded_to(lines.append):
            logging.getLogger("toplabel.models").info("compiling %s", "resnet18")
            warn("no class names")

    with pytest.warns(DeprecationWarning, match="notify="), pytest.warns(ToplabelWarning):
        body()
    assert lines == ["compiling resnet18", "no class names"]
    assert logging.getLogger("toplabel").handlers == before


@pytest.mark.parametrize("tells", [True, False])
def test_shown_warnings_are_told_once_and_those_of_others_stay(
    tells: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *rest: lines.append(f"other: {message}")
        show_warnings(lines.append if tells else None)
        for _ in range(2):
            warn("no class names")
        warnings.warn_explicit("odd file", UserWarning, "TiffImagePlugin.py", 1, "PIL")
        warnings.warn("of another library", UserWarning, stacklevel=1)
    assert lines == ["no class names"] * tells + ["other: of another library"]
    assert capsys.readouterr().err == ""
