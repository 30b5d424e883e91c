"""Outputs: what a network's outputs are, decided in one place for every source.

Logits, own probabilities, log-probabilities, percent; of classes that exclude one another or are
independent; or one number for yes and no. What is stated decides first, then what the end of the
graph proves (`bounds`), then the values that the network gave for a few images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toplabel._internal.notices import warn
from toplabel.bundle.bounds import FREE, Bounds
from toplabel.bundle.conversion import NO_CONVERSION, Conversion
from toplabel.bundle.model import Activation
from toplabel.errors import LabelsError, ModelError
from toplabel.labels.labels import Labels

_SUM_ROUNDING = 1e-4
_HALF_ROUNDING = 5e-3  # of a softmax in half precision, which its graph shows
_CONSTANT = 1e-4  # of a difference of two outputs, against how far one varies
_LOG_OF_ONE = 1e-3  # with what people add to a probability, lest it be 0
_SURE = 12.0  # log odds of 160,000 to 1


# What they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a network's outputs are.

    Args:
        activation: How converted outputs become scores.
        multi_label: Classes are independent: each applies or does not.
        labels: One for each converted output.
        conversion: What is done to the outputs first.
    """

    activation: Activation
    multi_label: bool
    labels: Labels
    conversion: Conversion = NO_CONVERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a network's outputs.

    Args:
        count: K.
        bounds: Between which numbers they lie, by the network's graph; None: nobody knows.
        values: What it gave for a few different images, float32 (G, K); None: it was not asked.
    """

    count: int
    bounds: Bounds | None = FREE
    values: NDArray[np.float32] | None = None


def interpret(
    evidence: Evidence, *, labels: Labels | None, multi_label: bool, name: str
) -> Outputs:
    """What the outputs are; doubts are warned of.

    Args:
        evidence: What is known of them.
        labels: The class names, where they are known. For one output: of no and yes, or of yes.
        multi_label: It is stated that classes are independent.
        name: Of the model.

    Raises:
        ModelError: They are no scores of classes: a regression, costs, ranks.
        LabelsError: The names do not fit them.
    """
    one = evidence.count == 1
    multi_label = multi_label and not (one and labels is not None and len(labels) == 2)
    _refuse_what_is_no_score(evidence, multi_label or one, name)
    conversion = _conversion_to_scores(evidence, multi_label or one, name)
    if conversion is None:
        _check_logits(evidence, multi_label or one, name)
    elif not one:
        _doubt_scores(evidence, multi_label, name)
    if one:
        labels = _names_of_one(labels, multi_label, name)
    if one and not multi_label:
        pair: Literal["logits", "scores"] = "logits" if conversion is None else "scores"
        return Outputs(
            activation="softmax" if conversion is None else "none",
            multi_label=False,
            labels=labels or Labels.indices(2),
            conversion=replace(conversion or NO_CONVERSION, pair=pair),
        )
    labels = labels or Labels.indices(evidence.count)
    labels.check_count(evidence.count)
    of_logits: Activation = "sigmoid" if multi_label else "softmax"
    return Outputs(
        activation=of_logits if conversion is None else "none",
        multi_label=multi_label,
        labels=labels,
        conversion=conversion or NO_CONVERSION,
    )


def _names_of_one(labels: Labels | None, multi_label: bool, name: str) -> Labels:
    """One name for a class that applies or not; two where no is an answer, too."""
    if labels is None or not labels.named:
        warn(
            f"{name} has one output and no class names: it is read as yes or no, and labels are"
            " 'yes' and 'no'; pass labels=... with two names, that of no first (a regression has"
            " no label)",
            about="labels",
        )
        return Labels(("yes",) if multi_label else ("no", "yes"), named=False)
    if len(labels) == 1 and not multi_label:
        return Labels((f"not {labels[0]}", labels[0]))
    if len(labels) > 2:
        raise LabelsError(
            f"got {len(labels)} labels for {name}, which has one output; expected two, that of no"
            " first, or that of yes alone"
        )
    return labels


def _conversion_to_scores(evidence: Evidence, independent: bool, name: str) -> Conversion | None:
    """What makes scores in [0, 1] of outputs that are scores already; None where they are logits.

    Args:
        evidence: What is known of them.
        independent: Of classes that do not exclude one another, or of one.
        name: Of the model.
    """
    bounds = evidence.bounds
    for whole in (1.0, 100.0):
        if _sums_to(evidence, whole):
            return Conversion(scale=1 / whole)
    if bounds is not None and bounds.within(0, 1):
        return NO_CONVERSION
    never_negative = bounds is not None and independent and bounds.within(0, np.inf)
    looks_so = evidence.values is not None and _within(evidence.values, 0, 1)
    if looks_so and (bounds is None or never_negative):
        warn(
            f"the outputs of {name} lie between 0 and 1 for the images it was tried with, and are"
            " taken for scores as they are; that they always do so could not be seen"
        )
        return NO_CONVERSION
    if bounds is None:
        return None
    if bounds.within(0, 100) and bounds.high > 99:
        return Conversion(scale=0.01)
    if independent and bounds.low < 0 and bounds.within(-1, 1):
        return Conversion(scale=0.5, offset=0.5)
    if independent and bounds.high < _LOG_OF_ONE:
        return Conversion(exponential=True)
    return None


def _refuse_what_is_no_score(evidence: Evidence, independent: bool, name: str) -> None:
    """Stop where the outputs would give a label that says nothing of the image."""
    bounds, values = evidence.bounds, evidence.values
    if bounds is not None and bounds.sorted and evidence.count > 1:
        raise ModelError(
            f"{name} gives its scores in order of size (a sort or top-k), so that it is lost which"
            " class each is of; take the outputs from before it"
        )
    if values is None:
        return
    if len(values) > 1 and (values == values[0]).all():
        warn(
            f"{name} gave the same outputs for every image it was tried with: its label does not"
            " depend on the image"
        )
    if evidence.count == 1:
        if (values == 1).all():
            raise ModelError(
                f"the one output of {name} is 1 for every image, as a softmax over one class gives;"
                " take its input, or use a sigmoid"
            )
        if bounds is None and (values == np.round(values)).all():
            raise ModelError(
                f"the one output of {name} is a whole number, as the index of the best class is:"
                " take the scores that it is chosen from"
            )
        return
    if not independent and (values >= 0).all() and _are_ones(np.exp(-values).sum(axis=1)):
        raise ModelError(
            f"{name} gives negative log-probabilities: the least one is of the best class; change"
            " their sign in its forward"
        )
    levels = values
    if bounds is not None and bounds.within(0, 1):
        with np.errstate(divide="ignore"):
            levels = np.log(values) - np.log1p(-values)
    if not independent and _differ_by_constants(levels):
        raise ModelError(
            f"the outputs of {name} differ from one another by the same amounts for every image, so"
            " that one class is always the best: are they the levels of an ordinal scale (CORAL),"
            " of which those above 0 are counted? They are no scores of classes"
        )


def _differ_by_constants(values: NDArray[np.float32]) -> bool:
    """Whether all outputs rise and fall together, by the same amount."""
    values = values[:, np.isfinite(values).all(axis=0)]  # without classes that are masked
    if values.shape[1] < 2:
        return False
    own = float(np.ptp(values[:, 0]))
    apart = float(np.ptp(values - values[:, :1], axis=0).max())
    return own > 0 and apart <= _CONSTANT * own


def _check_logits(evidence: Evidence, independent: bool, name: str) -> None:
    """Doubt logits whose labels may be the same for every image.

    Raises:
        ModelError: As logits they say yes to every image.
    """
    bounds, values = evidence.bounds, evidence.values
    if not independent:
        if bounds is not None and bounds.within(-1, 1):
            warn(
                f"the outputs of {name} lie between {bounds.low:g} and {bounds.high:g}, so that its"
                " scores lie close together; labels are right, scores say little"
            )
        return
    if bounds is not None and bounds.low >= 0:
        top = bounds.high < np.inf
        what = f"between {bounds.low:g} and {bounds.high:g}" if top else "above 0"
        raise ModelError(
            f"the outputs of {name} are always {what}: no scores from 0 to 1, and as logits they"
            " would say yes to every image; is it a regression, or does it end in a ReLU? Take the"
            " outputs from before it, or bring them to 0..1 in its forward"
        )
    if evidence.count > 1 or values is None:
        return
    if _within(values, _SURE, np.inf) or _within(values, -np.inf, -_SURE):
        warn(
            f"the one output of {name} lay between {values.min():.3g} and {values.max():.3g} for"
            " the images it was tried with: as a logit it always gives the same label; a regression"
            " has no classes"
        )


def _doubt_scores(evidence: Evidence, multi_label: bool, name: str) -> None:
    """Say what is odd of a network of several outputs that are scores already."""
    values = evidence.values
    if values is not None and np.isin(values, (0, 1)).all():
        warn(
            f"{name} gives only 0 and 1 for its classes, the decision and no scores: a score of 1"
            " says nothing of how sure it is"
        )
    elif _sums_to(evidence, 1.0) or _sums_to(evidence, 100.0):
        if multi_label:
            warn(
                f"the scores of {name} sum to 1, as those of classes that exclude one another, but"
                " multi_label=True was passed: at most one class reaches 0.5"
            )
    elif not multi_label:
        warn(
            f"{name} gives each class a score of its own (a sigmoid), and the best class is the"
            " label; pass multi_label=True if several classes, or none, can apply to an image",
            about="multi_label",
        )


def _sums_to(evidence: Evidence, whole: float) -> bool:
    """Whether the outputs for each image are shares of this."""
    values, bounds = evidence.values, evidence.bounds
    shown = bounds is not None and bounds.within(0, whole)
    rounding = _HALF_ROUNDING if shown else _SUM_ROUNDING
    return values is not None and are_shares(values / np.float32(whole), rounding)


def are_shares(values: NDArray[np.float32], rounding: float = _SUM_ROUNDING) -> bool:
    """Whether rows (G, K) are probabilities already: none below 0, each summing to 1."""
    if values.shape[1] == 1 or not (values >= 0).all():
        return False
    return _are_ones(values.sum(axis=1, dtype=np.float64), rounding)


def _are_ones(sums: NDArray[Any], rounding: float = _SUM_ROUNDING) -> bool:
    return bool(np.allclose(sums, 1.0, rtol=0, atol=rounding))


def _within(values: NDArray[np.float32], low: float, high: float) -> bool:
    return bool(((values >= low) & (values <= high)).all())


# Which of several, and of what shape


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor among what a network gives for one image.

    Args:
        name: The way to it: a key, an attribute, an index; of nested ones "0.logits".
        shape: Its shape, the batch's axis with it.
        dtype: Its name, for people.
        floating: It holds numbers that can be scores.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    floating: bool = True

    @property
    def count(self) -> int | None:
        """K, where it may be a score for each class of the one image; else None."""
        return row_length(self.shape, batch=1) if self.floating else None

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {self.shape}"


def row_length(shape: Sequence[int], *, batch: int) -> int | None:
    """K, where a tensor of this shape holds K numbers for each image of a batch; else None.

    (N, K), (N, K, 1, 1), (N, 1, K) and the like; (N,) is one number for each. For one image also
    (K,) and (), as a `squeeze` without a dimension leaves them.
    """
    wide = [size for size in shape[1:] if size != 1]
    if len(shape) >= 2:
        good = shape[0] == batch and len(wide) <= 1 and 0 not in wide
        return (wide[0] if wide else 1) if good else None
    if list(shape) == [batch]:
        return 1
    if batch == 1:
        return shape[0] or None if shape else 1
    return None


def to_rows(values: Any, batch: int) -> Any:
    """An array or tensor of a `row_length` as (N, K); any other as it is."""
    if values.ndim == 2 and len(values) == batch:
        return values
    length = row_length(values.shape, batch=batch)
    return values if length is None else values.reshape(batch, length)


def choose_leaf(
    leaves: Sequence[Leaf], *, output: str | int | None, names: int | None, model: str
) -> Leaf:
    """The tensor that holds the scores of the classes.

    Args:
        leaves: All that the network gives for one image, in order.
        output: Which one it is, by its name or its place from 0, where that is stated.
        names: How many class names there are, where they are known.
        model: Its name.

    Raises:
        ModelError: None may be it, the stated one is not there, or several may be it; says all.
    """
    found = ", ".join(map(str, leaves)) or "nothing"
    if output is not None:
        chosen = _stated(leaves, output)
        if chosen is None:
            places = f"; expected one of these names, or a place from 0 to {len(leaves) - 1}"
            raise ModelError(
                f"got output={output!r} for {model}, which gives {found} for one image"
                f"{places if leaves else ''}"
            )
        if chosen.count is None:
            raise ModelError(
                f"got output={output!r} for {model}, which is {chosen.dtype} of shape"
                f" {chosen.shape} for one image; expected scores, float of shape (N, K)"
            )
        return chosen
    alone = len(leaves) == 1
    fitting = [leaf for leaf in leaves if leaf.count is not None and (alone or leaf.shape)]
    if not fitting:
        raise ModelError(
            f"{model} gives {found} for one image; expected one output of shape (N, K), a score for"
            " each class in floating-point numbers, and found none"
        )
    for choice in _choices(fitting, names):
        if len(choice) == 1:
            return choice[0]
    example = fitting[0].name
    raise ModelError(
        f"{model} gives {found} for one image; expected one output of shape (N, K), a score for"
        f" each class, and found {len(fitting)}; pass output=... with the name or the place from 0"
        f" of the one to use, such as output={int(example) if example.isdigit() else example!r}"
    )


def _choices(fitting: list[Leaf], names: int | None) -> list[list[Leaf]]:
    """Those that may be meant, by one reason after the other."""
    named = [leaf for leaf in fitting if leaf.name.rpartition(".")[2] == "logits"]
    main = [leaf for leaf in fitting if not leaf.name.rpartition(".")[2].startswith("aux")]
    fits = [leaf for leaf in main if leaf.count == names]
    says_yes = [leaf for leaf in main if leaf.count == 1 and names == 2]
    return [fitting, named, fits, says_yes, [] if fits else main]


def _stated(leaves: Sequence[Leaf], output: str | int) -> Leaf | None:
    by_name = {leaf.name: leaf for leaf in leaves}
    text = str(output)
    if text in by_name:
        return by_name[text]
    place = int(text) if text.lstrip("-").isdigit() else None
    if place is not None and -len(leaves) <= place < len(leaves):
        return leaves[place]
    ends = [leaf for leaf in leaves if leaf.name.rpartition(".")[2] == text]
    return ends[0] if len(ends) == 1 else None
