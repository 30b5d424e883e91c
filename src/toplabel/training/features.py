"""Images in, their features by a model out; those computed before come from the cache.

features/MODEL/NUMBER.npz   of up to 64 images each: what their files were, features, warnings

A file that changed is another one. What is there is written every few seconds, so that Ctrl-C
loses little; the oldest goes where the folder grows beyond 1 GB.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal import platform
from toplabel._internal.ordered_map import batched, ordered_map
from toplabel._version import __version__
from toplabel.bundle import cache
from toplabel.inference.batch import PredictOptions
from toplabel.runs.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from toplabel.inference.batch import Numbered
    from toplabel.inference.prediction import Failure, Prediction
    from toplabel.inference.predictor import Predictor

logger = logging.getLogger(__name__)

FOLDER = "features"
_AT_ONCE = 64
"""Images whose features are written together: 330 KB of the built-in model's."""

_MOST_BYTES = 1 << 30
_DIGEST_BYTES = 16
_OF_LABELS = ("labels", "activation", "multi_label", "calibration", "toplabel", "top_k")
"""Of a model's fingerprint: what features do not depend on."""


Row = tuple[Any, tuple[str, ...]]
"""Of one image: its features (D,), and what was noticed in reading it."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """The features of N images, M of which could be read.

    Args:
        features: float32 (M, D), of those that could, in order.
        readable: bool (N,), which those are.
        failures: Index of an image -> why it could not be used.
        doubtful: What was noticed in reading images -> the indices of those.
        known: How many came from the cache.
    """

    features: NDArray[np.float32]
    readable: NDArray[np.bool_]
    failures: dict[int, Failure]
    doubtful: dict[str, list[int]]
    known: int


@dataclass(frozen=True, slots=True)
class View:
    """How a copy of an image is changed before its features are computed.

    Args:
        name: Tells it from others, wherever it changes.
        change: Makes of a source what is labelled in its place; raises where it cannot be read.
    """

    name: str
    change: Callable[[object], object]


def _label_changed(
    label: Callable[[Sequence[Numbered]], list[Prediction]], view: View, batch: Sequence[Numbered]
) -> list[Prediction]:
    """The predictions for changed copies; what cannot be read fails as it is."""
    changed: list[Numbered] = []
    for index, source in batch:
        try:
            changed.append((index, view.change(source)))
        except Exception:
            changed.append((index, source))
    return label(changed)


def compute_features(
    predictor: Predictor,
    sources: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
    view: View | None = None,
) -> ImageFeatures:
    """The features of images, by the code of every prediction, large JPEGs decoded in full.

    On a CPU each image goes through the network alone, so that its features are the same to the
    bit whatever stands beside it. Memory beyond the features (4 D bytes an image: 26 MB for 5,000
    of the built-in model's) does not depend on the number of images.

    Args:
        predictor: The model.
        sources: N paths or URLs.
        progress: Called with the number of images done, and of those that failed.
        view: Of changed copies of the images instead of them.

    Raises:
        ModelError: The model gives no features; says why.
    """
    labeller = predictor.batch_labeller(top_k=1, exact=True, keep_features=True)
    size = 1 if predictor.classifier.parallel else labeller.batch_size
    kept = _KeptFeatures.of(predictor, view)
    label = labeller.label if view is None else partial(_label_changed, labeller.label, view)
    collected = _Collected(len(sources))
    stamps = [kept.stamp_of(source) for source in sources]
    collected.rows = kept.find(stamps)
    missing = [index for index in range(len(sources)) if index not in collected.rows]
    known = collected.done
    work = batched(((index, sources[index]) for index in missing), size)
    try:
        order = iter(missing)
        for predictions in ordered_map(label, work, workers=labeller.workers):
            for prediction, index in zip(predictions, islice(order, len(predictions)), strict=True):
                collected.take(index, prediction, about_model=predictor.warnings)
                if prediction.error is None:
                    kept.add(stamps[index], *collected.rows[index])
            if progress is not None:
                progress(collected.done, len(collected.failures))
    finally:
        kept.write()
    return collected.result(known)


@dataclass(slots=True, eq=False)
class _Collected:
    """What is known of the images so far."""

    count: int
    rows: dict[int, Row] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)

    @property
    def done(self) -> int:
        return len(self.rows) + len(self.failures)

    def take(self, index: int, prediction: Prediction, *, about_model: tuple[str, ...]) -> None:
        if prediction.error is not None:
            self.failures[index] = prediction.error
            return
        assert prediction.features is not None
        of_image = tuple(text for text in prediction.warnings if text not in about_model)
        self.rows[index] = prediction.features, of_image

    def result(self, known: int) -> ImageFeatures:
        readable = np.zeros(self.count, np.bool_)
        doubtful: defaultdict[str, list[int]] = defaultdict(list)
        order = sorted(self.rows)
        size = len(self.rows[order[0]][0]) if order else 0
        features = np.empty((len(order), size), np.float32)
        for place, index in enumerate(order):
            readable[index] = True
            features[place], warnings = self.rows.pop(index)  # one copy at a time
            for text in warnings:
                doubtful[text].append(index)
        return ImageFeatures(features, readable, self.failures, dict(doubtful), known)


class _KeptFeatures:
    """Features of one model in the cache.

    Args:
        folder: Of this model; None: nothing is kept, as of a model without a bundle.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._waiting: list[tuple[bytes, NDArray[np.float32], tuple[str, ...]]] = []

    @classmethod
    def of(cls, predictor: Predictor, view: View | None) -> _KeptFeatures:
        if predictor.classifier.bundle is None:
            return cls(None)
        settings = PredictOptions(top_k=1, exact=True, keep_features=True, read=predictor.read)
        found = fingerprint(predictor.classifier, settings)
        parts = {name: value for name, value in found.items() if name not in _OF_LABELS}
        named = [] if view is None else [view.name]
        text = json.dumps([__version__, parts, *named], sort_keys=True)
        return cls(cache.cache_dir() / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:32])

    def stamp_of(self, source: str) -> bytes | None:
        """What tells a file from a changed one; None where it is no file, or none is kept."""
        if self._folder is None:
            return None
        try:
            signature = cache.FileSignature.of(source)
        except (OSError, ValueError):
            return None
        parts = (signature.real_path, signature.size, signature.mtime_ns, signature.inode)
        text = json.dumps(parts).encode()
        return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()

    def find(self, stamps: Sequence[bytes | None]) -> dict[int, Row]:
        """What is known of images, by their index among the stamps."""
        wanted: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, stamp in enumerate(stamps):
            if stamp is not None:
                wanted[stamp].append(index)
        found: dict[int, Row] = {}
        for file in [] if self._folder is None else sorted(self._folder.glob("*.npz")):
            for stamp, row in _read(file, wanted):
                found.update(dict.fromkeys(wanted[stamp], row))
        return found

    def add(
        self, stamp: bytes | None, features: NDArray[np.float32], warnings: tuple[str, ...]
    ) -> None:
        """Keep the features of an image; written with those of others."""
        if stamp is not None:
            self._waiting.append((stamp, features, warnings))
            if len(self._waiting) >= _AT_ONCE:
                self.write()

    def write(self) -> None:
        """Write what is waiting; where that cannot be done, the features are computed again."""
        if not self._waiting or self._folder is None:
            return
        stamps, features, warnings = zip(*self._waiting, strict=True)
        self._waiting = []
        name = hashlib.sha256(b"".join(stamps)).hexdigest()[:16]
        arrays: dict[str, Any] = {
            "stamps": np.frombuffer(b"".join(stamps), np.uint8).reshape(-1, _DIGEST_BYTES),
            "features": np.stack(features),
            "warnings": np.frombuffer(json.dumps(warnings).encode(), np.uint8),
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove_oldest(self._folder.parent)
            with (
                platform.written_aside(self._folder / f"{name}.npz") as aside,
                aside.open("xb") as file,
            ):
                np.savez(file, allow_pickle=False, **arrays)
        except OSError as error:
            reason = error.strerror or error
            logger.warning("cannot keep features in %s (%s)", self._folder, reason)
            self._folder = None  # and said once


def _read(file: Path, wanted: Collection[bytes]) -> list[tuple[bytes, Row]]:
    """The rows of a file whose stamps are wanted; none of a damaged file."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            stamps = [stamp.tobytes() for stamp in arrays["stamps"]]
            if not any(stamp in wanted for stamp in stamps):
                return []
            features = arrays["features"]
            warnings = json.loads(arrays["warnings"].tobytes())
        if features.dtype != np.float32 or not len(stamps) == len(features) == len(warnings):
            return []
        rows = zip(stamps, features, warnings, strict=True)
        return [(s, (row.copy(), tuple(texts))) for s, row, texts in rows if s in wanted]
    except Exception:  # its images are computed again
        logger.debug("cannot read %s", file, exc_info=True)
        return []


def _remove_oldest(folder: Path) -> None:
    """Remove files, the oldest first, until less than the most is left."""
    files = [(os.stat(file), file) for file in folder.glob("*/*.npz")]
    total = sum(status.st_size for status, _ in files)
    for status, file in sorted(files, key=lambda one: one[0].st_mtime_ns):
        if total < _MOST_BYTES:
            break
        file.unlink(missing_ok=True)
        total -= status.st_size
