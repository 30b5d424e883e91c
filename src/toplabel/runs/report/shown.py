"""What the page is told about one input."""

from __future__ import annotations

from dataclasses import dataclass

from toplabel.inference.prediction import Failure


@dataclass(frozen=True, slots=True)
class Shown:
    """One input on the page.

    Args:
        name: The record's source.
        source: What `toplabel.image.read_image` takes. It may be held until the page is written:
            give a path, a URL or a file object that reads late, not the bytes of a million files.
        top: (class index, score) of up to three classes, best first; () where it failed.
        unsure: Its best score is below the threshold.
        error: Why it has no label; None where it has one.
    """

    name: str
    source: object
    top: tuple[tuple[int, float], ...]
    unsure: bool
    error: Failure | None

    @property
    def score(self) -> float:
        """Of the best class, in [0, 1]; 0 where there is none."""
        return self.top[0][1] if self.top else 0.0
