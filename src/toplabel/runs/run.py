"""The run: inputs in, one record for each at the output, and a summary."""

from __future__ import annotations

import glob
import itertools
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from toplabel._internal.notebook import Update, bar_in_notebook
from toplabel._internal.notices import Notice, collect_warnings, warn
from toplabel._internal.options import given_options, takes_options
from toplabel._internal.text import number_of
from toplabel.bundle.unknown import Drift
from toplabel.errors import RunError, ToplabelError, UsageError
from toplabel.inference.batch import PredictOptions
from toplabel.inference.cascade import MAKE_FROM, ReducedAnswers, ReducedCounts
from toplabel.inference.predictor import Predictor
from toplabel.models.load import load_predictor
from toplabel.models.options import InferenceOptions, ModelOptions
from toplabel.runs.fingerprint import fingerprint
from toplabel.runs.formats import Columns, load_format
from toplabel.runs.labelling import Labeller, Outcome, label_shards
from toplabel.runs.manifest import Shard
from toplabel.runs.options import RunOptions
from toplabel.runs.readers.inputs import list_entries, open_source
from toplabel.runs.retrying import WAITS, label_again, passing_rows, worth_trying
from toplabel.runs.shard_result import (
    FinishedShard,
    ShardResult,
    Tally,
    commit,
    in_background,
    merge_parts,
    read_results,
    report_rows,
)
from toplabel.runs.sorting import Sorting
from toplabel.runs.state import Output, State, open_state
from toplabel.runs.summary import Progress, RunSummary
from toplabel.runs.worker_pool import open_labeller

Source = str | os.PathLike[str]


logger = logging.getLogger(__name__)

_HTML_SUFFIXES = (".html", ".htm")


@takes_options(RunOptions, ModelOptions, InferenceOptions, as_load=(ModelOptions, InferenceOptions))
def run(
    source: Source | Sequence[Source],
    output: Source,
    *,
    model: Source | Predictor | None = None,
    run_options: RunOptions,
    model_options: ModelOptions,
    inference_options: InferenceOptions,
) -> RunSummary:
    """Label everything, once. The same call resumes a run that was interrupted.

    >>> import tempfile, toplabel
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = toplabel.run("examples", f"{folder}/labels.csv")
    >>> summary.labelled, summary.failed
    (3, 0)

    Args:
        source: A folder, pattern, image, URL (of whatever fsspec opens), list file (.txt, .csv,
            .jsonl), archive (.tar, .zip) or table (.parquet); or several of these.
        output: A file that ends in .parquet, .csv or .jsonl, or a folder for parts.
        model: As `load` takes it, or a predictor.

    Raises:
        RunError: The output is another run's or cannot be written, the inputs cannot be read, or
            too many failed. What is done is kept.
        UsageError: The arguments make no sense.
        ToplabelError: The model cannot be loaded; as for `load`.
    """
    target = Output.of(output, format=run_options.format)
    load_format(target.format)  # its library may be missing
    _check_format(target, run_options)
    inputs = _as_list(source)
    _check_targets(inputs, run_options)
    started = time.monotonic()
    with (
        collect_warnings() as notices,
        _open_model(model, model_options, inference_options) as predictor,
        _write_errors(target),
    ):
        predictor.compile()
        _make_reduced(predictor, inputs, run_options)
        settings = _settings(predictor, run_options)
        columns = Columns(
            scores=run_options.all_scores,
            embedding=predictor.embedding_size if run_options.embeddings else 0,
            unknown=predictor.classifier.unknown is not None,
            precision=settings.fast,
        )
        found = fingerprint(predictor.classifier, settings)
        with open_state(target, found, restart=run_options.restart) as state:
            entries = list_entries(inputs, column=run_options.column)
            missing = state.list_inputs(entries, shard_size=run_options.shard_size)
            work = _Work(state, predictor, settings, columns, run_options, notices)
            told = None if run_options.progress is None else work.tell
            with bar_in_notebook(told, what=target.path.name, total=state.manifest.rows) as update:
                work.label(update)
            work.merge()
            work.judge()
            work.report()
            seconds = time.monotonic() - started
            return work.summary(missing=missing, seconds=seconds)


