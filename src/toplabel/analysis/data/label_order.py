"""Orders: true classes and the model's outputs in, whether the label list is permuted out.

A list of names in another order than the network's gives wrong labels without any error. Each
order that a list may have by mistake is compared with the one at hand on the same images, by how
many of them it gets right where the other does not (McNemar's exact test), so that a model that
is merely bad is not called permuted.
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
"""Of the test, over all orders that are tried."""

_SWAP_LEVEL = 1e-2
"""Of the test of two labels, over all pairs: its null, a coin tossed between them, is a bad model
already; one that only mistakes both classes at times is far from it."""

_CLEARLY = 0.1
"""How much better than two swapped labels an order must fit to be named in their place."""

_LEAST_IMAGES = 2
_FITS = 0.5
"""An order this good is not replaced by one that was solved from the images themselves."""


@dataclass(frozen=True, slots=True)
class OrderFinding:
    """What the images say of the order of a model's labels.

    Args:
        kind: "fits": nothing speaks against it. "string", "natural": the network counts its
            classes in that order of the names. "shifted": by one. "swapped": two labels are.
            "solved": another order, found from the images. "unknown": too few images, or no order
            fits: it cannot be told.
        outputs: Shape (K,), int: the network's output for each label; that of the label itself
            where nothing is known. None where the order fits or is unknown.
        accuracy: Share of the images that are right as the labels are now, in [0, 1].
        fitted: The same in the order that was found.
        p: Of McNemar's test, corrected for the orders tried; 1 where there is nothing to test.
        note: One sentence for people; "" where it fits.
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
    """Whether the labels stand in the network's order.

    Args:
        truth: Shape (N,): the label's index, by name, of each image.
        logits: Shape (N, K), finite: the network's outputs for them.
        labels: K of them, as they are now.
    """
    best = logits.argmax(axis=1)
    now = float((best == truth).mean()) if len(truth) else 0.0
    if len(truth) < _LEAST_IMAGES:
        return OrderFinding("unknown", None, now, now, 1.0, "too few images to tell the order")
    named = list(_named_orders(labels))
    findings = [
        _tested(kind, outputs, truth, best, tried=len(named), words=words)
        for kind, outputs, words in named
    ]
    named_best = min(findings, key=lambda one: (one.p, -one.fitted), default=None)
    if named_best is not None and named_best.p < LEVEL:
        return named_best
    swapped = _swapped(truth, logits, labels)
    solved = _solved(truth, logits) if now < _FITS else None
    if solved is not None and (swapped is None or solved.fitted > swapped.fitted + _CLEARLY):
        return solved
    if swapped is not None:
        return swapped
    if now < _FITS and not _beats_chance(best, truth, logits.shape[1]):
        return OrderFinding(
            "unknown",
            None,
            now,
            now,
            1.0,
            f"{now:.0%} of {len(truth)} images are right, no better than chance, and no other order"
            " of the labels fits: the preprocessing or the labels are wrong, or the model is bad",
        )
    return OrderFinding("fits", None, now, now, 1.0)


def _named_orders(labels: Labels) -> Iterator[tuple[Kind, NDArray[np.int64], str]]:
    """Orders that lists have by mistake, but the one at hand: for each label, the true output."""
    here = np.arange(len(labels))
    names = labels.names
    if len(names) > 2:
        yield "shifted", (here + 1) % len(names), "shifted by one (a background class first?)"
        yield "shifted", (here - 1) % len(names), "shifted back by one"
    kinds: tuple[tuple[Kind, list[int], str], ...] = (
        ("string", sorted(range(len(names)), key=lambda i: names[i]), "string order"),
        (
            "natural",
            sorted(range(len(names)), key=lambda i: natural_key(names[i])),
            "natural order",
        ),
    )
    for kind, order, words in kinds:
        outputs = np.empty(len(names), np.int64)
        outputs[order] = here  # the label that comes first is output 0
        if (outputs != here).sum() > 2:  # two alone are swapped, whatever the order is called
            yield kind, outputs, words


def _tested(
    kind: Kind,
    outputs: NDArray[np.int64],
    truth: NDArray[np.int64],
    best: NDArray[np.int64],
    *,
    tried: int,
    words: str,
) -> OrderFinding:
    """Another order against the one at hand, image by image."""
    right_now, right_then = best == truth, best == outputs[truth]
    p = min(1.0, tried * _better(right_now, right_then))
    now, then = float(right_now.mean()), float(right_then.mean())
    note = f"your labels look permuted: {words} fits {then:.0%} of the images, yours {now:.0%}"
    return OrderFinding(kind, outputs, now, then, p, note)


def _better(now: NDArray[np.bool_], then: NDArray[np.bool_]) -> float:
    """One-sided p of McNemar's exact test that `then` is right more often."""
    from scipy.stats import binomtest  # 300 ms; only where orders are looked at

    gained, lost = int((then & ~now).sum()), int((now & ~then).sum())
    if gained <= lost:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue)


def _swapped(
    truth: NDArray[np.int64], logits: NDArray[np.float32], labels: Labels
) -> OrderFinding | None:
    """Two labels in each other's place: the images of both classes prefer the other's output."""
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
            f" images prefer the other's output; swapped, {then:.0%} of all images are right, now"
            f" {now:.0%}"
        )
        found = OrderFinding("swapped", outputs, now, then, p, note) if then > now else found
    return found


def _preferences(
    truth: NDArray[np.int64], logits: NDArray[np.float32], classes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(C, C): how many images of each class have a larger output for each other class's label."""
    rows = []
    for name in classes:
        own = logits[truth == name]
        rows.append((own[:, classes] > own[:, [name]]).sum(axis=0))
    return np.stack(rows)


def _solved(truth: NDArray[np.int64], logits: NDArray[np.float32]) -> OrderFinding | None:
    """Any other order: solved on each half of the images, and tested on the other half."""
    halves = np.zeros(len(truth), np.int64)
    for name in np.unique(truth):  # every class in both halves
        places = np.flatnonzero(truth == name)
        halves[places[1::2]] = 1
    right_now = logits.argmax(axis=1) == truth
    right_then = np.zeros(len(truth), np.bool_)
    found: list[NDArray[np.int64]] = []
    for half in (0, 1):
        if not (halves == half).any() or not (halves != half).any():
            return None
        outputs = _assigned(truth[halves != half], logits[halves != half])
        found.append(outputs)
        here = halves == half
        right_then[here] = logits[here].argmax(axis=1) == outputs[truth[here]]
    p = _better(right_now, right_then)
    if p >= LEVEL:
        return None
    outputs = _assigned(truth, logits)
    now, then = float(right_now.mean()), float(right_then.mean())
    sure = int((found[0] == found[1])[np.unique(truth)].sum())
    note = (
        f"your labels look permuted: an order found from one half of the images fits {then:.0%} of"
        f" the other, yours {now:.0%}; both halves give the same output to {sure} of"
        f" {len(np.unique(truth))} labels"
    )
    moved = int((outputs != np.arange(len(outputs))).sum())
    return OrderFinding("swapped" if moved == 2 else "solved", outputs, now, then, p, note)


def _assigned(truth: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.int64]:
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
    """Whether more images are right than a constant or random answer would make it, surely."""
    from scipy.stats import binomtest

    share = max(1 / classes, float(np.bincount(truth).max()) / len(truth))
    right = int((best == truth).sum())
    return bool(binomtest(right, len(truth), share, alternative="greater").pvalue < LEVEL)
