"""Options: what a run is to do beyond labelling."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict

from toplabel.errors import UsageError
from toplabel.runs.summary import Progress

Place = Literal["here", "ray"]


class RunKeywords(TypedDict, total=False):
    """Keyword arguments of `run`; what each means stands at `RunOptions`."""

    top_k: int
    threshold: float | None
    all_scores: bool
    format: str | None
    shard_size: int | None
    column: str | None
    restart: bool
    check_inputs: bool
    max_errors: int | None
    copy_to: str | os.PathLike[str] | None
    link_to: str | os.PathLike[str] | None
    report: str | os.PathLike[str] | None
    on: Place
    progress: Callable[[Progress], None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run is to do.

    Args:
        top_k: How many classes each record gives.
        threshold: In [0, 1]: a best score below it is marked `unsure`.
        all_scores: Give the scores of all classes, too, as float16.
        format: Of the parts in a folder: "parquet" (by default), "csv" or "jsonl".
        shard_size: Inputs of one part, which is what a crash costs at most; by default a
            thousandth of all, from 256 to 10,240.
        column: Of Parquet, CSV and JSONL inputs: where the image, or its path, stands.
        restart: Remove what an earlier run has left at the output, and begin anew.
        check_inputs: Label anew the parts with inputs that have changed in size or time.
        max_errors: Stop when more inputs than that have failed.
        copy_to: A folder into which each labelled image is copied, into one of its label's name.
        link_to: The same with links.
        report: An HTML file to write, to look at the results.
        on: "here", or "ray": on the cluster of RAY_ADDRESS, or a local one.
        progress: Called after every few images.

    Raises:
        UsageError: Two contradict each other, or a number is out of range.
    """

    top_k: int = 5
    threshold: float | None = None
    all_scores: bool = False
    format: str | None = None
    shard_size: int | None = None
    column: str | None = None
    restart: bool = False
    check_inputs: bool = False
    max_errors: int | None = None
    copy_to: str | os.PathLike[str] | None = None
    link_to: str | os.PathLike[str] | None = None
    report: str | os.PathLike[str] | None = None
    on: Place = "here"
    progress: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        if self.copy_to is not None and self.link_to is not None:
            raise UsageError("got copy_to and link_to; expected one of them")
        if self.shard_size is not None and self.shard_size < 1:
            raise UsageError(f"got shard_size={self.shard_size}; expected at least 1")
        if self.max_errors is not None and self.max_errors < 0:
            raise UsageError(f"got max_errors={self.max_errors}; expected at least 0")
        if self.on not in ("here", "ray"):
            raise UsageError(f"got on={self.on!r}; expected 'here' or 'ray'")
