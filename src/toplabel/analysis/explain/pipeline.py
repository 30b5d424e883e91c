"""Pipeline: a model that is ready to run and an image in, the evidence for a label out."""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, get_args

import numpy as np

from toplabel._internal.optional import require
from toplabel.analysis.explain.perturbation import MaskedInput, faithfulness, occlusion_heat
from toplabel.analysis.explain.upsample import over_image, over_input, seen_box
from toplabel.errors import ModelError, UsageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image
from toplabel.inference.batch import image_error
from toplabel.inference.scoring import rank
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from toplabel.analysis.explain.gradcam import GradCam
    from toplabel.image.decoded_image import DecodedImage
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine
    from toplabel.labels.labels import Labels

Method = Literal["gradcam", "occlusion"]
MethodChoice = Literal["auto", "gradcam", "occlusion"]

CPU_BATCH_SIZE = 2
GPU_BATCH_SIZE = 64

_AGREES = 0.05
"""How far a network's logits may be from the engine's, of their spread, to be the same model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """The evidence in an image for a label.

    Args:
        label: The name of the class.
        index: Its index.
        score: The model's score for it, as in a prediction.
        method: "gradcam", or "occlusion": a patch of the mean colour moved over the image.
        layer: Grad-CAM's layer, by its name in the network; "" for occlusion.
        model: The model, in full.
        faithfulness: The drop in score when the hottest tenth of the model's input is replaced by
            the mean colour.
        random_faithfulness: The mean drop for random tenths of the same shape. A faithful map has
            a `faithfulness` well above it.
        decoded: The whole upright image.
        input_heat: float32 (h, w) in [0, 1], over the model's input.
        preprocess: What made the input from the image.
        warnings: What was assumed or noticed of the model and the image, as in a prediction.
        unknown: The image is unlike what the model was trained on; None where it cannot tell.
    """

    label: str
    index: int
    score: float
    method: Method
    layer: str
    model: str
    faithfulness: float
    random_faithfulness: float
    decoded: DecodedImage
    input_heat: NDArray[np.float32]
    preprocess: Preprocess
    warnings: tuple[str, ...] = ()
    unknown: bool | None = None

    @cached_property
    def heat(self) -> NDArray[np.float32]:
        """float32 (H, W) in [0, 1], of the upright image's own size.

        1 marks the strongest evidence for the label, 0 none, and what the model does not see.
        """
        return self.heat_at((self.decoded.height, self.decoded.width))

    @property
    def image(self) -> NDArray[np.uint8]:
        """The whole upright image: uint8 (H, W, 3), RGB."""
        return self.decoded.pixels

    def heat_at(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """The same where the image is shown at another (height, width)."""
        image_size = self.decoded.height, self.decoded.width
        return over_image(self.input_heat, self.preprocess, image_size=image_size, size=size)

    def seen_at(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """What the model sees where the image is shown at this size: left, top, right, bottom."""
        image_size = self.decoded.height, self.decoded.width
        return seen_box(self.preprocess, image_size=image_size, size=size)

    def to_dict(self) -> dict[str, Any]:
        """All but the heat: plain data for JSON."""
        names = ("label", "index", "score", "method", "layer")
        more = ("faithfulness", "random_faithfulness", "model")
        facts = {name: getattr(self, name) for name in (*names, *more)}
        if self.unknown is not None:
            facts["unknown"] = self.unknown
        size = {"width": self.decoded.width, "height": self.decoded.height}
        return {**facts, **size, "warnings": list(self.warnings)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG of the image under its heat map, at most 2048 pixels long, at once.

        Raises:
            UsageError: Its name is not that of a PNG, there is no such folder, or a file stands
                there that `explain` did not write.
            ToplabelError: It cannot be written.
        """
        from toplabel.analysis.explain.rendering import save_png  # Pillow's writer

        save_png(self, path)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The heat, for numpy and what builds on it."""
        return np.array(self.heat, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        """One line: the label, its score, and how the map was made."""
        how = f"gradcam at {self.layer}" if self.layer else self.method
        size = f"{self.decoded.width}x{self.decoded.height}"
        unknown = ", unknown" if self.unknown else ""
        return f"<Explanation of {self.label!r} {self.score:.3f} by {how}, {size}{unknown}>"

    def _repr_html_(self) -> str:
        """HTML for a notebook: the image under its heat map."""
        from toplabel.analysis.explain.rendering import render_png
        from toplabel.inference.notebook import png_html

        return png_html(render_png(self, longest=512), alt=repr(self))


def explain_with(
    classifier: Classifier,
    engine: Engine,
    source: object,
    *,
    label: int | str | None = None,
    method: MethodChoice = "auto",
    read: ReadOptions | None = None,
    batch_size: int | None = None,
) -> Explanation:
    """The evidence in an image for a label.

    Args:
        classifier: The model.
        engine: Runs it.
        source: As `read_image` takes it.
        label: The class to explain: an index, a name or an id; None: the predicted one.
        method: "gradcam", "occlusion"; "auto": Grad-CAM where it gives a map, else occlusion.
        read: Limits and choices in reading the image.
        batch_size: Inputs in one call of the engine.

    Raises:
        ImageError: The image cannot be read, or the model's output for it is not finite.
        UsageError: There is no such method or label, several classes share the name, or the
            preprocessing is code, of which nobody knows where in the image the input lies.
        ModelError: Grad-CAM was requested, and this model does not support it.
        MissingDependency: Grad-CAM was requested, and torch or captum is missing.
    """
    preprocess = _checked(classifier, method)
    index = None if label is None else resolve_label(label, classifier.labels)
    image, tensor = _read(source, classifier, read or ReadOptions())
    logits, unknown = _answer(classifier, engine, tensor)
    ranking = rank(logits, classifier.labels, activation=classifier.activation, top_k=1)
    index = ranking.best.index if index is None else index
    score = float(classifier.scores(logits)[index])
    found = _grad_cam(classifier, tensor, logits, index, method)
    default = CPU_BATCH_SIZE if engine.device == "cpu" else GPU_BATCH_SIZE
    masked = MaskedInput(engine, tensor, batch_size or default)
    if found is None:
        heat = occlusion_heat(masked, index=index, activation=classifier.activation)
    else:
        heat = over_input(found.heat, masked.size)
    hottest, random = faithfulness(
        masked, heat, lambda outputs: classifier.scores(outputs)[:, index], whole=score
    )
    return Explanation(
        label=classifier.labels[index],
        index=index,
        score=score,
        method="occlusion" if found is None else "gradcam",
        layer="" if found is None else found.layer,
        model=classifier.name,
        faithfulness=hottest,
        random_faithfulness=random,
        decoded=image,
        input_heat=heat,
        preprocess=preprocess,
        warnings=(*classifier.warnings, *image.warnings),
        unknown=unknown,
    )


def _answer(
    classifier: Classifier, engine: Engine, tensor: NDArray[np.float32]
) -> tuple[NDArray[np.float32], bool | None]:
    """The logits (K,), and whether the image is unknown, where the model can tell."""
    if classifier.unknown is None:
        (logits,) = engine(tensor[None])
        return logits, None
    (logits,), features = engine.answer(tensor[None])
    return logits, classifier.unknown.is_unknown(float(classifier.unknown.distance(features)[0]))


def _checked(classifier: Classifier, method: MethodChoice) -> Preprocess:
    """The preprocessing of a model that can be explained by this method; else a `UsageError`."""
    if method not in get_args(MethodChoice):
        accepted = ", ".join(get_args(MethodChoice))
        raise UsageError(f"unknown method {method!r}; expected one of {accepted}")
    preprocess = classifier.preprocess
    if not isinstance(preprocess, Preprocess):
        raise UsageError(
            f"cannot explain {classifier.name}: its preprocessing {preprocess.name} is code, so"
            " where in the image its input lies is not known; pass a preset, a JSON file or a"
            " transform that can be translated"
        )
    return preprocess


def _read(
    source: object, classifier: Classifier, options: ReadOptions
) -> tuple[DecodedImage, NDArray[np.float32]]:
    """The image, and the network's input, (C, h, w)."""
    try:
        image = read_image(source, options=options)
        return image, classifier.preprocess(image.pixels, max_pixels=options.max_pixels)
    except Exception as error:
        raise image_error(error) from error


