"""transformers: a folder with an image classifier in, a module from pixels to logits out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from toplabel._internal.optional import require
from toplabel._internal.text import first_line
from toplabel.errors import CheckpointError, ModelError
from toplabel.models.zoo_import import import_torchvision

_CLASSIFIER = "ForImageClassification"
_NOT_PIXELS = {"imagegpt": "its input is colour clusters", "shieldgemma2": "it reads text too"}


def check_config(config: Mapping[str, Any], *, name: str) -> None:
    """Stop where a config.json is not that of an image classifier which transformers itself has.

    Raises:
        ModelError: It is not; says what it is instead.
    """
    kind = config.get("model_type")
    architectures = config.get("architectures") or []
    if not kind:
        raise ModelError(
            f"the config.json of {name} states neither a model_type (transformers) nor an"
            " architecture (timm); expected an image classifier of one of the two"
        )
    if kind in _NOT_PIXELS:
        raise ModelError(f"{name} is a {kind} model, which cannot be used: {_NOT_PIXELS[kind]}")
    if not any(_CLASSIFIER in architecture for architecture in architectures):
        what = " and ".join(map(str, architectures)) or "no architecture"
        raise ModelError(
            f"{name} holds {what}, which is no image classifier; expected a ...{_CLASSIFIER}, whose"
            " classes were trained"
        )
    if kind not in _classifier_kinds():
        own_code = "auto_map" in config
        reason = "code of its own, which is never run" if own_code else "a newer transformers"
        raise ModelError(f"{name} is a {kind!r} model, which needs {reason}")


def load_module(folder: Path, *, name: str) -> tuple[nn.Module, Mapping[int, str]]:
    """The classifier in eval mode and float32, and its `id2label`.

    The module takes a float32 (N, C, H, W) batch and gives float32 (N, K) logits.

    Raises:
        CheckpointError: The weights cannot be read, or leave a part of the network untrained.
    """
    library = _import()
    try:
        with warnings.catch_warnings(), _quiet(library):
            warnings.simplefilter("ignore")  # of transformers about itself
            module, report = library.AutoModelForImageClassification.from_pretrained(
                str(folder),
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # whatever the library's code makes of what stands in the file
        raise CheckpointError(f"cannot load {name} from {folder}: {first_line(error)}") from error
    untrained = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if untrained:
        raise CheckpointError(
            f"the weights of {name} leave {len(untrained)} of its tensors untrained, among them"
            f" {', '.join(untrained[:3])}; expected all of them"
        )
    module.config.return_dict = True
    return PixelsToLogits(module.eval()).eval(), module.config.id2label


def version() -> dict[str, str]:
    """The library and its version, for the provenance."""
    return {"library": f"transformers {_import().__version__}"}


class PixelsToLogits(nn.Module):
    """A classifier of transformers that takes a tensor and gives a tensor."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) for a float32 (N, C, H, W) batch."""
        logits: torch.Tensor = self.classifier(pixel_values=batch).logits
        return logits


def _classifier_kinds() -> set[str]:
    library = _import()
    kinds = library.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    return set(kinds)


def _import() -> ModuleType:
    if find_spec("torchvision") is not None:
        import_torchvision()  # transformers imports it; see there why it comes first
    return require("transformers", extra="hf", purpose="a Hugging Face model")


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """No progress bars and no advice from transformers while it loads."""
    logging = library.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
