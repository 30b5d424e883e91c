"""Hugging Face: a repository's name or a folder in, the Model of its image classifier out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toplabel.bundle.model import Model
from toplabel.errors import CheckpointError, DownloadError, ModelError, PreprocessError
from toplabel.labels.labels import Labels
from toplabel.models.sources import timm, transformers
from toplabel.models.sources.fetch import cached_snapshot, fetch_from_hub
from toplabel.models.sources.weights import choose_weights, demand_safe_pickles, weights_in
from toplabel.models.transforms import huggingface as recipes
from toplabel.preprocess import Preprocess

_CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json", "README.md")
_LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.M)


def load(
    name: str,
    *,
    offline: bool,
    notify: Callable[[str], None],
    preprocess: Preprocess | None = None,
) -> Model:
    """The classifier `ORG/NAME[@REVISION]`; what is in the cache is not asked for again.

    Raises:
        ModelNotFound: The Hub has no such repository or revision.
        ModelError: It is no image classifier.
        PreprocessError: It says nothing of its preprocessing, or something no recipe expresses.
        CheckpointError: Its weights are missing, cannot be read or do not fit.
        DownloadError: It is not on this machine and cannot be fetched.
    """
    repository, _, revision = name.partition("@")
    folder = cached_snapshot(repository, revision or None, ["config.json"])
    if folder is None or not weights_in(folder):
        if offline:
            raise DownloadError(f"{name} is not in the Hugging Face cache, and downloading is off")
        folder = fetch_from_hub(
            repository, revision=revision or None, choose=_choose, notify=notify
        )
    provenance = {"source": "huggingface", "repository": repository, "revision": folder.name}
    return _load(
        folder,
        name=f"hf/{repository}@{folder.name}",
        provenance=provenance,
        registered=repository.startswith("timm/"),
        preprocess=preprocess,
    )


def load_folder(
    path: str,
    *,
    offline: bool,
    notify: Callable[[str], None],
    preprocess: Preprocess | None = None,
) -> Model:
    """The classifier in a folder on this machine; `offline` and `notify` have no use here.

    Raises:
        ModelError: It is no image classifier.
        PreprocessError: It says nothing of its preprocessing, or something no recipe expresses.
        CheckpointError: Its weights are missing, cannot be read or do not fit.
    """
    return _load(
        Path(path),
        name=path,
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
    preprocess: Preprocess | None,
) -> Model:
    config = _read_json(folder / "config.json")
    provenance = dict(provenance) | _licence(folder)
    # transformers, too, saves timm's models, with weights that timm itself does not understand.
    if "architecture" in config and "model_type" not in config:
        return timm.load_folder(
            folder,
            name=name,
            provenance=provenance,
            registered=registered,
            preprocess=preprocess,
        )
    transformers.check_config(config, name=name)
    recipe = preprocess or _read_recipe(folder, config, name)
    files = weights_in(folder)
    if not files:
        raise CheckpointError(
            f"{folder} has no weights, or not all of them; expected model.safetensors or"
            " pytorch_model.bin"
        )
    demand_safe_pickles(files)
    module, id2label = transformers.load_module(folder, name=name)
    configs = [folder / config_name for config_name in _CONFIGS[:3]]
    return Model(
        name=name,
        module=module,
        architecture=f"transformers/{config['model_type']}",
        preprocess=recipe,
        labels=read_labels(id2label),
        multi_label=config.get("problem_type") == "multi_label_classification",
        weights_files=(*(path for path in configs if path.is_file()), *files),
        provenance=provenance | transformers.version(),
    )


def read_labels(id2label: Mapping[int, str]) -> Labels:
    """The names in `id2label`; indices where it holds only LABEL_0, LABEL_1 and so on.

    Raises:
        LabelsError: The indices have gaps.
    """
    if all(str(name) == f"LABEL_{index}" for index, name in id2label.items()):
        return Labels.indices(len(id2label))
    return Labels.of({int(index): str(name) for index, name in id2label.items()})


def _read_recipe(folder: Path, config: Mapping[str, Any], name: str) -> Preprocess:
    """The recipe in the folder's preprocessor_config.json.

    Raises:
        PreprocessError: There is none, or it cannot be expressed.
    """
    if "pretrained_cfg" in config:  # a model of timm's, saved by transformers
        return recipes.from_config(config)
    settings = {}
    if (path := folder / "preprocessor_config.json").is_file():
        settings = _read_json(path)
    elif (path := folder / "processor_config.json").is_file():  # how newer versions may save it
        settings = _read_json(path).get("image_processor", {})
    if not settings:
        raise PreprocessError(
            f"{name} has no preprocessor_config.json, so nobody knows what its pictures must look"
            " like; state the preprocessing (--preprocess FILE)"
        )
    return recipes.from_config(settings, model_type=config["model_type"])


def _choose(names: list[str]) -> list[str]:
    """Of a repository's files, those needed: the weights last."""
    wanted = [name for name in _CONFIGS if name in names] + choose_weights(names)
    if "config.json" not in wanted or wanted[-1] in _CONFIGS:
        raise ModelError(
            "this repository has no config.json with model.safetensors or pytorch_model.bin beside"
            " it; expected an image classifier of transformers or timm"
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
