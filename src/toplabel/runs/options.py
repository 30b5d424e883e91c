"""Options: what a run is to do beyond labelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from toplabel._internal.options import option
from toplabel.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from toplabel.runs.summary import Progress

Place = Literal["here", "ray"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run is to do beyond labelling.

    Raises:
        UsageError: Two contradict each other, or a number is out of range.
    """

    top_k: int = option(5, shell=False, help="How many classes each record has.")
    threshold: float | None = option(
        None, shell=False, help="In [0, 1]: a best score below it is marked `unsure`."
    )
    format: str | None = option(
        None,
        choices=("parquet", "csv", "jsonl"),
        help="Format of the parts in a folder. By default parquet.",
    )
    all_scores: bool = option(False, help="Also write the scores of all classes, as float16.")
    embeddings: bool = option(
        False,
        help="Also write the features of each image, as float32; images are then read in full. Not"
        " for CSV.",
    )
    report: str | os.PathLike[str] | None = option(
        None, metavar="FILE", help="Also write an HTML page with images and counts."
    )
    copy_to: str | os.PathLike[str] | None = option(
        None, metavar="DIR", help="Copy images into a folder for each label."
    )
    link_to: str | os.PathLike[str] | None = option(
        None, metavar="DIR", help="Link to images from a folder for each label."
    )
    on: Place = option(
        "here",
        choices=get_args(Place),
        help="Where to label: here, or on the Ray cluster of RAY_ADDRESS, else a local one.",
    )
    column: str | None = option(
        None,
        metavar="NAME",
        help="Column of Parquet, CSV and JSONL inputs that holds the image or its path.",
    )
    check_inputs: bool = option(
        False, help="Label again the parts with inputs that have changed in size or time."
    )
    restart: bool = option(
        False, help="Remove what an earlier run has written to the output, and start over."
    )
    max_errors: int | None = option(
        None, minimum=0, metavar="N", help="Stop when more inputs than this have failed."
    )
    shard_size: int | None = option(
        None,
        minimum=1,
        metavar="N",
        help="Inputs per part, the most that a crash can lose. By default a thousandth of all, from"
        " 256 to 10,240.",
    )
    progress: Callable[[Progress], None] | None = option(
        None,
        shell=False,
        help="Called after every few images. By default a bar in notebooks, where tqdm is.",
    )

    def __post_init__(self) -> None:
        if self.copy_to is not None and self.link_to is not None:
            raise UsageError("got copy_to and link_to; expected one of them")
        if self.shard_size is not None and self.shard_size < 1:
            raise UsageError(f"got shard_size={self.shard_size}; expected at least 1")
        if self.max_errors is not None and self.max_errors < 0:
            raise UsageError(f"got max_errors={self.max_errors}; expected at least 0")
        if self.on not in ("here", "ray"):
            raise UsageError(f"got on={self.on!r}; expected 'here' or 'ray'")
