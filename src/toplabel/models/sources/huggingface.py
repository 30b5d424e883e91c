"""Hugging Face: a repository's name or a folder in, the Model of its image classifier out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from toplabel._internal.notices import quiet_libraries, warn
from toplabel._internal.optional import require
from toplabel.bundle.model import Model
from toplabel.errors import CheckpointError, ModelError, PreprocessError
from toplabel.labels.labels import Labels
from toplabel.models.sources import timm
from toplabel.models.sources.fetch import (
    CONFIGS,
    cannot_load,
    check_unchanged,
    choose_weights,
    demand_safe_pickles,
    fetch_from_hub,
    folder_signatures,
    weights_in,
)
from toplabel.models.transforms import huggingface as transforms
from toplabel.models.zoo_import import import_torchvision
from toplabel.preprocess.custom import AnyPreprocess
from toplabel.preprocess.preprocess import Preprocess

_BESIDE = (*CONFIGS, "README.md")
_CLASSIFIER = "ForImageClassification"
_NOT_PIXELS = {"imagegpt": "its input is colour clusters", "shieldgemma2": "it reads text too"}
_LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.M)


def load(name: str, *, offline: bool, preprocess: AnyPreprocess | None = None) -> Model:
    """The classifier `ORG/NAME[@REVISION]`; what is in the cache is not asked for again.

    Raises:
        ModelNotFound: The Hub has no such repository or revision.
        ModelError: It is not an image classifier.
        PreprocessError: Its preprocessing is not stated, or cannot be expressed.
        CheckpointError: Its weights are missing, cannot be read or do not fit.
        DownloadError: It is not on this machine and cannot be fetched.
    """
    folder = fetch_from_hub(
        name,
        key_files=["config.json"],
        choose=_choose,
        is_whole=lambda folder: bool(weights_in(folder)),
        offline=offline,
    )
    repository = name.partition("@")[0]
    return _load(
        folder,
        name=f"hf/{repository}@{folder.name}",
        provenance={"source": "huggingface", "repository": repository, "revision": folder.name},
        registered=repository.startswith("timm/"),
        preprocess=preprocess,
    )


def load_folder(path: str, *, offline: bool, preprocess: AnyPreprocess | None = None) -> Model:
    """The classifier in a folder on this machine; `offline` has no use here.

    Raises:
        ModelError: It is not an image classifier.
        PreprocessError: Its preprocessing is not stated, or cannot be expressed.
        CheckpointError: Its weights are missing, cannot be read, do not fit, or changed meanwhile.
    """
    return _load(
        Path(path),
        name=f"folder/{Path(path).name}",  # where it lies is no business of who gets an answer
        provenance={"source": "folder"},
        registered=False,
        preprocess=preprocess,
    )


def _load(
    folder: Path,
    *,
    name: str,
    provenance: Mapping[str, str],
    registered: bool,
    preprocess: AnyPreprocess | None,
) -> Model:
    stamps = folder_signatures(folder)
    config = _read_json(folder / "config.json")
    provenance = dict(provenance) | _licence(folder)
    # transformers, too, saves timm's models, with weights that timm itself does not understand.
    if "architecture" in config and "model_type" not in config:
        return timm.load_folder(
            folder,
            name=name,
            stamps=stamps,
            provenance=provenance,
            registered=registered,
            preprocess=preprocess,
        )
    _check_config(config, name=name)
    preprocess = preprocess or _read_preprocess(folder, config, name)
    files = weights_in(folder)
    if not files:
        raise CheckpointError(
            f"{folder} has no weights, or not all of them; expected model.safetensors or"
            " pytorch_model.bin"
        )
    demand_safe_pickles(files)
    module, id2label = _load_module(folder, name=name)
    check_unchanged(folder, stamps)
    # One output is a sigmoid's in transformers' own pipeline, too.
    multi_label = _says_multi_label(config) or len(id2label) == 1
    return Model(
        name=name,
        module=module,
        architecture=f"transformers/{config['model_type']}",
        preprocess=preprocess,
        labels=read_labels(id2label, config.get("label2id")),
        activation="sigmoid" if multi_label else "softmax",
        multi_label=multi_label,
        weights_files=stamps,
        provenance=provenance | {"library": f"transformers {_import().__version__}"},
    )


def read_labels(id2label: Mapping[int, str], label2id: object = None) -> Labels:
    """The names in `id2label`; indices where it holds only LABEL_0, LABEL_1 and so on.

    Args:
        id2label: Of the configuration.
        label2id: Beside it; a difference is warned of.

    Raises:
        LabelsError: The indices have gaps.
    """
    if all(str(name) == f"LABEL_{index}" for index, name in id2label.items()):
        return Labels.indices(len(id2label))
    labels = Labels.of({int(index): str(name) for index, name in id2label.items()})
    if isinstance(label2id, Mapping) and {*label2id} == {*labels}:
        wrong = [name for index, name in enumerate(labels) if str(label2id[name]) != str(index)]
        if wrong and len({*labels}) == len(labels):
            warn(
                f"id2label and label2id of the configuration differ, in {wrong[0]!r} first: taking"
                " id2label, as transformers does; one of them was edited",
                about="labels",
            )
    return labels


def _read_preprocess(folder: Path, config: Mapping[str, Any], name: str) -> Preprocess:
    """The preprocessing that the folder's preprocessor_config.json describes.

    Raises:
        PreprocessError: There is none, or it cannot be expressed.
    """
    if "pretrained_cfg" in config:  # a model of timm's, saved by transformers
        return transforms.from_config(config)
    settings = {}
    if (path := folder / "preprocessor_config.json").is_file():
        settings = _read_json(path)
    elif (path := folder / "processor_config.json").is_file():  # how newer versions may save it
        settings = _read_json(path).get("image_processor", {})
    if not settings:
        raise PreprocessError(
            f"{name} has no preprocessor_config.json, so its preprocessing is unknown; pass"
            " preprocess=... with the transform of its validation: a preset (`toplabel models"
            " --preprocess` lists them), a JSON file or your own code as FILE.py:NAME"
        )
    return transforms.from_config(settings, model_type=config["model_type"])


def _choose(names: list[str]) -> list[str]:
    """Of a repository's files, those needed: the weights last."""
    wanted = [name for name in _BESIDE if name in names] + choose_weights(names)
    if "config.json" not in wanted or wanted[-1] in _BESIDE:
        raise ModelError(
            "this repository has no config.json with a model.safetensors or pytorch_model.bin;"
            " expected an image classifier of transformers or timm"
        )
    return wanted


