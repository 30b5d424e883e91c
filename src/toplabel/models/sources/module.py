"""Module: a live nn.Module, its labels and preprocessing in; a checked Model out."""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from toplabel.bundle.model import Model
from toplabel.errors import LabelsError, ModelError
from toplabel.labels.labels import Labels
from toplabel.models import transforms
from toplabel.preprocess import Preprocess

_SAME = 1e-6  # of the largest output: two runs of one computation on one machine
_ROUNDING = 1e-3  # of it: the same image alone and in a batch, whose kernels may differ
_SEED = 20
_ENOUGH_OUTPUTS = 6  # two classes and three pictures


def from_module(
    module: nn.Module,
    *,
    preprocess: object,
    labels: Labels | Sequence[str] | Mapping[str, int] | Mapping[int, str] | None = None,
    multi_label: bool = False,
    name: str | None = None,
) -> Model:
    """The Model of a live network.

    The network itself is used, not a copy, and is put into eval mode; only where it lies on
    another device than the CPU, or is not float32, a copy is made.

    Args:
        module: Weights loaded. Its output may be a tensor (N, K) or (N, K, 1, 1), a tuple of one,
            an object with `logits`, or a dict with "logits" or "out".
        preprocess: A `Preprocess`, or what `transforms.translate` knows.
        labels: As `Labels.of` takes them; None: answers are indices.
        multi_label: Outputs are independent of one another.
        name: What to call it; by default the name of its class.

    Raises:
        ModelError: It cannot be used as a classifier; says why.
        PreprocessError: The preprocessing cannot be expressed.
        LabelsError: The labels do not fit the outputs.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"got a {type(module).__name__}; expected a torch.nn.Module with its weights loaded"
        )
    recipe = preprocess if isinstance(preprocess, Preprocess) else transforms.translate(preprocess)
    inner = module.module if isinstance(module, nn.DataParallel) else module
    adapted = logits_module(_on_cpu(inner)).eval()
    outputs = _outputs(adapted, recipe)  # (3, K)
    model = Model(
        name=name or type(inner).__name__,
        module=adapted,
        architecture=_architecture(type(inner)),
        preprocess=recipe,
        labels=Labels.indices(outputs.shape[1]) if labels is None else Labels.of(labels),
        multi_label=multi_label,
        probabilities=_are_scores(outputs, multi_label=multi_label),
        provenance={"source": "module", "class": f"{_class_name(type(inner))}"},
    )
    check_module(model)
    return model


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

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) for a float32 (N, C, H, W) batch."""
        return _to_logits(self.network(batch))


def check_module(model: Model) -> None:
    """Stop where a model's answers are not those of a classifier, by a few small forwards.

    Raises:
        ModelError: Two forwards of one input differ; the answer for an image depends on the rest
            of its batch; outputs are no finite (N, K) with K >= 2 (1 for multi-label models).
        LabelsError: There is not one label for each output.
    """
    training = [name for name, part in model.module.named_modules() if part.training]
    if training:
        raise ModelError(
            f"{model.name} stays in training mode after eval(), in {training[0] or 'its root'!r}:"
            " its answers would change from call to call; let its train() accept False"
        )
    with _undisturbed(model.module):
        images = _draw_images(model.preprocess, count=3)
        alone = _forward(model.module, images[:1], model.name)
        _check_outputs(model, alone)
        _check_repeats(model, images, alone)
        _check_batches(model, images, alone)


def _check_outputs(model: Model, outputs: torch.Tensor) -> None:
    rows, count = outputs.shape
    if rows != 1:
        raise ModelError(f"{model.name} gave {rows} rows of scores for one image; expected one")
    if count < 2 and not model.multi_label:
        raise ModelError(
            f"{model.name} has a single output, so one label is always right; for a yes-or-no"
            " model say multi_label=True"
        )
    if not bool(outputs.isfinite().all()):
        raise ModelError(
            f"{model.name} gave scores that are not finite for an ordinary picture; its weights"
            " are damaged, or mean and std are not those of its training"
        )
    if count != len(model.labels):
        raise LabelsError(
            f"got {len(model.labels)} labels for {model.name}, which has {count} outputs; give"
            " exactly one name per output, in the order of training"
        )


def _check_repeats(model: Model, images: torch.Tensor, alone: torch.Tensor) -> None:
    again = _forward(model.module, images[:1], model.name)
    if not _close(alone, again, _SAME):
        raise ModelError(
            f"{model.name} answers the same picture differently each time: something random is"
            " still on, such as F.dropout without training=self.training"
        )


def _check_batches(model: Model, images: torch.Tensor, alone: torch.Tensor) -> None:
    """Compare the first image's answer alone, beside the second, and beside the third."""
    try:
        beside_second = model.module(images[:2])
        beside_third = model.module(images[[0, 2]])
    except Exception:
        return  # it takes one image at a time, as `alone` has shown
    if len(beside_second) != 2 or len(beside_third) != 2:
        return
    same = _close(beside_second[:1], beside_third[:1], _SAME)
    if not same or not _close(alone, beside_second[:1], _ROUNDING):
        raise ModelError(
            f"the answer of {model.name} for a picture depends on the other pictures of its batch:"
            " a batch normalisation still uses the batch's statistics, or a softmax runs over the"
            " batch (dim=0); such a model has no label for a picture"
        )


def _outputs(module: nn.Module, recipe: Preprocess) -> torch.Tensor:
    """What the module gives for three different pictures, one at a time: (3, K)."""
    with _undisturbed(module):
        images = _draw_images(recipe, count=3)
        return torch.cat([_forward(module, image[None], "the module") for image in images])


def _are_scores(outputs: torch.Tensor, *, multi_label: bool) -> bool:
    """Whether outputs (N, K) are in [0, 1] already, so that no softmax or sigmoid belongs on top.

    Exclusive classes: each row sums to 1. Independent ones: every value lies in [0, 1], which
    logits of several pictures and classes do not do by chance.
    """
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    if multi_label:
        return within and outputs.numel() >= _ENOUGH_OUTPUTS
    return within and bool((outputs.sum(dim=1) - 1).abs().max() <= 1e-4)


def _forward(module: nn.Module, batch: torch.Tensor, name: str) -> torch.Tensor:
    try:
        outputs: torch.Tensor = module(batch)
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{name} fails on a batch of shape {tuple(batch.shape)}: {lines[0]}; is the"
            " preprocessing that of its training?"
        ) from error
    return outputs


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


def _close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    if a.shape != b.shape:
        return False
    largest = max(float(a.abs().max()), float(b.abs().max()))
    return math.isfinite(largest) and float((a - b).abs().max()) <= tolerance * largest


def _draw_images(recipe: Preprocess, *, count: int) -> torch.Tensor:
    """Noise over the whole range of pixels, normalised: float32 (count, C, H, W)."""
    channels = recipe.num_channels
    low, high = recipe.range
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.rand(count, channels, *recipe.input_size, generator=generator)
    mean, std = (
        torch.tensor(v, dtype=torch.float32).reshape(-1, 1, 1) for v in (recipe.mean, recipe.std)
    )
    # Each picture has its own brightness, so that a batch's statistics depend on its members.
    brightness = torch.linspace(0.4, 1.0, count).reshape(-1, 1, 1, 1)
    return (noise * brightness * (high - low) + low - mean) / std


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
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
