"""The run: inputs in, one record for each at the output, and a summary."""

from __future__ import annotations

import glob
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Unpack

from toplabel.errors import RunError, ToplabelError, UsageError
from toplabel.inference.batch import Settings
from toplabel.inference.predictor import Predictor
from toplabel.models.load import LoadOptions, load
from toplabel.runs.fingerprint import fingerprint
from toplabel.runs.formats import load_format
from toplabel.runs.options import RunKeywords, RunOptions
from toplabel.runs.output import Output
from toplabel.runs.readers import list_entries
from toplabel.runs.state import open_state
from toplabel.runs.summary import RunSummary
from toplabel.runs.work import Work

Source = str | os.PathLike[str]


class RunAndLoadOptions(RunKeywords, LoadOptions, total=False):
    """Keyword arguments of `run`: what it is to do, and how the model is loaded."""


_PAGES = (".html", ".htm")
_RUN_KEYWORDS = tuple(RunKeywords.__annotations__)


def run(
    source: Source | Sequence[Source],
    output: Source,
    *,
    model: Source | Predictor | None = None,
    **options: Unpack[RunAndLoadOptions],
) -> RunSummary:
    """Label everything, once. The same call goes on where an earlier one was stopped.

    >>> import tempfile, toplabel
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = toplabel.run("examples", f"{folder}/labels.csv")
    >>> summary.labelled, summary.failed
    (3, 0)

    Args:
        source: A folder, pattern, picture, URL (of whatever fsspec opens), list file (.txt, .csv,
            .jsonl), archive (.tar, .zip) or table (.parquet); or several of these.
        output: A file that ends in .parquet, .csv or .jsonl, or a folder for parts.
        model: As `load` takes it, or a predictor.
        options: What the run is to do, see `RunOptions`; how to load the model, see `load`.

    Raises:
        RunError: The output is another run's or cannot be written, the inputs cannot be read, or
            too many failed. What is done is kept.
        UsageError: The arguments make no sense.
        ToplabelError: The model cannot be loaded; as for `load`.
    """
    said: dict[str, Any] = dict(options)
    wanted = RunOptions(**{name: said.pop(name) for name in _RUN_KEYWORDS if name in said})
    target = Output.of(output, format=wanted.format)
    load_format(target.format)  # its library may be missing
    inputs = _several(source)
    _check_targets(inputs, wanted)
    started = time.monotonic()
    notify = said.get("notify", _warn)
    with _open_model(model, said) as predictor, _write_errors(target):
        predictor.compile()
        settings = Settings(
            top_k=wanted.top_k,
            threshold=wanted.threshold,
            exact=predictor.exact,
            all_scores=wanted.all_scores,
            read=predictor.read,
        )
        found = fingerprint(predictor.classifier, settings)
        with open_state(target, found, restart=wanted.restart) as state:
            entries = list_entries(inputs, column=wanted.column)
            changes = state.list_inputs(entries, shard_size=wanted.shard_size)
            work = Work(state, predictor, settings, wanted, notify)
            work.label()
            work.join()
            work.report()
            return work.summary(missing=changes.missing, seconds=time.monotonic() - started)


def _warn(text: str) -> None:
    """Warn as Python does, where nobody else wants to be told."""
    warnings.warn(text, stacklevel=2)


def _several(source: Source | Sequence[Source]) -> list[str]:
    """The inputs as text."""
    sources = [source] if isinstance(source, str | os.PathLike) else source
    inputs = [os.fspath(one) for one in sources]
    if not inputs:
        raise UsageError("got no input; expected a folder, a pattern, a file or a URL")
    if "-" in inputs:
        raise UsageError(
            "got - for standard input, which cannot be read again by a run that goes on; name a"
            " file"
        )
    if not any("://" in name or glob.has_magic(name) or os.path.lexists(name) for name in inputs):
        raise RunError(f"cannot read {inputs[0]!r}: there is no such file or folder")
    return inputs


def _check_targets(inputs: Sequence[str], wanted: RunOptions) -> None:
    """Refuse a page that is no page, and to sort images into a folder that is an input.

    Raises:
        UsageError: The report has another ending, or the folder lies in one of the inputs.
    """
    if wanted.report is not None and not os.fspath(wanted.report).lower().endswith(_PAGES):
        raise UsageError(
            f"got the report {os.fspath(wanted.report)!r}; expected a file that ends in .html"
        )
    folder = wanted.copy_to if wanted.copy_to is not None else wanted.link_to
    if folder is None:
        return
    place = os.path.realpath(folder)
    for name in inputs:
        path = os.path.realpath(name)
        if os.path.isdir(path) and os.path.commonpath([path, place]) == path:
            raise UsageError(
                f"got {os.fspath(folder)!r} to sort images into, within the input {name!r}, whose"
                " images they would become; name a folder outside"
            )


@contextmanager
def _open_model(model: Source | Predictor | None, options: dict[str, Any]) -> Iterator[Predictor]:
    if not isinstance(model, Predictor):
        with load(model, **options) as predictor:
            yield predictor
    elif options:
        raise UsageError(
            f"got {next(iter(options))!r} beside a predictor; give it to the function that made it"
        )
    else:
        yield model


@contextmanager
def _write_errors(output: Output) -> Iterator[None]:
    """Turn what the disk refuses into one line.

    Raises:
        RunError: It says where, and that nothing is lost.
    """
    try:
        yield
    except ToplabelError:
        raise
    except OSError as error:
        raise RunError(
            f"cannot write {error.filename or str(output.path)!r}: {error.strerror or error}; what"
            " is done is kept: mend that, then run the same command again"
        ) from error