def _grad_cam(
    classifier: Classifier,
    tensor: NDArray[np.float32],
    logits: NDArray[np.float32],
    index: int,
    method: MethodChoice,
) -> GradCam | None:
    """Grad-CAM's map; None where occlusion is requested, or has to do.

    Raises:
        ModelError: It is requested, and this model does not support it.
        MissingDependency: It is requested, and something is not installed.
    """
    if method == "gradcam":
        return _requested_grad_cam(classifier, tensor, logits, index)
    available = classifier.lazy_module is not None and find_spec("torch") and find_spec("captum")
    if method == "occlusion" or not available:
        return None
    try:
        return _requested_grad_cam(classifier, tensor, logits, index)
    except ModelError:
        return None


def _requested_grad_cam(
    classifier: Classifier, tensor: NDArray[np.float32], logits: NDArray[np.float32], index: int
) -> GradCam:
    if classifier.lazy_module is None:
        raise ModelError(
            f"{classifier.name} is a compiled program, without the network that Grad-CAM needs;"
            " use method 'occlusion', or name the checkpoint it was compiled from"
        )
    for module in ("torch", "captum"):
        require(module, extra="explain", purpose="Grad-CAM")
    from toplabel.analysis.explain.gradcam import grad_cam

    found = grad_cam(classifier.lazy_module.get(), tensor, index)
    spread = float(np.ptp(logits)) or 1.0
    shift = None if classifier.calibration is None else classifier.calibration.shift
    as_trained = logits if shift is None else logits - np.array(shift, np.float32)
    if np.abs(found.logits - as_trained).max() > _AGREES * spread:
        raise ModelError(
            f"the network that {classifier.name} was compiled from has changed since; load it again"
        )
    if not found.heat.any():
        raise ModelError(f"Grad-CAM gives a flat map at {found.layer}; use method 'occlusion'")
    return found