def _licence(folder: Path) -> dict[str, str]:
    """The licence that the head of README.md states."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    head = text.split("\n---", 1)[0] if text.startswith("---") else ""
    found = _LICENCE.search(head)
    return {"licence": found[1]} if found else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"cannot read {path}: expected a JSON object")
    return value


def _check_config(config: Mapping[str, Any], *, name: str) -> None:
    """Stop where a config.json is not that of an image classifier which transformers itself has.

    Raises:
        ModelError: It is not; says what it is instead.
    """
    kind = config.get("model_type")
    architectures = config.get("architectures") or []
    if not kind:
        raise ModelError(
            f"the config.json of {name} has neither a model_type (transformers) nor an"
            " architecture (timm); expected an image classifier of one of the two"
        )
    if kind in _NOT_PIXELS:
        raise ModelError(f"{name} is a {kind} model, which cannot be used: {_NOT_PIXELS[kind]}")
    if not any(_CLASSIFIER in architecture for architecture in architectures):
        what = " and ".join(map(str, architectures)) or "no architecture"
        raise ModelError(
            f"{name} holds {what}, which is not an image classifier; expected ...{_CLASSIFIER},"
            " with a trained classifier head"
        )
    if config.get("problem_type") == "regression":
        raise ModelError(
            f"{name} is a regression (problem_type in its config.json): its outputs are quantities,"
            " not classes, so it has no label for an image"
        )
    if kind not in _classifier_kinds():
        own_code = "auto_map" in config
        reason = "its own code, which is never run" if own_code else "a newer transformers"
        raise ModelError(f"{name} is a {kind!r} model, which needs {reason}")


def _says_multi_label(config: Mapping[str, Any]) -> bool:
    return config.get("problem_type") == "multi_label_classification"


def _load_module(folder: Path, *, name: str) -> tuple[nn.Module, Mapping[int, str]]:
    """The classifier in eval mode and float32, and its `id2label`.

    The module takes a float32 (N, C, H, W) batch and gives float32 (N, K) logits.

    Raises:
        CheckpointError: The weights cannot be read, or leave a part of the network untrained.
    """
    library = _import()
    try:
        with quiet_libraries(), _quiet(library):
            module, report = library.AutoModelForImageClassification.from_pretrained(
                str(folder),
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # whatever the library's code makes of what stands in the file
        raise cannot_load(name, folder, error) from error
    untrained = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if untrained:
        raise CheckpointError(
            f"the weights of {name} lack {len(untrained)} of its tensors, so these are untrained:"
            f" {', '.join(untrained[:3])}{', ...' if len(untrained) > 3 else ''}"
        )
    module.config.return_dict = True
    return PixelsToLogits(module.eval()).eval(), module.config.id2label


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
