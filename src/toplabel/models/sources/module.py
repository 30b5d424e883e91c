"""Module: a live nn.Module, its labels and preprocessing in; a checked Model out."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toplabel._internal.notices import warn
from toplabel._internal.text import first_line
from toplabel.bundle.model import Model
from toplabel.bundle.reference import are_probabilities
from toplabel.bundle.trust import check_repeatability
from toplabel.errors import ModelError
from toplabel.labels.files import order_warning
from toplabel.labels.given import LabelsLike, labels_for
from toplabel.labels.labels import Labels
from toplabel.models import transforms
from toplabel.models.sources.as_written import as_written, set_eval_mode
from toplabel.models.sources.own_labels import labels_of_network
from toplabel.preprocess.custom import AnyPreprocess, CustomPreprocess
from toplabel.preprocess.preprocess import Preprocess

_SEED = 20
_ENOUGH_OUTPUTS = 6  # two classes and three images


def from_module(
    module: nn.Module,
    *,
    preprocess: object,
    labels: LabelsLike | None = None,
    multi_label: bool = False,
    name: str | None = None,
) -> Model:
    """The Model of a live network.

    The network itself is used, not a copy, and is put into eval mode; only where it lies on
    another device than the CPU, or is not float32, a copy is made.

    Args:
        module: Weights loaded. Its output may be a tensor (N, K) or (N, K, 1, 1), a tuple of one,
            an object with `logits`, or a dict with "logits" or "out".
        preprocess: A `Preprocess`, or what `transforms.read_preprocess` takes.
        labels: As `labels_for` takes them; None: the names that the network itself brings, as
            those of transformers and timm may, else indices.
        multi_label: Outputs are independent of each other.
        name: What to call it; by default the name of its class.

    Raises:
        ModelError: It cannot be used as a classifier; says why.
        PreprocessError: The preprocessing cannot be expressed.
        LabelsError: The labels do not fit the outputs.
    """
    if type(module).__name__ == "ExportedProgram" and callable(getattr(module, "module", None)):
        module = module.module()  # type: ignore[operator]  # a program of torch.export, which is no module itself
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"got a {type(module).__name__}; expected a torch.nn.Module with its weights loaded"
        )
    if not isinstance(preprocess, Preprocess | CustomPreprocess):
        preprocess = transforms.read_preprocess(preprocess)
    inner = module.module if isinstance(module, nn.DataParallel) else module
    name = name or type(inner).__name__
    example = torch.from_numpy(_draw_images(preprocess)[:1])
    network = _on_cpu(inner)
    set_eval_mode(network)
    with undisturbed(network):
        adapted = logits_module(as_written(network, example)).eval()
    outputs = _checked_outputs(adapted, preprocess, name)
    if outputs.shape[1] < 2 and not multi_label:
        raise ModelError(
            f"{name} has a single output, so there is only one possible label; for a binary model"
            " pass multi_label=True"
        )
    return Model(
        name=name,
        module=adapted,
        architecture=_architecture(type(inner)),
        preprocess=preprocess,
        labels=_labels(labels, inner, outputs.shape[1]),
        multi_label=multi_label,
        probabilities=_are_scores(outputs, multi_label=multi_label),
        provenance={"source": "module", "class": _class_name(type(inner))},
    )


def logits_module(module: nn.Module) -> nn.Module:
    """A module that gives float32 (N, K) whatever form `module` gives its scores in.

    Its forward raises ModelError where they have no form that is known.
    """
    return module if isinstance(module, LogitsOnly) else LogitsOnly(module)


class LogitsOnly(nn.Module):
    """A network whose output is brought into the form (N, K)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> LogitsOnly:
        """Leave the network as it is: its mode was set as its own code wants it."""
        self.training = mode
        return self

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) for a float32 (N, C, H, W) batch."""
        return _to_logits(self.network(batch))


def _checked_outputs(
    module: nn.Module, preprocess: AnyPreprocess, name: str
) -> NDArray[np.float32]:
    """What the module gives for three images, one at a time: float32 (3, K), finite.

    Raises:
        ModelError: It fails, gives no row of finite scores for an image, answers differently when
            asked again, or lets the other images of a batch change an answer.
    """
    training = [part_name for part_name, part in module.named_modules() if part.training]
    if training:
        raise ModelError(
            f"{name} stays in training mode after eval(), in {training[0] or 'its root'!r}: its"
            " answers would change from call to call; let its train() accept False"
        )

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return _forward(module, batch, name)

    images = _draw_images(preprocess)
    with undisturbed(module):
        outputs = np.concatenate([run(images[i : i + 1]) for i in range(len(images))])
        if not np.isfinite(outputs).all():
            raise ModelError(
                f"{name} gave scores that are NaN or infinite for an ordinary image; its weights"
                " are damaged, or mean and std are not those of its training"
            )
        check_repeatability(
            run,
            images,
            outputs,
            name=name,
            if_random="F.dropout needs training=self.training",
            if_batch="a batch normalisation still uses the batch's statistics, or a softmax runs"
            " over the batch (dim=0); such a model has no label for an image",
            batch_sizes=(len(images),),
        )
    return outputs


def _forward(module: nn.Module, batch: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    try:
        outputs: NDArray[np.float32] = module(torch.from_numpy(batch)).numpy()
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"{name} fails on a batch of shape {batch.shape}: {first_line(error)}; is the"
            " preprocessing that of its training?"
        ) from error
    if len(outputs) != len(batch):
        raise ModelError(f"{name} gave {len(outputs)} rows of scores for {len(batch)} images")
    return outputs


def _labels(given: LabelsLike | None, network: nn.Module, outputs: int) -> Labels:
    own = labels_of_network(network, outputs)
    if given is not None:
        return labels_for(given, outputs, own=own)
    if own is None:
        return Labels.indices(outputs)
    if text := order_warning(own):
        warn(text)
    return own


def _are_scores(outputs: NDArray[np.float32], *, multi_label: bool) -> bool:
    """Whether outputs (N, K) are in [0, 1] already, so that no softmax or sigmoid belongs on top.

    Exclusive classes: each row sums to 1. Independent ones: every value lies in [0, 1], which
    logits of several images and classes do not do by chance.
    """
    if not multi_label:
        return are_probabilities(outputs)
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    return within and outputs.size >= _ENOUGH_OUTPUTS


def _to_logits(outputs: object) -> torch.Tensor:
    """The scores in whatever a network gave, as float32 (N, K)."""
    if isinstance(outputs, (tuple, list)) and len(outputs) == 1:
        outputs = outputs[0]
    if isinstance(outputs, Mapping) and not hasattr(outputs, "logits"):
        outputs = outputs.get("logits", outputs.get("out", outputs))
    outputs = getattr(outputs, "logits", outputs)
    if isinstance(outputs, torch.Tensor):
        if outputs.ndim == 4 and outputs.shape[2:] == (1, 1):
            outputs = outputs.flatten(1)
        if outputs.ndim == 2 and outputs.is_floating_point():
            return outputs.float()
    raise ModelError(
        f"the network gave {_describe(outputs)}; expected scores as a tensor of shape (N, K), or"
        " an object with such logits"
    )


def _describe(outputs: object) -> str:
    if isinstance(outputs, torch.Tensor):
        return f"a {outputs.dtype} tensor of shape {tuple(outputs.shape)}"
    if isinstance(outputs, (tuple, list)):
        return f"a {type(outputs).__name__} of {len(outputs)}"
    if isinstance(outputs, Mapping):
        return f"a dict with {', '.join(map(str, outputs)) or 'nothing in it'}"
    return f"a {type(outputs).__name__}"


def _draw_images(preprocess: AnyPreprocess) -> NDArray[np.float32]:
    """Noise over the whole range of pixels, normalised: float32 (3, C, H, W)."""
    shape = (3, *preprocess.input_size, preprocess.num_channels)
    noise = np.random.default_rng(_SEED).integers(0, 256, shape)
    # Each image has its own brightness, so that a batch's statistics depend on its members.
    brightness = np.array([0.4, 0.7, 1.0]).reshape(-1, 1, 1, 1)
    pixels = (noise * brightness).astype(np.uint8)
    return np.stack([preprocess.normalise(image) for image in pixels])


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """No gradients; the random state and the module's buffers as before, whatever runs inside."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            yield
        finally:
            for name, buffer in module.named_buffers():
                if name in buffers and not torch.equal(buffer, buffers[name]):
                    buffer.copy_(buffers[name])


def _on_cpu(module: nn.Module) -> nn.Module:
    """The module itself where it computes on the CPU in float32, else a copy that does."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(nn.parameter.is_lazy(t) for t in tensors):
        raise ModelError(
            "got a network whose lazy layers have no weights yet; load its weights first"
        )
    if any(t.is_meta for t in tensors):
        raise ModelError("got a network on the device 'meta', without weights; load them first")
    floating = [t for t in tensors if t.is_floating_point()]
    if all(t.device.type == "cpu" for t in tensors) and all(
        t.dtype == torch.float32 for t in floating
    ):
        return module
    return copy.deepcopy(module).to("cpu", torch.float32)


def _architecture(kind: type) -> str:
    """The class, and the sha256 of its file where it is not one of PyTorch's own."""
    name = _class_name(kind)
    try:
        file = Path(inspect.getfile(kind))
        return f"{name}@{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    except (OSError, TypeError):  # typed into a shell or notebook
        return name


def _class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
