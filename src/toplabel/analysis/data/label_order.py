"""True classes and logits in; whether the label list is permuted, and how, out.

Each order that a label list may have by mistake is compared with the given one on the same images
by McNemar's exact test, so that a model that is merely bad is not reported as permuted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from toplabel.labels.files import natural_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.labels.labels import Labels

Kind = Literal["fits", "string", "natural", "shifted", "swapped", "solved", "unknown"]

LEVEL = 1e-3
"""Significance level, over all orders tried."""

_SWAP_LEVEL = 1e-2
"""Significance level for two swapped labels, over all pairs. Its null hypothesis, a coin tossed
between both classes, is a bad model already; one that confuses them at times is far from it."""

_MARGIN = 0.1
"""How much more accurate than a swap another order must be to be reported instead."""

_MIN_IMAGES = 2
_ACCURATE = 0.5
"""A label list this accurate is not compared with an order solved from the images."""


@dataclass(frozen=True, slots=True)
class OrderFinding:
    """Whether a model's labels are in the order of its outputs, judged from images.

    Args:
        kind: "fits": no evidence against it. "string", "natural": the outputs are in that order
            of the names. "shifted": by one. "swapped": two labels are. "solved": another order,
            found from the images. "unknown": too few images, or no order fits.
        outputs: Shape (K,), int: the index of the output of each label; the label's own index
            where the images do not show it. None where the order fits or is unknown.
        accuracy: Of the labels as they are, in [0, 1].
        fitted: Of the order that was found, in [0, 1].
        p: Of McNemar's test, corrected for the orders tried; 1 where there was nothing to test.
        note: One sentence for people; "" where the order fits.
    """

    kind: Kind
    outputs: NDArray[np.int64] | None
    accuracy: float
    fitted: float
    p: float
    note: str = ""


def find_order(
    truth: NDArray[np.int64], logits: NDArray[np.float32], labels: Labels
) -> OrderFinding:
    """Whether the labels are in the order of the network's outputs.

    Args:
        truth: Shape (N,), int: the index of each image's label.
        logits: Shape (N, K), finite.
        labels: K of them, in the order to check.
    """
    best = logits.argmax(axis=1)
    now = float((best == truth).mean()) if len(truth) else 0.0
    if len(truth) < _MIN_IMAGES:
        return OrderFinding("unknown", None, now, now, 1.0, "too few images to check label order")
    orders = list(_common_mistakes(labels))
    findings = [_compare_order(*order, truth, best, tried=len(orders)) for order in orders]
    likeliest = min(findings, key=lambda one: (one.p, -one.fitted), default=None)
    if likeliest is not None and likeliest.p < LEVEL:
        return likeliest
    swapped = _swapped(truth, logits, labels)
    solved = _solved(truth, logits) if now < _ACCURATE else None
    if solved is not None and (swapped is None or solved.fitted > swapped.fitted + _MARGIN):
        return solved
    if swapped is not None:
        return swapped
    if now < _ACCURATE and not _beats_chance(best, truth, logits.shape[1]):
        note = (
            f"{now:.0%} of {len(truth)} images are right, no better than chance, and no other label"
            " order fits: the preprocessing or the labels are wrong, or the model is bad"
        )
        return OrderFinding("unknown", None, now, now, 1.0, note)
    return OrderFinding("fits", None, now, now, 1.0)


def _common_mistakes(labels: Labels) -> Iterator[tuple[Kind, NDArray[np.int64], str]]:
    """(kind, output of each label, description) of orders that label lists have by mistake."""
    here, names = np.arange(len(labels)), labels.names
    if len(names) > 2:
        yield "shifted", (here + 1) % len(names), "shifted by one (a background class first?)"
        yield "shifted", (here - 1) % len(names), "shifted back by one"
    orders: tuple[tuple[Kind, list[int]], ...] = (
        ("string", sorted(range(len(names)), key=names.__getitem__)),
        ("natural", sorted(range(len(names)), key=lambda index: natural_key(names[index]))),
    )
    for kind, order in orders:
        outputs = np.empty(len(names), np.int64)
        outputs[order] = here  # the label that comes first is output 0
        if (outputs != here).sum() > 2:  # only two differ: reported as swapped
            yield kind, outputs, f"{kind} order"


def _compare_order(
    kind: Kind,
    outputs: NDArray[np.int64],
    description: str,
    truth: NDArray[np.int64],
    best: NDArray[np.int64],
    *,
    tried: int,
) -> OrderFinding:
    """Another order against the given one, image by image."""
    right_now, right_then = best == truth, best == outputs[truth]
    p = min(1.0, tried * _better(right_now, right_then))
    now, then = float(right_now.mean()), float(right_then.mean())
    note = (
        f"your labels look permuted: {description} is right for {then:.0%} of the images, your"
        f" order for {now:.0%}"
    )
    return OrderFinding(kind, outputs, now, then, p, note)


def _better(now: NDArray[np.bool_], then: NDArray[np.bool_]) -> float:
    """One-sided p of McNemar's exact test that `then` is right more often."""
    from scipy.stats import binomtest  # takes 300 ms to import

    gained, lost = int((then & ~now).sum()), int((now & ~then).sum())
    if gained <= lost:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue)


