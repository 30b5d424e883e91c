"""Work: what is left of a run, done. Pending shards labelled, kept, counted and joined."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

from toplabel.errors import RunError
from toplabel.inference.batch import Settings
from toplabel.inference.predictor import Predictor
from toplabel.runs.commit import Finished, behind, keep
from toplabel.runs.formats import load_format
from toplabel.runs.manifest import Shard
from toplabel.runs.merge import is_joined, join_parts, was_changed
from toplabel.runs.options import RunOptions
from toplabel.runs.outcome import Outcome
from toplabel.runs.progress import Progress
from toplabel.runs.resume import look_back
from toplabel.runs.shard_result import Mark
from toplabel.runs.sorting import Sorting
from toplabel.runs.state import State
from toplabel.runs.summary import RunSummary, Tally
from toplabel.runs.worker_pool import label_with, open_crew


class Work:
    """What is left to do of a run.

    Args:
        state: The run's memory, locked, its inputs listed.
        predictor: The model, compiled where it can be.
        settings: What is wanted of every prediction.
        options: What the run is to do.
        notify: Called with one line of text when there is something to tell.
    """

    def __init__(
        self,
        state: State,
        predictor: Predictor,
        settings: Settings,
        options: RunOptions,
        notify: Callable[[str], None],
    ) -> None:
        self._state = state
        self._predictor = predictor
        self._settings = settings
        self._options = options
        self._notify = notify
        self._format = load_format(state.output.format)
        self._sorting = Sorting.of(
            predictor.labels, copy_to=options.copy_to, link_to=options.link_to
        )
        self._tally = Tally(predictor.labels)
        self._pending: list[int] = []
        for number, mark in look_back(state, check_inputs=options.check_inputs):
            if mark is None:
                self._pending.append(number)
            else:
                self._tally.add(mark)
        self._before = self._done = self._tally.rows
        self._failed = self._tally.failed
        self._began = time.monotonic()

    def label(self) -> None:
        """Label and keep every shard that is not done.

        Raises:
            RunError: More inputs failed than may.
            OSError: A part cannot be written.
        """
        self._sort_done()
        if not self._pending:
            return
        if self._state.joined is not None:  # of parts that are no longer all
            self._state.remember_joined(None)
        self._count(0, 0)
        for finished in behind(self._keep, self._finish_shards()):
            self._tally.add(finished.mark)

    def join(self) -> None:
        """Write the single file that was asked for, unless it stands there already.

        Raises:
            OSError: It cannot be written.
        """
        if not self._state.output.is_file or is_joined(self._state):
            return
        if was_changed(self._state):
            path = str(self._state.output.path)
            self._notify(f"{path!r} was changed since this run wrote it; it is written anew")
        join_parts(self._state, self._format)

    def report(self) -> None:
        """Write the page that was asked for.

        Raises:
            RunError: It cannot be written.
        """
        if self._options.report is None:
            return
        from toplabel.runs.report import write_report  # only a run with a page needs it
        from toplabel.runs.report_rows import shown_inputs

        write_report(
            os.fspath(self._options.report),
            shown_inputs(self._state),
            labels=self._predictor.labels,
            model=self._predictor.name,
            title=str(self._state.output.path),
            threads=self._predictor.threads,
        )

    def summary(self, *, missing: int, seconds: float) -> RunSummary:
        """What it has come to."""
        tally = self._tally
        return RunSummary(
            output=self._state.output.path,
            model=self._predictor.name,
            inputs=tally.rows,
            labelled=tally.rows - tally.failed,
            failed=tally.failed,
            unsure=tally.unsure,
            new=tally.rows - self._before,
            missing=missing,
            seconds=seconds,
            labels=tally.labels,
            errors=tally.errors,
        )

    def _finish_shards(self) -> Iterator[Finished]:
        if self._options.on == "ray":
            return self._finish_on_ray()
        return self._finish_here()

    def _finish_here(self) -> Iterator[Finished]:
        shards = self._checked(self._state.manifest.read_shards(self._pending))
        all_scores = self._settings.all_scores
        with open_crew(self._predictor, self._settings, self._notify) as crew:
            self._began = time.monotonic()
            for shard, outcomes in label_with(crew, shards, self._see):
                yield Finished.of(shard, outcomes, self._format, all_scores=all_scores)

    def _finish_on_ray(self) -> Iterator[Finished]:
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
            format=self._state.output.format,
            batch_size=predictor.batch_size,
            notify=self._notify,
        ):
            self._count(len(finished.mark), len(finished.mark.failures))
            yield finished

    def _checked(self, shards: Iterator[Shard]) -> Iterator[Shard]:
        for shard in shards:
            if self._sorting is not None:
                self._sorting.check(shard.entries)
            yield shard

    def _sort_done(self) -> None:
        """Put the images of shards that were done before into their folders, where they are not."""
        if self._sorting is None or self._state.is_sorted(self._sorting.place_name):
            return
        done = sorted(set(range(self._state.manifest.shards)).difference(self._pending))
        for shard in self._state.manifest.read_shards(done):
            mark = Mark.read(self._state.mark(shard.number))
            if mark is not None:
                self._sorting.check(shard.entries)
                self._sorting.place(shard.entries, mark.indices[:, 0])
        self._state.remember_sorted(self._sorting.place_name)

    def _keep(self, finished: Finished) -> Finished:
        if self._sorting is not None:
            self._sorting.check(finished.shard.entries)
            self._sorting.place(finished.shard.entries, finished.mark.indices[:, 0])
        keep(self._state, finished)
        return finished

    def _see(self, outcomes: Sequence[Outcome]) -> None:
        self._count(len(outcomes), sum(o.prediction.error is not None for o in outcomes))

    def _count(self, done: int, failed: int) -> None:
        """Count and tell what has just been labelled.

        Raises:
            RunError: Too many have failed.
        """
        self._done += done
        self._failed += failed
        self._tell()
        most = self._options.max_errors
        if most is not None and self._failed > most:
            raise RunError(
                f"stopped: {self._failed:,} inputs failed, more than the {most:,} of max_errors;"
                " what is done is kept"
            )

    def _tell(self) -> None:
        if self._options.progress is not None:
            self._options.progress(
                Progress(
                    inputs=self._state.manifest.rows,
                    before=self._before,
                    done=self._done,
                    failed=self._failed,
                    seconds=time.monotonic() - self._began,
                )
            )
