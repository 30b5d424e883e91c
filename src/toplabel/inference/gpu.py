"""A model's engine for many images on a GPU, where PyTorch can use one and gives the same.

Whether there is one is known by the machine's devices (`_internal.platform.gpu_count`), that
PyTorch has no CUDA by one small file of it, before torch is imported.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.text import first_line
from toplabel.errors import EngineError
from toplabel.inference.classifier import TakingTurns, by_prior
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from toplabel.bundle.margin import Margin
    from toplabel.bundle.reduced import Precision
    from toplabel.bundle.reference import ReferenceOutputs
    from toplabel.bundle.unknown import UnknownDetector
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Batch, Engine
    from toplabel.inference.scoring import Question

_BUILT_FOR_A_GPU = re.compile(r"^(?:cuda|hip)\b[^=\n]*= *['\"]", re.MULTILINE)

logger = logging.getLogger(__name__)


def open_on_gpu(
    classifier: Classifier, *, features: bool = False, precision: Precision | None = None
) -> Engine | None:
    """An engine of the model on its GPU that threads may share; None, said once, without one.

    In float32 it is used only if it gives the reference outputs, of tensors and of pixels.

    Args:
        classifier: A model that may use one (`Classifier.gpu`), with its network.
        features: The engine is asked for features, too.
        precision: What it computes in, if not in float32: close to the exact answers alone.
    """
    try:
        if classifier.gpu.startswith("cuda"):
            _check_pytorch()
        return _open(classifier, features=features, dtype=precision or "float32")
    except Exception as error:  # whatever it is, the CPU labels as well
        reason = first_line(error, named=not isinstance(error, EngineError))
        logger.info("%s is labelled on the CPU, not on a GPU: %s", classifier.name, reason)
        return None


def _check_pytorch() -> None:
    """Refuse a PyTorch without CUDA before it is imported, which takes seconds.

    Raises:
        EngineError: There is none, or it was built for the CPU.
    """
    from importlib.util import find_spec  # only on a machine with a GPU

    found = find_spec("torch")
    if found is None or found.origin is None:
        raise EngineError("PyTorch is not installed; pip install 'toplabel[torch]'")
    version = Path(found.origin).with_name("version.py")
    if not _BUILT_FOR_A_GPU.search(version.read_text(encoding="utf-8")):
        raise EngineError("the installed PyTorch was built for the CPU alone")


def _open(classifier: Classifier, *, features: bool, dtype: str) -> Engine:
    from toplabel.bundle.model import Model
    from toplabel.inference.engines.torch import TorchEngine, check_cuda
    from toplabel.inference.engines.torch_pixels import PixelEngine

    assert classifier.lazy_module is not None
    if classifier.gpu.startswith("cuda"):
        check_cuda()
    model = Model(
        name=classifier.name,
        module=classifier.lazy_module.get(),
        architecture="",
        preprocess=classifier.preprocess,
        labels=classifier.labels,
        activation=classifier.activation,
        multi_label=classifier.multi_label,
    )
    engine: Engine
    if isinstance(classifier.preprocess, Preprocess):
        engine = PixelEngine(model, device=classifier.gpu, dtype=dtype, features=features)
    else:
        tensors = TorchEngine(model, device=classifier.gpu, dtype=dtype, features=features)
        engine = TakingTurns(tensors)
    if dtype == "float32":
        _check(engine, _reference(classifier, TorchEngine(model, device="cpu")))
    return by_prior(engine, classifier.calibration)


def _reference(classifier: Classifier, on_cpu: Callable[..., object]) -> ReferenceOutputs:
    """Those of the model's program; where it has none, drawn on the CPU."""
    from toplabel.bundle.reference import ReferenceOutputs

    if classifier.bundle is not None:
        return ReferenceOutputs.load(classifier.bundle.program.reference_path)
    return ReferenceOutputs.draw(classifier.preprocess, on_cpu)  # type: ignore[arg-type]


def _check(engine: Engine, reference: ReferenceOutputs) -> None:
    """Refuse an engine that gives other logits than the reference outputs.

    Raises:
        EngineError: By how much they differ.
    """
    from toplabel.bundle.reference import compare, replay_once

    agreements = [replay_once(reference, engine)]
    if (preprocess := engine.normalises) is not None:
        planes = 1 if preprocess.channels == "grey" else preprocess.num_channels
        pixels = np.ascontiguousarray(reference.pixels.transpose(0, 2, 3, 1)[..., :planes])
        tensors = np.stack([preprocess.normalise(one) for one in pixels])
        agreements.append(compare(engine(tensors), engine(pixels)))
    for agreement in agreements:
        if not agreement.agrees:
            raise EngineError(f"it gives other answers there: {agreement.reason}")


class BothWays:
    """An engine that answers exactly, and notes what a reduced one says of the same images.

    Args:
        exact: Its answers are given.
        reduced: Close to it, and faster; takes what the exact one takes.
    """

    def __init__(self, exact: Engine, reduced: Engine) -> None:
        self.name, self.device, self.normalises = exact.name, exact.device, exact.normalises
        self._exact, self.reduced = exact, reduced
        self._pairs: list[tuple[NDArray[np.float32], ...]] = []
        self._failure = ""

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """The exact logits, float32 (N, K)."""
        logits = self._exact(batch)
        self._note(lambda: (logits, self.reduced(batch)))
        return logits

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The exact logits (N, K) and features (N, D)."""
        logits, features = self._exact.answer(batch)
        self._note(lambda: (logits, *self.reduced.answer(batch), features))
        return logits, features

    def _note(self, ask: Callable[[], tuple[NDArray[np.float32], ...]]) -> None:
        try:
            self._pairs.append(ask())
        except Exception as error:  # the exact answer is there
            self._failure = first_line(error, named=not isinstance(error, EngineError))

    def margin(self, question: Question, unknown: UnknownDetector | None) -> Margin | str:
        """Below which distance from a boundary the reduced answers are not believed.

        In one line, why there is none.

        Args:
            question: What is asked of the logits.
            unknown: What tells unknown images, where the model can.
        """
        from toplabel.inference.margin import fit_margin

        if self._failure or not self._pairs:
            return self._failure or "no image has an answer"
        exact, reduced, *features = map(np.concatenate, zip(*self._pairs, strict=True))
        order = np.lexsort(exact.T[:2])  # threads come in any order
        return fit_margin(
            exact[order],
            reduced[order],
            question,
            reduced_features=features[0][order] if features else None,
            exact_features=features[1][order] if features else None,
            unknown=unknown,
        )
