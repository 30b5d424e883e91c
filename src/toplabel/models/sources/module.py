"""Module: a live nn.Module, its labels and preprocessing in; a checked Model out."""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toplabel._internal.notices import warn
from toplabel._internal.text import first_line, number_of
from toplabel.bundle.bounds import Bounds
from toplabel.bundle.model import Model
from toplabel.bundle.outputs import Evidence, interpret
from toplabel.bundle.trust import check_repeatability, have_scores
from toplabel.errors import ModelError
from toplabel.labels.files import order_warning
from toplabel.labels.given import LabelsLike, labels_for, list_given
from toplabel.labels.labels import Labels
from toplabel.models import transforms
from toplabel.models.outputs import Scores, choose_output, watch
from toplabel.models.sources.as_written import as_written, set_eval_mode
from toplabel.models.sources.own_labels import labels_of_network
from toplabel.preprocess.custom import AnyPreprocess, CustomPreprocess
from toplabel.preprocess.preprocess import Preprocess

_SEED = 20

logger = logging.getLogger(__name__)


def from_module(
    module: nn.Module,
    *,
    preprocess: object,
    labels: LabelsLike | None = None,
    multi_label: bool = False,
    output: str | int | None = None,
    name: str | None = None,
    find_labels: Callable[[int], Labels | None] | None = None,
) -> Model:
    """The Model of a live network.

    The network itself is used, not a copy, and is put into eval mode; only where it lies on
    another device than the CPU, or is not float32, a copy is made.

    Args:
        module: Weights loaded. It gives a tensor (N, K), or with further axes of one, or several
            tensors in a tuple, list, dict or object. They may be logits, or scores already.
        preprocess: A `Preprocess`, or what `transforms.read_preprocess` takes.
        labels: As `labels_for` takes them; None: the names that the network itself brings, as
            those of transformers and timm may, else indices. Of one output: two names, that of no
            first, or one.
        multi_label: Outputs are independent of each other.
        output: Which of several tensors holds the scores: its name, or its place from 0.
        name: What to call it; by default the name of its class.
        find_labels: Gives the labels of so many outputs instead; None: there are none.

    Raises:
        ModelError: It cannot be used as a classifier; says why.
        PreprocessError: The preprocessing cannot be expressed.
        LabelsError: The labels do not fit the outputs.
    """
    if type(module).__name__ == "ExportedProgram" and callable(getattr(module, "module", None)):
        module = module.module()  # type: ignore[operator]  # a program of torch.export, which is no module itself
    if not isinstance(module, nn.Module):
        raise ModelError(f"got {_kind(module)}; expected a torch.nn.Module with its weights loaded")
    if not isinstance(preprocess, Preprocess | CustomPreprocess):
        preprocess = transforms.read_preprocess(preprocess)
    inner = module.module if isinstance(module, nn.DataParallel) else module
    name = name or type(inner).__name__
    network = _on_cpu(inner)
    set_eval_mode(network)
    with undisturbed(network):
        network = as_written(network, torch.from_numpy(_draw_images(preprocess)[:1]))
    names = None if labels is None else len(list_given(labels).names)
    output, bounds = _find_output(network, preprocess, output=output, names=names, name=name)
    values = _checked_outputs(Scores(network, output).eval(), preprocess, name)
    outputs = values.shape[1]
    found = interpret(
        Evidence(count=outputs, bounds=bounds, values=values),
        labels=find_labels(outputs) if find_labels else _labels(labels, inner, outputs),
        multi_label=multi_label,
        name=name,
    )
    return Model(
        name=name,
        module=Scores(network, output, found.conversion).eval(),
        architecture=_architecture(type(inner)),
        preprocess=preprocess,
        labels=found.labels,
        activation=found.activation,
        multi_label=found.multi_label,
        provenance={"source": "module", "class": _class_name(type(inner))},
    )


def _kind(given: object) -> str:
    """What was given in place of a network, and where that goes."""
    if isinstance(given, type):
        return f"the class {given.__name__} itself"
    if isinstance(given, str | os.PathLike):
        return f"{os.fspath(given)!r} (toplabel.load opens files and names)"
    if isinstance(given, Mapping):
        return f"{type(given).__name__} (toplabel.load takes the file of a state dict, with arch=)"
    return type(given).__name__


def _find_output(
    network: nn.Module,
    preprocess: AnyPreprocess,
    *,
    output: str | int | None,
    names: int | None,
    name: str,
) -> tuple[str, Bounds | None]:
    """The name of the tensor with the scores, and between which numbers they must lie."""
    image = torch.from_numpy(_draw_images(preprocess)[:1])
    with undisturbed(network):
        try:
            given, bounds = watch(network, image.clone())
        except Exception as error:  # not everything can be watched; asked plainly, it may answer
            logger.debug("cannot watch %s", name, exc_info=error)
            given, bounds = _ask(network, image.numpy(), name), {}
    chosen = choose_output(given, output=output, names=names, model=name)
    return chosen, bounds.get(chosen)


def _checked_outputs(
    module: nn.Module, preprocess: AnyPreprocess, name: str
) -> NDArray[np.float32]:
    """What the module gives for three images, one at a time: float32 (3, K).

    No value is NaN or plus infinity; minus infinity masks a class.

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
        if not have_scores(outputs).all():
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
    outputs: NDArray[np.float32] = _ask(module, batch, name).numpy()
    if len(outputs) != len(batch):
        rows = number_of(len(outputs), "row")
        raise ModelError(f"{name} gave {rows} of scores for {number_of(len(batch), 'image')}")
    return outputs


def _ask(module: nn.Module, batch: NDArray[np.float32], name: str) -> Any:
    """Whatever the module gives.

    Raises:
        ModelError: It fails.
    """
    try:
        return module(torch.from_numpy(batch))
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"{name} fails on a batch of shape {batch.shape}: {first_line(error)}; is the"
            " preprocessing that of its training?"
        ) from error


def _labels(given: LabelsLike | None, network: nn.Module, outputs: int) -> Labels | None:
    own = labels_of_network(network, outputs)
    if given is not None:
        return labels_for(given, outputs, own=own)
    if own is not None and (text := order_warning(own)):
        warn(text)
    return own


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
