"""Explanation: what a heat map is of, how it was made, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from toplabel.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Method = Literal["gradcam", "occlusion"]
MethodChoice = Literal["auto", "gradcam", "occlusion"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """What in a picture spoke for a label.

    Args:
        heat: float32 (H, W) in [0, 1], of the upright picture's own size: 1 where most spoke for
            the label, 0 where nothing did, and outside of what the model saw.
        label: The name of the class that it is of.
        index: Its number.
        score: What the model gives it, as in a prediction.
        method: "gradcam", or "occlusion": a grey patch moved over the picture.
        layer: Grad-CAM's layer, by its name in the network; "" for occlusion.
        model: The model, in full.
        faithfulness: How much of the score is lost where the hottest tenth of what the model sees
            is painted over with the mean colour.
        random_faithfulness: The same for random tenths of the same shape, their mean. A map that
            is true has a `faithfulness` well above it.
    """

    heat: NDArray[np.float32]
    label: str
    index: int
    score: float
    method: Method
    layer: str
    model: str
    faithfulness: float
    random_faithfulness: float


def check_method(method: str) -> None:
    """Stop where there is no such method.

    Raises:
        UsageError: It says which there are.
    """
    accepted = get_args(MethodChoice)
    if method not in accepted:
        raise UsageError(f"got method {method!r}; expected one of {', '.join(accepted)}")
