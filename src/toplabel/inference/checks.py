"""Suspicion: a model's first answers in, warnings of the usual mistakes out, each once.

Nothing here changes an answer. After the first images it costs an attribute's look-up.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from toplabel.inference.channel_order import ChannelOrder
from toplabel.inference.scoring import probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Activation
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine

WATCHED = 64
"""Images that are looked at; then no more."""

_ENOUGH_SUMS = 2
_ENOUGH_FLAT = 8
_ENOUGH_ALIKE = 16
_ENOUGH_AT_LAST = 48
_SUM_ROUNDING = 1e-3  # a softmax in half precision; logits do not sum to 1 by chance so closely
_FLAT = 0.05  # share of log K that the entropy falls short of it; trained networks: 0.15 and more
_FLAT_LOGIT = 0.25  # of a multi-label model: every score from 0.44 to 0.56
# Spread of outputs among images against that among classes. Photos of one class give trained
# networks 0.44 and more; untrained ones mostly lie from 0.2 to 0.3. Of few classes it says less.
_ALIKE = 0.3
_ALIKE_OF_FEW = 0.1
_FEW = 5
_DIFFERENT = 0.5  # the same share of the inputs: photos 0.8 and more, frames of one scene below 0.1
_PATIENCE_SECONDS = 0.05  # longer, the lock's holder is gone: a fork left it behind
_SAMPLES = 256  # values of a tensor that tell images apart


class Suspicion:
    """Watches the first images of one classifier; may be called by several threads at once.

    Args:
        classifier: Whose answers they are.
        bgr: Arrays are read as blue, green, red (`ReadOptions.bgr`).
    """

    def __init__(self, classifier: Classifier, *, bgr: bool = False) -> None:
        self.watching = True
        self._activation: Activation = classifier.activation
        self._labels = classifier.labels
        self._order = ChannelOrder(classifier, bgr=bgr)
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._texts: deque[str] = deque()
        self._arrays: deque[tuple[NDArray[np.float32], NDArray[np.float32]]] = deque()
        self._seen: dict[bytes, NDArray[np.float32]] = {}
        self._given = 0
        self._sums_to_one = len(classifier.labels) > 1 and self._activation != "none"
        self._flat = len(classifier.labels) > 2
        self._alike = True  # all images so far got one class
        self._index = -1
        self._total: NDArray[np.float64] | float = 0.0
        self._squares: NDArray[np.float64] | float = 0.0

    def observe(
        self,
        tensor: NDArray[np.float32],
        logits: NDArray[np.float32],
        *,
        engine: Engine | None = None,
    ) -> None:
        """Look at one image's answer.

        Args:
            tensor: What the model saw, float32 (C, h, w).
            logits: What it said, float32 (K,).
            engine: The model, where the image came as an array whose channels may be in the wrong
                order; it is run on some of the first arrays once more.
        """
        if not self.watching:
            return
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            self.watching = False
            return
        try:
            new = self._look(tensor, logits)
        finally:
            self._lock.release()
        if new and engine is not None:
            self._look_at_order(tensor, logits, engine)

    def take(self) -> tuple[str, ...]:
        """The warnings since the last call, for people; usually none."""
        texts = []
        while True:
            try:
                texts.append(self._texts.popleft())
            except IndexError:  # empty, or emptied by another thread
                return tuple(texts)

    def _look(self, tensor: NDArray[np.float32], logits: NDArray[np.float32]) -> bool:
        """Take note of an answer; returns whether it is of an image that was not there before."""
        self._given += 1
        new = bool(np.isfinite(logits).all()) and not self._is_known(tensor)
        count = len(self._seen)
        if new and self._sums_to_one:
            self._look_at_sum(logits, count)
        if new and self._flat:
            self._look_at_evenness(logits, count)
        if new and self._alike:
            self._look_at_class(logits, count)
        if self._given >= WATCHED:
            if self._alike and count >= _ENOUGH_AT_LAST:
                self._tell_alike(count, "")
            self.watching = False
        elif not (self._sums_to_one or self._flat or self._alike or self._order.undecided):
            self.watching = False
        return new

    def _look_at_order(
        self, tensor: NDArray[np.float32], logits: NDArray[np.float32], engine: Engine
    ) -> None:
        """Each array counts, whoever is busy: who has the turn looks at the others', too."""
        if not self._order.undecided:
            return
        self._arrays.append((tensor, logits))
        while self._arrays and self._turn.acquire(blocking=False):
            try:
                while self._arrays:
                    array = self._arrays.popleft()
                    text = self._order.observe(*array, engine) if self._order.undecided else None
                    if text is not None:
                        self._texts.append(text)
            finally:
                self._turn.release()

    def _is_known(self, tensor: NDArray[np.float32]) -> bool:
        """Whether this image was there before, told by samples of its tensor."""
        values = tensor.reshape(-1)
        sample = values[:: max(1, len(values) // _SAMPLES)].copy()
        return self._seen.setdefault(sample.tobytes(), sample) is not sample

    def _look_at_sum(self, logits: NDArray[np.float32], count: int) -> None:
        within = bool(logits.min() >= 0 and logits.max() <= 1)
        if self._activation == "sigmoid":
            self._sums_to_one, enough = within, _ENOUGH_FLAT
        else:
            total = float(logits.sum(dtype=np.float64))
            self._sums_to_one, enough = within and abs(total - 1) <= _SUM_ROUNDING, _ENOUGH_SUMS
        if self._sums_to_one and count >= enough:
            self._sums_to_one = False
            what = "sum to 1" if self._activation == "softmax" else "are scores"
            self._texts.append(
                f"the model's outputs lie between 0 and 1 and {what} already, and a second"
                f" {self._activation} flattens them: its labels can be trusted, its scores cannot;"
                f" take the {self._activation} out of the network's end"
            )

    def _look_at_evenness(self, logits: NDArray[np.float32], count: int) -> None:
        self._flat = _is_even(logits, self._activation)
        if self._flat and count >= _ENOUGH_FLAT:
            self._flat = self._alike = False  # one cause, one warning
            self._texts.append(
                f"the model hardly prefers any of its {len(logits)} classes for any of the first"
                f" {count} images: its last layer was probably never trained or not loaded; check"
                " that the weights come with the classifier, and that the preprocessing is that of"
                " its training"
            )

    def _look_at_class(self, logits: NDArray[np.float32], count: int) -> None:
        index = int(logits.argmax())
        self._alike = self._index in (-1, index)
        self._index = index
        if not self._alike or count > _ENOUGH_ALIKE:
            return
        centred = logits.astype(np.float64)
        if self._activation == "none":
            centred = np.log(np.maximum(centred, 1e-12))
        centred -= centred.mean()
        self._total = self._total + centred
        self._squares = self._squares + centred * centred
        if count == _ENOUGH_ALIKE and self._hardly_varies(count):
            self._alike = False
            self._tell_alike(count, ", and nearly the same outputs")

    def _hardly_varies(self, count: int) -> bool:
        """Whether outputs differ far less among images than the images do."""
        samples = np.stack(list(self._seen.values())[:count])
        if samples.var(axis=0).mean() < _DIFFERENT**2 * samples.var():
            return False
        mean = np.asarray(self._total) / count
        among_images = (np.asarray(self._squares) / count - mean * mean).mean()
        limit = _ALIKE if len(mean) >= _FEW else _ALIKE_OF_FEW
        return bool(among_images <= limit**2 * mean.var())

    def _tell_alike(self, count: int, what: str) -> None:
        label = self._labels[self._index]
        self._texts.append(
            f"each of the first {count} images got the class {self._index} ({label!r}){what};"
            " unless all show it, the usual reasons are preprocessing of another range (0 to 255,"
            " not 0 to 1) or another mean and std, weights that were not loaded, or batch"
            " normalisation without its statistics"
        )


def _is_even(logits: NDArray[np.float32], activation: Activation) -> bool:
    if activation == "sigmoid":
        return bool(np.abs(logits).max() < _FLAT_LOGIT)
    scores = probabilities(logits, activation)
    entropy = -float((scores * np.log(np.maximum(scores, 1e-300))).sum())
    return entropy > (1 - _FLAT) * float(np.log(len(scores)))
