"""Picture: a model and an image in, the explanation of a label out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from toplabel._internal.optional import require
from toplabel.analysis.explain.explanation import Explanation, Method, MethodChoice, check_method
from toplabel.analysis.explain.faithfulness import faithfulness
from toplabel.analysis.explain.occlusion import cell_size, occlusion_heat
from toplabel.analysis.explain.resolve_label import find_label
from toplabel.analysis.explain.upsample import place
from toplabel.errors import ModelError
from toplabel.image.options import ReadOptions
from toplabel.image.picture import Picture
from toplabel.image.reading import read_image
from toplabel.inference.scoring import rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.analysis.explain.gradcam import GradCam
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine

CPU_BATCH_SIZE = 2
GPU_BATCH_SIZE = 64

_AGREES = 0.05
"""How far a network's logits may be from the engine's, of their spread, to be the same model."""


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What was found out over the model's input; `place` brings it over the picture.

    Args:
        picture: The whole upright picture.
        input_heat: float32 (h, w) in [0, 1], over the model's input.
    """

    picture: Picture
    input_heat: NDArray[np.float32]
    index: int
    score: float
    method: Method
    layer: str
    faithfulness: tuple[float, float]


def find(
    classifier: Classifier,
    engine: Engine,
    source: object,
    *,
    label: int | str | None = None,
    method: MethodChoice = "auto",
    read: ReadOptions | None = None,
    batch_size: int | None = None,
) -> Finding:
    """What in a picture spoke for a label, over the model's input.

    Args:
        classifier: The model.
        engine: Runs it.
        source: As `read_image` takes it.
        label: The class to explain: an index, a name or an id; None: the best one.
        method: "gradcam", "occlusion"; "auto": Grad-CAM where it gives a map, else occlusion.
        read: Limits and choices in reading the image.
        batch_size: Inputs in one call of the engine.

    Raises:
        ImageError: The picture cannot be read, or the model's answer is no number.
        UsageError: There is no such label, or several.
        ModelError: Grad-CAM was demanded, and this model gives none.
        MissingDependency: Grad-CAM was demanded, and torch or captum is missing.
    """
    check_method(method)
    index = None if label is None else find_label(label, classifier.labels)
    read = read or ReadOptions()
    picture = read_image(source, options=read)
    tensor = classifier.preprocess(picture.pixels, max_pixels=read.max_pixels)  # (C, h, w)
    (logits,) = engine(tensor[None])
    ranking = rank(logits, classifier.labels, activation=classifier.activation, top_k=1)
    index = ranking.best.index if index is None else index
    score = float(classifier.scores(logits)[index])
    asked = _Asked(classifier, engine, tensor, logits, index, batch_size or _batch_size(engine))
    heat, used, layer = _heat(asked, method)
    proof = faithfulness(
        engine,
        tensor,
        heat,
        index=index,
        score=score,
        scores=classifier.scores,
        batch_size=asked.batch_size,
    )
    return Finding(picture, heat, index, score, used, layer, proof)


def explanation_of(finding: Finding, classifier: Classifier) -> Explanation:
    """The finding over the picture, at its own size."""
    picture = finding.picture
    heat = place(finding.input_heat, classifier.preprocess, picture=(picture.height, picture.width))
    return Explanation(
        heat=heat,
        label=classifier.labels[finding.index],
        index=finding.index,
        score=finding.score,
        method=finding.method,
        layer=finding.layer,
        model=classifier.name,
        faithfulness=finding.faithfulness[0],
        random_faithfulness=finding.faithfulness[1],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """One question: why this class, for this input."""

    classifier: Classifier
    engine: Engine
    tensor: NDArray[np.float32]  # (C, h, w)
    logits: NDArray[np.float32]  # (K,)
    index: int
    batch_size: int


def _heat(asked: _Asked, method: MethodChoice) -> tuple[NDArray[np.float32], Method, str]:
    """The heat over the input in [0, 1], how it was made, and Grad-CAM's layer."""
    size = asked.tensor.shape[1], asked.tensor.shape[2]
    if method != "occlusion":
        try:
            found = _grad_cam(asked, demanded=method == "gradcam")
        except ModelError:
            if method == "gradcam":
                raise
        else:
            if found is not None:
                return _scaled(_enlarged(found.heat, size)), "gradcam", found.layer
    cells = occlusion_heat(
        asked.engine,
        asked.tensor,
        index=asked.index,
        activation=asked.classifier.activation,
        batch_size=asked.batch_size,
    )
    down, across = cell_size(size)
    whole = _enlarged(cells, (cells.shape[0] * down, cells.shape[1] * across))
    return _scaled(whole[: size[0], : size[1]]), "occlusion", ""


def _grad_cam(asked: _Asked, *, demanded: bool) -> GradCam | None:
    """Grad-CAM's map; None where it cannot be had here and nobody insists.

    Raises:
        ModelError: It cannot be had of this model.
        MissingDependency: It is demanded, and something is not installed.
    """
    live = asked.classifier.live
    if live is None:
        raise ModelError(
            f"{asked.classifier.name} is a compiled program, without the network that Grad-CAM"
            " needs; use method 'occlusion', or name the checkpoint it was made of"
        )
    if not demanded and not (find_spec("torch") and find_spec("captum")):
        return None
    for module in ("torch", "captum"):
        require(module, extra="explain", purpose="Grad-CAM")
    from toplabel.analysis.explain.gradcam import grad_cam

    found = grad_cam(live.module(), asked.tensor, asked.index)
    spread = float(np.ptp(asked.logits)) or 1.0
    if np.abs(found.logits - asked.logits).max() > _AGREES * spread:
        raise ModelError(f"the network that {asked.classifier.name} was made of has changed since")
    if not found.heat.any():
        raise ModelError(f"Grad-CAM gives a flat map at {found.layer}; use method 'occlusion'")
    return found


def _enlarged(heat: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The map over the input, linear between the centres of its cells."""
    image = Image.fromarray(heat)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _scaled(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    highest = float(heat.max())
    return np.clip(heat / highest, 0, 1) if highest > 0 else np.zeros_like(heat)


def _batch_size(engine: Engine) -> int:
    return CPU_BATCH_SIZE if engine.device == "cpu" else GPU_BATCH_SIZE
