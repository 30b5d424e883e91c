"""Calibration: what was learned on held-out images of what a model's scores are worth.

Logits become scores in this order: they are divided by the temperature, log(prior) - log(trained
prior) of each class is added, then comes the softmax. So for exclusive classes

    p'(y | x)  ~  p(y | x) * prior(y) / trained_prior(y)

with p as the temperature makes it (Menon et al. 2021, "Long-tail learning via logit adjustment").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import fsum, isfinite, log
from typing import Any, Self

from toplabel.errors import BundleError


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a model's outputs become scores that mean something, and where it is unsure.

    Args:
        temperature: Outputs are divided by it before the softmax (Guo et al. 2017); above 0.
            Without a prior it changes no label.
        threshold: In [0, 1]: a best score below it is `unsure`, where no other is asked for; None
            where no precision was wished.
        wished: The precision that the threshold was chosen for, in [0, 1].
        precision: Of the answers at or above it, on images that chose neither it nor the
            temperature; `low` and `high` are its Clopper-Pearson interval of 95 %.
        coverage: Which share of these images such an answer was given for.
        images: How many images there were in all, those that chose and those that checked.
        digest: Of these images and their classes (`Dataset.digest`).
        date: When, as 2026-01-31.
        trained_prior: How often each of the K classes was seen in training: K shares above 0 that
            sum to 1; None where it is not known.
        prior: How often each occurs where the model is used; None: as in training.
    """

    temperature: float
    threshold: float | None = None
    wished: float | None = None
    precision: float | None = None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    images: int = 0
    digest: str = ""
    date: str = ""
    trained_prior: tuple[float, ...] | None = None
    prior: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise BundleError(f"got temperature {self.temperature!r}; expected a number above 0")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise BundleError(f"got threshold {self.threshold!r}; expected a score from 0 to 1")
        for name in _PRIORS:
            _check_shares(name, getattr(self, name))
        if self.prior is not None and len(self.prior) != len(self.trained_prior or ()):
            raise BundleError("a prior needs the trained prior of as many classes beside it")

    @property
    def shift(self) -> tuple[float, ...] | None:
        """What is added to each of the K logits, as they come; None where the prior is as trained.

        It is the temperature times the logarithm of prior / trained prior, since scores are made
        of the logits divided by the temperature.
        """
        if self.prior is None or self.trained_prior is None or self.prior == self.trained_prior:
            return None
        pairs = zip(self.prior, self.trained_prior, strict=True)
        return tuple(self.temperature * (log(wanted) - log(seen)) for wanted, seen in pairs)

    @property
    def of_prior(self) -> Self | None:
        """The priors alone, without what was fitted; None where there are none."""
        if self.trained_prior is None:
            return None
        return type(self)(temperature=1.0, trained_prior=self.trained_prior, prior=self.prior)

    def __str__(self) -> str:
        text = f"temperature {self.temperature:.3g}"
        if self.date:
            text += f", fitted {self.date}"
        if self.prior is not None:
            text += f"; class prior {in_words(self.prior)}"
        if self.threshold is None:
            return text
        text += f"; unsure below {self.threshold:.3g}"
        if self.precision is None:  # a threshold that nobody measured
            return text
        return (
            f"{text}: precision {self.precision:.3f} ({self.low:.3f} to {self.high:.3f}) of the"
            f" {self.coverage:.0%} answered, on held-out images"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; priors only where they are known."""
        fields = asdict(self)
        return {k: v for k, v in fields.items() if v is not None or k not in _PRIORS}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The calibration that `to_dict` wrote.

        Raises:
            BundleError: A value is not accepted.
            TypeError: A field is of another type, unknown, or missing.
        """
        fields = dict(fields)
        for name in _PRIORS & fields.keys():
            shares = fields[name]
            if not isinstance(shares, list | tuple) or not all(map(_is_number, shares)):
                raise TypeError(f"got {name}={shares!r}")
            fields[name] = tuple(map(float, shares))
        for name, value in fields.items():
            if name in _PRIORS:
                continue
            kind: Any = str if name in ("digest", "date") else int | float
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                raise TypeError(f"got {name}={value!r}")
        return cls(**fields)


_PRIORS = frozenset(("trained_prior", "prior"))
_SUM_ROUNDING = 1e-6
_SHOWN = 4


def in_words(shares: tuple[float, ...]) -> str:
    """What people read of shares: "balanced", a few, or their range."""
    low, high = min(shares), max(shares)
    if high - low < _SUM_ROUNDING * high:
        return "balanced"
    if len(shares) <= _SHOWN:
        return " / ".join(f"{share:.3g}" for share in shares)
    return f"from {low:.2g} to {high:.2g}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_shares(name: str, shares: tuple[float, ...] | None) -> None:
    if shares is None:
        return
    if not all(isfinite(share) and share > 0 for share in shares):
        raise BundleError(f"got {name} {shares[:_SHOWN]!r}; expected shares above 0")
    if abs(fsum(shares) - 1) > _SUM_ROUNDING:
        raise BundleError(f"the shares of {name} sum to {fsum(shares):.6g}; expected 1")
