"""Conversion: a network's outputs in; logits, or scores in [0, 1], out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What makes logits or scores in [0, 1] of a network's outputs (N, K).

    Args:
        exponential: They are log-probabilities: the exponential is taken.
        scale: Then they are multiplied by this: 0.01 for percent.
        offset: And this is added.
        pair: The one output becomes two, no and yes: of a logit z, -z/2 and z/2; of a score p,
            1 - p and p.
    """

    exponential: bool = False
    scale: float = 1.0
    offset: float = 0.0
    pair: Literal["", "logits", "scores"] = ""

    def __bool__(self) -> bool:
        return self != NO_CONVERSION

    def __call__(self, rows: Any, library: Any) -> Any:
        """Converted rows: (N, K), or (N, 2).

        Args:
            rows: float32 (N, K), an array or a tensor.
            library: The module that it is of: `numpy` or `torch`.
        """
        if self.exponential:
            rows = library.exp(rows)
        if (self.scale, self.offset) != (1.0, 0.0):
            rows = rows * self.scale + self.offset
        if self.pair == "logits":
            return library.concatenate([rows * -0.5, rows * 0.5], 1)
        return library.concatenate([1 - rows, rows], 1) if self.pair == "scores" else rows

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The conversion that `to_dict` described.

        Raises:
            TypeError: It is none.
        """
        found = cls(**fields)
        numbers = (found.scale, found.offset)
        if found.pair not in ("", "logits", "scores") or not all(
            isinstance(number, int | float) for number in numbers
        ):
            raise TypeError(f"got the conversion {dict(fields)}")
        return found


NO_CONVERSION = Conversion()


NO_CONVERSION = Conversion()