def _swapped(
    truth: NDArray[np.int64], logits: NDArray[np.float32], labels: Labels
) -> OrderFinding | None:
    """Two labels in each other's place: images of both classes prefer the other's output."""
    from scipy.stats import binomtest

    classes, sizes = np.unique(truth, return_counts=True)
    prefer = _preferences(truth, logits, classes)  # (C, C)
    crossed = np.triu((2 * prefer > sizes[:, None]) & (sizes < 2 * prefer.T), k=1)
    best, pairs = logits.argmax(axis=1), max(1, len(classes) * (len(classes) - 1) // 2)
    found: OrderFinding | None = None
    for first, second in np.argwhere(crossed):
        count = int(sizes[first] + sizes[second])
        across = int(prefer[first, second] + prefer[second, first])
        p = pairs * float(binomtest(across, count, 0.5, alternative="greater").pvalue)
        if p >= _SWAP_LEVEL or (found is not None and p >= found.p):
            continue
        a, b = int(classes[first]), int(classes[second])
        outputs = np.arange(logits.shape[1])
        outputs[[a, b]] = b, a
        now, then = float((best == truth).mean()), float((best == outputs[truth]).mean())
        note = (
            f"the labels {labels[a]!r} and {labels[b]!r} look swapped: {across} of their {count}"
            f" images have a higher output for the other label; swapping them raises accuracy from"
            f" {now:.0%} to {then:.0%}"
        )
        found = OrderFinding("swapped", outputs, now, then, p, note) if then > now else found
    return found


def _preferences(
    truth: NDArray[np.int64], logits: NDArray[np.float32], classes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(C, C): how many images of each class have a larger output for each other class's label."""
    rows = []
    for index in classes:
        own = logits[truth == index]
        rows.append((own[:, classes] > own[:, [index]]).sum(axis=0))
    return np.stack(rows)


def _solved(truth: NDArray[np.int64], logits: NDArray[np.float32]) -> OrderFinding | None:
    """Any other order: solved on each half of the images, and tested on the other half."""
    second_half = np.zeros(len(truth), np.bool_)
    for index in np.unique(truth):  # every class in both halves
        second_half[np.flatnonzero(truth == index)[1::2]] = True
    if not second_half.any():
        return None
    right_now = logits.argmax(axis=1) == truth
    right_then = np.zeros(len(truth), np.bool_)
    found: list[NDArray[np.int64]] = []
    for half in (second_half, ~second_half):
        outputs = _assign(truth[~half], logits[~half])
        found.append(outputs)
        right_then[half] = logits[half].argmax(axis=1) == outputs[truth[half]]
    p = _better(right_now, right_then)
    if p >= LEVEL:
        return None
    outputs = _assign(truth, logits)
    now, then = float(right_now.mean()), float(right_then.mean())
    classes = np.unique(truth)
    agreed = int((found[0] == found[1])[classes].sum())
    note = (
        f"your labels look permuted: an order found from one half of the images is right for"
        f" {then:.0%} of the other half, your order for {now:.0%}; both halves give the same output"
        f" to {agreed} of {len(classes)} labels"
    )
    moved = int((outputs != np.arange(len(outputs))).sum())
    return OrderFinding("swapped" if moved == 2 else "solved", outputs, now, then, p, note)


def _assign(truth: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """The output of each label that makes the images most likely, each output once: int (K,)."""
    from scipy.optimize import linear_sum_assignment

    count = logits.shape[1]
    values = logits.astype(np.float64)
    likely = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    gains = np.zeros((count, count))
    np.add.at(gains, truth, likely)  # rows are labels, columns outputs
    rows, columns = linear_sum_assignment(-gains)
    outputs = np.empty(count, np.int64)
    outputs[rows] = columns
    return outputs


def _beats_chance(best: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> bool:
    """Whether significantly more images are right than with a constant or random prediction."""
    from scipy.stats import binomtest

    share = max(1 / classes, float(np.bincount(truth).max()) / len(truth))
    right = int((best == truth).sum())
    return bool(binomtest(right, len(truth), share, alternative="greater").pvalue < LEVEL)