def _make_reduced(predictor: Predictor, inputs: Sequence[str], options: RunOptions) -> None:
    """Make the reduced program that a fast model lacks, where there are inputs enough."""
    if predictor.fast and not options.embeddings:
        first = itertools.islice(list_entries(inputs, column=options.column), MAKE_FROM)
        predictor.make_reduced([open_source(one) for one in first if one.problem is None])


def _settings(predictor: Predictor, options: RunOptions) -> PredictOptions:
    """Of every prediction of the run."""
    return PredictOptions(
        top_k=options.top_k,
        threshold=options.threshold,
        exact=predictor.exact or options.embeddings,
        fast=predictor.reduced is not None and not options.embeddings,
        all_scores=options.all_scores,
        keep_features=options.embeddings,
        read=predictor.read,
    )


def _check_format(target: Output, options: RunOptions) -> None:
    """Refuse a format that has no place for what is asked for.

    Raises:
        UsageError: Says which has.
    """
    if options.embeddings and target.format == "csv":
        raise UsageError(
            "got embeddings=True and CSV, whose cells hold no lists of numbers; write to a .parquet"
            " or .jsonl file"
        )


def _as_list(source: Source | Sequence[Source]) -> list[str]:
    """The inputs as text."""
    sources = [source] if isinstance(source, str | os.PathLike) else source
    inputs = [os.fspath(one) for one in sources]
    if not inputs:
        raise UsageError("got no input; expected a folder, a pattern, a file or a URL")
    if "-" in inputs:
        raise UsageError(
            "got - for standard input, which cannot be read again by a run that resumes; name a"
            " file"
        )
    if not any("://" in name or glob.has_magic(name) or os.path.lexists(name) for name in inputs):
        raise RunError(f"cannot read {inputs[0]!r}: there is no such file or folder")
    return inputs


def _check_targets(inputs: Sequence[str], options: RunOptions) -> None:
    """Refuse a report that is not HTML, and to sort images into a folder that is an input.

    Raises:
        UsageError: The report has another suffix, or the folder lies in one of the inputs.
    """
    if options.report is not None and not os.fspath(options.report).lower().endswith(
        _HTML_SUFFIXES
    ):
        raise UsageError(
            f"got the report {os.fspath(options.report)!r}; expected a file that ends in .html"
        )
    folder = options.copy_to if options.copy_to is not None else options.link_to
    if folder is None:
        return
    target = os.path.realpath(folder)
    for name in inputs:
        path = os.path.realpath(name)
        if os.path.isdir(path) and os.path.commonpath([path, target]) == path:
            raise UsageError(
                f"got {os.fspath(folder)!r} to sort images into, within the input {name!r}: the"
                " sorted images would become inputs; name a folder outside"
            )


@contextmanager
def _open_model(
    model: Source | Predictor | None, options: ModelOptions, inference: InferenceOptions
) -> Iterator[Predictor]:
    if isinstance(model, Predictor):
        for name in (*given_options(options), *given_options(inference)):
            raise UsageError(
                f"got {name!r} beside a predictor; pass it to the function that made the predictor"
            )
        yield model
    else:
        with load_predictor(model, options, inference) as predictor:
            yield predictor


@contextmanager
def _write_errors(output: Output) -> Iterator[None]:
    """Turn what the disk refuses into one line.

    Raises:
        RunError: Names the file; nothing is lost.
    """
    try:
        yield
    except ToplabelError:
        raise
    except OSError as error:
        raise RunError(
            f"cannot write {error.filename or str(output.path)!r}: {error.strerror or error};"
            " finished parts are kept: fix the cause, then run the same command again"
        ) from error


