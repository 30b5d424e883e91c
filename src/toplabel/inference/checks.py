"""Sanity checks: a model's first outputs in, warnings of the usual mistakes out, each once.

Nothing here changes a prediction. After the first images it costs an attribute's look-up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.notices import About, Notice
from toplabel._internal.platform import fork_safe
from toplabel.inference.scoring import probabilities
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Activation
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine

CHECKED = 64
"""Images that are looked at; then no more."""

_ENOUGH_SUMS = 2
_ENOUGH_FLAT = 8
_ENOUGH_ALIKE = 16
_ENOUGH_AT_LAST = 48
_SUM_ROUNDING = 1e-3  # a softmax in half precision; logits do not sum to 1 by chance so closely
_FLAT = 0.05  # share of log K that the entropy falls short of it; trained networks: 0.15 and more
_FLAT_SCORE = 0.0622  # of a multi-label model: every logit from -0.25 to 0.25
_SUM_OF_SHARES = 0.01
# Spread of outputs among images against that among classes. Photos of one class give trained
# networks 0.44 and more; untrained ones mostly lie from 0.2 to 0.3. Of few classes it says less.
_ALIKE = 0.3
_ALIKE_OF_FEW = 0.1
_FEW = 5
_DIFFERENT = 0.5  # the same share of the inputs: photos 0.8 and more, frames of one scene below 0.1
_MOSTLY = 2  # times the pixels that are seen: of a smaller image most is
_SAMPLES = 256  # values of a tensor that tell images apart

_MOST = 24  # arrays that the order of channels is judged by; then it stays open
_CLASSES = 20  # that a model must have for it
_LEAST = 5  # before swapped colours are believed
_WRONG = 0.7  # sum of gains, as shares of log K, from which on colours are swapped
_RIGHT = -0.3  # from which on they are not
_CLIP = 0.2  # what one array may count
_SAME = 0.6  # share of labels that must stay: swapping helps, it does not turn everything round


class SanityChecks:
    """Looks at the first images of one classifier; may be called by several threads at once.

    `active` is True while there is anything left to look for; `found` is all that was noticed,
    `texts` what of it nobody has taken yet.

    Args:
        classifier: Whose outputs they are.
        bgr: Arrays are read as blue, green, red (`ReadOptions.bgr`).
    """

    def __init__(self, classifier: Classifier, *, bgr: bool = False) -> None:
        self.active = True
        self._activation: Activation = classifier.activation
        self._labels = classifier.labels
        preprocess = classifier.preprocess
        resizes = not isinstance(preprocess, Preprocess) or preprocess.resize_mode != "none"
        self.watches_sizes = not resizes  # of images, until one is much larger than what is seen
        self._seen_size = preprocess.input_size
        self._order = ChannelOrder(classifier, bgr=bgr)
        self._lock = fork_safe(threading.Lock())
        self._turn = fork_safe(threading.Lock())
        self._noticing = fork_safe(threading.Lock())
        self.found: tuple[Notice, ...] = ()
        self.texts: deque[Notice] = deque()
        self._arrays: deque[tuple[NDArray[np.float32], NDArray[np.float32]]] = deque()
        self._seen: dict[bytes, NDArray[np.float32]] = {}
        self._given = 0
        self._sums_to_one = len(classifier.labels) > 1 and self._activation == "softmax"
        self._flat = len(classifier.labels) > 2
        self._alike = len(classifier.labels) > 1  # all images so far got one class
        self._index = -1
        self._total: NDArray[np.float64] | float = 0.0
        self._squares: NDArray[np.float64] | float = 0.0

    def look(
        self,
        tensor: NDArray[np.float32],
        logits: NDArray[np.float32],
        *,
        engine: Engine | None = None,
    ) -> None:
        """Look at one image's outputs.

        Args:
            tensor: The model's input, float32 (C, h, w).
            logits: Its output, float32 (K,).
            engine: The model, where the image came as an array whose channels may be in the wrong
                order; it is run on some of the first arrays once more.
        """
        if not self.active:
            return
        with self._lock:
            new = self._look_at_outputs(tensor, logits)
        if new and engine is not None:
            self._look_at_order(tensor, logits, engine)

    def look_at_sizes(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Look at the (height, width) of images that are not resized."""
        most = _MOSTLY * prod(self._seen_size)
        if not any(height * width >= most for height, width in sizes):
            return
        with self._noticing:
            first, self.watches_sizes = self.watches_sizes, False
        size = "x".join(map(str, self._seen_size))
        if first:
            self._notice(
                f"only the middle {size} pixels of larger images are looked at, since the"
                f" preprocessing does not resize; with resize_mode 'squash', as in the preset"
                f" half-squash-{size}, all of an image is",
                "preprocess",
            )

    def take_warnings(self) -> tuple[Notice, ...]:
        """The warnings since the last call, for people; usually none."""
        texts = []
        while True:
            try:
                texts.append(self.texts.popleft())
            except IndexError:  # empty, or emptied by another thread
                return tuple(texts)

    def _notice(self, text: str, about: About = "outputs") -> None:
        notice = Notice(text, about)
        with self._noticing:
            self.found = (*self.found, notice)
        self.texts.append(notice)

    def _look_at_outputs(self, tensor: NDArray[np.float32], logits: NDArray[np.float32]) -> bool:
        """Take note of an output; returns whether it is of an image that was not there before."""
        self._given += 1
        new = bool(np.isfinite(logits.max())) and not self._is_known(tensor)
        if new and not np.isfinite(logits.min()):  # a class that is left out
            logits = np.maximum(logits, logits[np.isfinite(logits)].min())
        count = len(self._seen)
        if new and self._sums_to_one:
            self._look_at_sum(logits, count)
        if new and self._flat:
            self._look_at_evenness(logits, count)
        if new and self._alike:
            self._look_at_class(logits, count)
        if self._given >= CHECKED:
            if self._alike and count >= _ENOUGH_AT_LAST:
                self._warn_of_one_class(count, "")
            self.active = False
        elif not (self._sums_to_one or self._flat or self._alike or self._order.undecided):
            self.active = False
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
                    text = self._order.look(*array, engine) if self._order.undecided else None
                    if text is not None:
                        self._notice(text)
            finally:
                self._turn.release()

    def _is_known(self, tensor: NDArray[np.float32]) -> bool:
        """Whether this image was there before, by samples of its tensor."""
        values = tensor.reshape(-1)
        sample = values[:: max(1, len(values) // _SAMPLES)].copy()
        return self._seen.setdefault(sample.tobytes(), sample) is not sample

    def _look_at_sum(self, logits: NDArray[np.float32], count: int) -> None:
        total = float(logits.sum(dtype=np.float64))
        within = bool(logits.min() >= 0 and logits.max() <= 1)
        self._sums_to_one = within and abs(total - 1) <= _SUM_ROUNDING
        if self._sums_to_one and count >= _ENOUGH_SUMS:
            self._sums_to_one = False
            self._notice(
                "the model's outputs already lie between 0 and 1 and sum to 1, and a second softmax"
                " flattens them: labels are right, scores are not; remove the softmax at the end of"
                " the network"
            )

    def _look_at_evenness(self, logits: NDArray[np.float32], count: int) -> None:
        self._flat = _is_even(logits, self._activation)
        if self._flat and count >= _ENOUGH_FLAT:
            self._flat = self._alike = False  # one cause, one warning
            self._notice(
                f"the model's outputs are nearly uniform over its {len(logits)} classes for each of"
                f" the first {count} images: its last layer was probably never trained or not"
                " loaded; check that the weights include the classifier, and that the preprocessing"
                " is that of its training"
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
            self._warn_of_one_class(count, ", with nearly the same outputs")

    def _hardly_varies(self, count: int) -> bool:
        """Whether outputs differ far less among images than the images do."""
        samples = np.stack(list(self._seen.values())[:count])
        if samples.var(axis=0).mean() < _DIFFERENT**2 * samples.var():
            return False
        mean = np.asarray(self._total) / count
        among_images = (np.asarray(self._squares) / count - mean * mean).mean()
        limit = _ALIKE if len(mean) >= _FEW else _ALIKE_OF_FEW
        return bool(among_images <= limit**2 * mean.var())

    def _warn_of_one_class(self, count: int, what: str) -> None:
        label = self._labels[self._index]
        self._notice(
            f"each of the first {count} images was predicted as class {self._index}"
            f" ({label!r}){what}; unless all show it, the usual causes are preprocessing with"
            " another range (0 to 255 instead of 0 to 1) or another mean and std, weights that were"
            " not loaded, or batch normalisation without its statistics"
        )


def _is_even(logits: NDArray[np.float32], activation: Activation) -> bool:
    scores = probabilities(logits, activation)
    if activation == "sigmoid" or abs(float(scores.sum()) - 1) > _SUM_OF_SHARES:
        return bool(np.abs(scores - 0.5).max() < _FLAT_SCORE)  # each class has its own
    entropy = -float((scores * np.log(np.maximum(scores, 1e-300))).sum())
    return entropy > (1 - _FLAT) * float(np.log(len(scores)))


class ChannelOrder:
    """Whether arrays come with red and blue swapped.

    The model itself is asked: it is surer of photos whose colours are right. One photo says little
    (the built-in model is surer of the wrong colours of every fourth), so some of the first arrays
    are run once more with red and blue swapped, and what that gains is added up until the sum is
    clear. An array counts only where its label has not counted yet: frames of one scene are one
    piece of evidence. In 3000 random orders of 200 photos the built-in model never took right
    colours for swapped, and found swapped ones in 98.5 %; a network of ten classes in 9 %, so few
    classes are not asked.

    Args:
        classifier: The model; only of three colours and at least 20 classes can it be decided.
        bgr: Arrays are read as blue, green, red.
    """

    def __init__(self, classifier: Classifier, *, bgr: bool) -> None:
        preprocess = classifier.preprocess
        self._activation = classifier.activation
        self._bgr = bgr
        self._mean = self._std = np.zeros((1, 1, 1), np.float32)
        colours = isinstance(preprocess, Preprocess) and preprocess.channels in ("rgb", "bgr")
        if isinstance(preprocess, Preprocess):
            self._mean = np.asarray(preprocess.mean, np.float32)[:, None, None]
            self._std = np.asarray(preprocess.std, np.float32)[:, None, None]
        self.undecided = colours and len(classifier.labels) >= _CLASSES  # until the sum is clear
        self._gain = 0.0
        self._better = 0
        self._same = 0
        self._labels: set[int] = set()

    def look(
        self, tensor: NDArray[np.float32], logits: NDArray[np.float32], engine: Engine
    ) -> str | None:
        """Look at one array; the warning where it settles that colours are swapped.

        Args:
            tensor: float32 (3, h, w), normalised.
            logits: The model's output for it, float32 (K,).
            engine: The model.
        """
        label = int(logits.argmax())
        if label in self._labels:
            return None
        self._labels.add(label)
        try:
            swapped = engine(self._swap(tensor)[None])[0]
        except Exception:  # whatever it is, the prediction itself is there already
            self.undecided = False
            return None
        gain = self._sureness(swapped) - self._sureness(logits)
        self._better += gain > 0
        self._same += int(swapped.argmax()) == label
        self._gain += float(np.clip(gain, -_CLIP, _CLIP))
        count = len(self._labels)
        if count >= _LEAST and self._gain >= _WRONG and self._same >= _SAME * count:
            self.undecided = False
            return self._text(count)
        if not self._gain > _RIGHT or count >= _MOST:  # a gain that is no number, too
            self.undecided = False
        return None

    def _swap(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tensor of the image with red and blue swapped, normalised as before."""
        values = tensor * self._std + self._mean
        return np.ascontiguousarray((values[::-1] - self._mean) / self._std, np.float32)

    def _sureness(self, logits: NDArray[np.float32]) -> float:
        """Minus the entropy of the scores, as a share of log K: -1 (even) to 0 (sure of one)."""
        scores = probabilities(logits, self._activation)
        scores = scores / max(float(scores.sum()), 1e-12)  # of independent classes, too
        return float((scores * np.log(np.maximum(scores, 1e-12))).sum() / np.log(len(scores)))

    def _text(self, count: int) -> str:
        found, read, remedy = "BGR", "RGB", "pass ReadOptions(bgr=True) or array[..., ::-1]"
        if self._bgr:
            found, read, remedy = "RGB", "BGR", "leave out ReadOptions(bgr=True)"
        return (
            f"the arrays look like {found} but are read as {read}: with red and blue swapped the"
            f" model is more confident on {self._better} of {count}; {remedy} (or, if the network"
            " was trained that way, swap the channels in its preprocessing)"
        )