def resolve_label(label: int | str, labels: Labels) -> int:
    """The index of the class that is meant.

    Args:
        label: An index; or exactly the name or id of one of the classes.
        labels: The model's.

    Raises:
        UsageError: There is no such class, or several share the name: it lists them.
    """
    if isinstance(label, str):
        return _find_name(label, labels)
    if isinstance(label, bool) or not isinstance(label, SupportsIndex):
        raise UsageError(f"got label {label!r}; expected the name or index of a class")
    index = operator.index(label)
    if not 0 <= index < len(labels):
        raise UsageError(f"got class index {index}; expected 0 to {len(labels) - 1}")
    return index


def _find_name(name: str, labels: Labels) -> int:
    found = [index for index, known in enumerate(labels) if known == name]
    found = found or [index for index, known in enumerate(labels.ids or ()) if known == name]
    if len(found) > 1:
        raise UsageError(
            f"label {name!r} is ambiguous: {len(found)} classes have that name; give the index of"
            f" one: {', '.join(map(str, found))}"
        )
    if not found:
        raise UsageError(f"unknown label {name!r}{_hint(name, labels)}")
    return found[0]


def _hint(name: str, labels: Labels) -> str:
    from difflib import get_close_matches  # only for a name that is wrong

    part = [known for known in labels if name.strip() and name.lower() in known.lower()]
    close = part[:3] or get_close_matches(name, labels.names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