class _Work:
    """What is left to do of a run.

    Args:
        state: Of the run, locked, its inputs listed.
        predictor: The model, compiled where it can be.
        settings: Of every prediction.
        columns: What records have beyond the columns of every run.
        options: What the run is to do.
        notices: What this call assumed or noticed; it grows.
    """

    def __init__(
        self,
        state: State,
        predictor: Predictor,
        settings: PredictOptions,
        columns: Columns,
        options: RunOptions,
        notices: Sequence[Notice],
    ) -> None:
        self._state = state
        self._predictor = predictor
        self._settings = settings
        self._columns = columns
        self._options = options
        self._notices = notices
        for text in state.noticed:  # in an earlier call; its records say it
            warn(text, about="outputs")
        self._format = load_format(state.output.format)
        self._sorting = Sorting.of(
            predictor.labels, copy_to=options.copy_to, link_to=options.link_to
        )
        self._tally = Tally(predictor.labels)
        self._pending: list[int] = []
        self._passing: list[int] = []  # finished shards with failures whose cause may pass
        self._recovered = 0
        for number, result in read_results(state, check_inputs=options.check_inputs):
            if result is None:
                self._pending.append(number)
            else:
                self._add(number, result)
        self._before = self._done = self._tally.rows
        self._failed = self._tally.failed
        self._began = time.monotonic()
        self._update: Update | None = None

    def label(self, update: Update | None) -> None:
        """Label and commit every shard that is not done.

        Args:
            update: Called with the numbers of inputs done and failed.

        Raises:
            RunError: More inputs failed than may.
            OSError: A part cannot be written.
        """
        self._update = update
        self._sort_done()
        if self._pending and self._state.merged is not None:  # from parts that are no longer all
            self._state.remember_merged(None)
        again = list(self._passing)
        if self._pending:
            self._count(0, 0)
            finish = self._finish_on_ray if self._options.on == "ray" else self._finish_here
            for finished in in_background(self._commit, finish()):
                self._add(finished.shard.number, finished.result)
            self._remember_noticed()
        self._retry(worth_trying(self._state, again, far_only=False))
        for wait in WAITS:
            far = worth_trying(self._state, self._passing, far_only=True)
            if not far:
                break
            logger.info("waiting %g s for what could not be fetched", wait)
            time.sleep(wait)
            self._retry(far)

    def _add(self, number: int, result: ShardResult) -> None:
        self._tally.add(result)
        if passing_rows(result):
            self._passing.append(number)

    def _retry(self, rows: Mapping[int, list[int]]) -> None:
        """Label these rows of shards again: they failed for a cause that may pass."""
        if not rows:
            return
        with self._open_labeller() as labeller:
            for before, finished in label_again(
                self._state, rows, labeller, self._format, self._columns
            ):
                self._state.remember_merged(None)
                self._commit(finished)
                self._tally.remove(before)
                self._tally.add(finished.result)
                recovered = len(before.failures) - len(finished.result.failures)
                self._recovered += recovered
                self._failed -= recovered
                if not passing_rows(finished.result):
                    self._passing.remove(finished.shard.number)

    def merge(self) -> None:
        """Write the single file that was asked for, unless it is there already.

        Raises:
            OSError: It cannot be written.
        """
        if self._state.output.is_file:
            merge_parts(self._state, self._format)

    @property
    def _drift(self) -> Drift | None:
        """How many images are unknown; None where the model cannot tell."""
        detector, tally = self._predictor.classifier.unknown, self._tally
        return (
            None if detector is None else detector.drift(tally.unknown, tally.rows - tally.failed)
        )

    @property
    def _fast(self) -> ReducedAnswers | None:
        """What came of reduced precision; None where it was not used."""
        program, tally = self._predictor.reduced, self._tally
        if not self._settings.fast or program is None or not (tally.reduced or tally.audited):
            return None  # it is not asked for, or all went to a GPU
        counts = ReducedCounts(
            images=tally.rows - tally.failed,
            reduced=tally.reduced,
            audited=tally.audited,
            changed=tally.changed,
            unaudited=tally.reduced if tally.changed else 0,
        )
        return ReducedAnswers.of(program, counts)

    def judge(self) -> None:
        """Warn where more images are unknown than chance explains, or the audit found a change."""
        drift, fast = self._drift, self._fast
        if drift is not None and drift.is_significant:
            warn(str(drift))
        if fast is not None and fast.counts.changed:
            warn(str(fast))

    def report(self) -> None:
        """Write the report that was asked for.

        Raises:
            RunError: It cannot be written.
        """
        if self._options.report is None:
            return
        from toplabel.runs.report.report import write_report  # only a run with a report needs it

        write_report(
            os.fspath(self._options.report),
            report_rows(self._state),
            labels=self._predictor.labels,
            model=self._predictor.name,
            title=str(self._state.output.path),
            threads=self._predictor.threads,
            warnings=self._warnings(),
            drift=self._drift,
            fast=self._fast,
            has_threshold=self._options.threshold is not None
            or self._predictor.classifier.threshold is not None
            or self._predictor.classifier.multi_label,
        )

    def summary(self, *, missing: int, seconds: float) -> RunSummary:
        """The counts of the whole run."""
        tally = self._tally
        return RunSummary(
            output=self._state.output.path,
            model=self._predictor.name,
            inputs=tally.rows,
            labelled=tally.rows - tally.failed,
            failed=tally.failed,
            unsure=tally.unsure,
            unlabelled=tally.unlabelled,
            new=tally.rows - self._before,
            recovered=self._recovered,
            passing=tally.passing,
            missing=missing,
            seconds=seconds,
            labels=tally.labels,
            errors=tally.errors,
            warnings=self._warnings(),
            drift=self._drift,
            fast=self._fast,
        )

    def _warnings(self) -> tuple[str, ...]:
        """What was assumed or noticed, of the model and of this call."""
        return tuple(dict.fromkeys((*self._predictor.warnings, *self._notices)))

    def _finish_here(self) -> Iterator[FinishedShard]:
        shards = self._checked(self._state.manifest.read_shards(self._pending))
        with self._open_labeller() as labeller:
            self._began = time.monotonic()
            for shard, outcomes in label_shards(
                labeller, shards, self._count_outcomes, noticed=self._state.noticed
            ):
                yield FinishedShard.of(shard, outcomes, self._format, self._columns)

    def _open_labeller(self) -> AbstractContextManager[Labeller]:
        rows = self._state.manifest.rows  # of all calls, so that each decides alike
        return open_labeller(self._predictor, self._settings, count=rows)

    def _finish_on_ray(self) -> Iterator[FinishedShard]:
        from toplabel.runs.cluster import finish_on_ray  # imports Ray

        predictor = self._predictor
        bundle = predictor.classifier.bundle
        if bundle is None:
            reason = predictor.classifier.unsaved or "it was not compiled"
            raise RunError(f"{predictor.name} cannot be sent to a cluster: {reason}")
        for finished in finish_on_ray(
            bundle,
            self._settings,
            self._state.manifest,
            self._pending,
            engine=predictor.classifier.program_engine,
            format=self._state.output.format,
            columns=self._columns,
            batch_size=predictor.batch_size,
            noticed=self._state.noticed,
        ):
            self._count(len(finished.result), len(finished.result.failures))
            yield finished

    def _checked(self, shards: Iterator[Shard]) -> Iterator[Shard]:
        for shard in shards:
            if self._sorting is not None:
                self._sorting.check(shard.entries)
            yield shard

    def _sort_done(self) -> None:
        """Sort the images of shards that were done before, where that has not been done."""
        if self._sorting is None or self._state.is_sorted(self._sorting.target):
            return
        done = sorted(set(range(self._state.manifest.shards)).difference(self._pending))
        for shard in self._state.manifest.read_shards(done):
            result = ShardResult.read(self._state.result(shard.number))
            if result is not None:
                self._sorting.sort(shard.entries, result.classes(), result.unknown or ())
        self._state.remember_sorted(self._sorting.target)

    def _commit(self, finished: FinishedShard) -> FinishedShard:
        if self._sorting is not None:
            result = finished.result
            self._sorting.sort(finished.shard.entries, result.classes(), result.unknown or ())
        self._remember_noticed()
        commit(self._state, finished)
        return finished

    def _remember_noticed(self) -> None:
        """Store what outputs look like, so that later calls say it, too."""
        now = (notice for notice in self._notices if notice.about == "outputs")
        known = self._state.noticed
        noticed = tuple(dict.fromkeys((*known, *self._predictor.noticed, *now)))
        if noticed != known:
            self._state.remember_noticed(noticed)

    def _count_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        self._count(len(outcomes), sum(o.prediction.error is not None for o in outcomes))

    def tell(self, done: int, failed: int) -> None:
        """Call what the user gave with how far the run is."""
        assert self._options.progress is not None
        self._options.progress(
            Progress(
                inputs=self._state.manifest.rows,
                before=self._before,
                done=done,
                failed=failed,
                seconds=time.monotonic() - self._began,
            )
        )

    def _count(self, done: int, failed: int) -> None:
        """Count what has just been labelled, and report the progress.

        Raises:
            RunError: Too many have failed.
        """
        self._done += done
        self._failed += failed
        if self._update is not None:
            self._update(self._done, self._failed)
        most = self._options.max_errors
        if most is not None and self._failed > most:
            raise RunError(
                f"stopped: {number_of(self._failed, 'input')} failed, more than max_errors={most};"
                " finished parts are kept"
            )
