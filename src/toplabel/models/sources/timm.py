"""timm: the name of a classifier and its tag, or a folder that timm saved, in; the Model out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toplabel._internal.notices import quiet_libraries
from toplabel._internal.text import first_line
from toplabel.bundle.cache import FileSignature
from toplabel.bundle.model import Model
from toplabel.errors import CheckpointError, ModelError, ModelNotFound
from toplabel.labels.labels import Labels
from toplabel.models.sources import names
from toplabel.models.sources.fetch import (
    PICKLE,
    SAFETENSORS,
    cannot_load,
    check_unchanged,
    demand_safe_pickles,
    fetch_from_hub,
    fetch_url,
    weights_in,
)
from toplabel.models.transforms.timm import from_config
from toplabel.models.zoo_import import import_timm
from toplabel.preprocess.custom import AnyPreprocess
from toplabel.preprocess.preprocess import Preprocess

_EMBEDDING_WIDTHS = {384, 512, 640, 768, 1024, 1152, 1280}
_EMBEDDING_MARKS = ("clip", "pe_core")  # image towers of text-image models, as timm names them


def load(name: str, *, offline: bool, preprocess: AnyPreprocess | None = None) -> Model:
    """The classifier `NAME[.TAG]`; without a tag, with the weights that timm takes by default.

    Raises:
        ModelNotFound: There is no such model, or no such tag of it.
        ModelError: It is not a classifier, or has no weights.
        DownloadError: The weights are not on this machine and cannot be fetched.
        CheckpointError: The weights cannot be read or do not fit.
    """
    timm = import_timm()
    config = find_config(timm, name)
    check_classifies(config)
    preprocess = preprocess or read_preprocess(timm, config)
    full_name = _full_name(config)
    path = _fetch_weights(config, offline=offline)
    stamp = FileSignature.of(path)
    # The weights are given as a file, so that timm asks no network for what is here.
    overlay = {"file": str(path), "custom_load": False}
    name = f"timm/{full_name}"
    module = _create(timm, full_name, path, name=name, pretrained_cfg_overlay=overlay)
    return Model(
        name=name,
        module=module,
        architecture=f"timm/{config['architecture']}",
        preprocess=preprocess,
        labels=read_labels(timm, config, registered=True),
        weights_files=(stamp,),
        provenance=_provenance(timm, config) | _revision(path),
    )


def load_folder(
    folder: Path,
    *,
    name: str,
    stamps: tuple[FileSignature, ...],
    provenance: Mapping[str, str],
    registered: bool,
    preprocess: AnyPreprocess | None = None,
) -> Model:
    """The classifier in a folder as timm saves it: config.json with `architecture`, and weights.

    Args:
        folder: On this machine.
        name: What to call it.
        stamps: Its `folder_signatures`, from before anything in it was read.
        provenance: What is known of the folder.
        registered: It is one of timm's own: class names may be inferred as timm does.
        preprocess: Instead of what its config.json describes.

    Raises:
        ModelError: It is not a classifier, or its architecture is unknown.
        CheckpointError: The weights are missing, cannot be read, do not fit, or changed meanwhile.
    """
    timm = import_timm()
    files = weights_in(folder)
    if not files:
        raise CheckpointError(f"{folder} has no weights; expected {SAFETENSORS} or {PICKLE}")
    demand_safe_pickles(files)
    module = _create(timm, f"local-dir:{folder}", folder, name=name)
    config = dict(module.pretrained_cfg)
    check_classifies(config)
    check_unchanged(folder, stamps)
    return Model(
        name=name,
        module=module,
        architecture=f"timm/{config['architecture']}",
        preprocess=preprocess or read_preprocess(timm, config),
        labels=read_labels(timm, config, registered=registered),
        weights_files=stamps,
        provenance=_provenance(timm, config) | dict(provenance),
    )


def find_config(timm: Any, name: str) -> dict[str, Any]:
    """What timm knows of a model's weights: its `pretrained_cfg` with all its fields.

    Raises:
        ModelNotFound: There is no such model, or no weights of that tag.
        ModelError: timm has no weights for it at all.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = names.suggestions(architecture, library="timm")
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ModelNotFound(f"unknown model {f'timm/{architecture}'!r}{hint}")
    current = _current_name(timm, architecture)
    tags = [n.partition(".")[2] for n in timm.list_pretrained(current)]
    if not tags:
        raise ModelError(f"timm has no weights for {architecture!r}, only its architecture")
    if tag and tag not in tags:
        known = ", ".join(sorted(filter(None, tags)))
        raise ModelNotFound(
            f"unknown weights {tag!r} for timm/{architecture}; expected one of {known}"
        )
    found = timm.models.get_pretrained_cfg(f"{current}.{tag}" if tag else current)
    config: dict[str, Any] = found.to_dict(remove_null=False)
    return config


def _current_name(timm: Any, architecture: str) -> str:
    """A deprecated name -> what timm calls it today; other names as they are."""
    deprecated = timm.models._registry._deprecated_models.get(architecture)
    return str(deprecated) if deprecated else architecture


def check_classifies(config: Mapping[str, Any]) -> None:
    """Stop where the outputs are not classes.

    Args:
        config: timm's `pretrained_cfg`.

    Raises:
        ModelError: They are features, or embeddings to compare with texts.
    """
    name, outputs = _full_name(config), config.get("num_classes")
    if not outputs:
        raise ModelError(
            f"timm/{name} has no classifier head (num_classes is {outputs}): its outputs are"
            " features; choose weights that were trained or fine-tuned on classes"
        )
    is_tower = any(mark in name for mark in _EMBEDDING_MARKS)
    if is_tower and outputs in _EMBEDDING_WIDTHS and not config.get("label_names"):
        raise ModelError(
            f"timm/{name} is an image-text model: its {outputs} outputs are embeddings, not"
            " classes; choose weights that were fine-tuned on classes"
        )


def read_preprocess(timm: Any, config: Mapping[str, Any]) -> Preprocess:
    """The preprocessing that timm's own validation uses for these weights.

    Raises:
        PreprocessError: It cannot be expressed.
    """
    settings = timm.data.resolve_data_config(pretrained_cfg=dict(config), use_test_size=False)
    return from_config(settings)


def read_labels(timm: Any, config: Mapping[str, Any], *, registered: bool) -> Labels:
    """The names that stand with the weights, or those of the ImageNet list that timm infers.

    Args:
        timm: The module.
        config: Its `pretrained_cfg`.
        registered: The weights are timm's own. Of others the number of outputs says nothing.

    Raises:
        LabelsError: There are names, and not one for each output.
    """
    outputs = int(config["num_classes"])
    if stated := config.get("label_names"):
        labels = Labels.of(stated)
        labels.check_count(outputs)
        return labels
    subset = timm.data.infer_imagenet_subset(dict(config)) if registered else None
    return _imagenet_labels(timm, subset) if subset else Labels.indices(outputs)


def _imagenet_labels(timm: Any, subset: str) -> Labels:
    """The names and synset ids of one of timm's ImageNet lists.

    A name is the first of the synset's words: "tabby" where WordNet says "tabby, tabby cat".
    Several classes may share a name (ImageNet has two cranes); their ids differ.

    Args:
        timm: The module.
        subset: As timm infers it: "imagenet-1k", "imagenet-12k", "imagenet-22k" and so on.
    """
    info = timm.data.ImageNetInfo(subset)
    names = (description.split(", ")[0] for description in info.label_descriptions())
    return Labels(tuple(names), ids=tuple(info.label_names()))


def _full_name(config: Mapping[str, Any]) -> str:
    tag = config.get("tag")
    return f"{config['architecture']}.{tag}" if tag else str(config["architecture"])


def _fetch_weights(config: Mapping[str, Any], *, offline: bool) -> Path:
    """The file with these weights, from where timm would take it."""
    repository = config.get("hf_hub_id")
    if not repository:
        path = fetch_url(config["url"], offline=offline)
        demand_safe_pickles([path])
        return path
    stated = config.get("hf_hub_filename")
    accepted = [stated] if stated else [SAFETENSORS, PICKLE]
    folder = fetch_from_hub(
        repository,
        key_files=accepted,
        choose=lambda names: [name for name in accepted if name in names][:1],
        offline=offline,
    )
    path = next(folder / name for name in accepted if (folder / name).is_file())
    demand_safe_pickles([path])
    return path


def _create(timm: Any, called: str, path: Path, *, name: str, **options: Any) -> Any:
    """The network that timm has under `called`, with its weights, in eval mode."""
    try:
        with quiet_libraries():  # of deprecated names, and of torch about timm's own code
            module = timm.create_model(called, pretrained=True, **options)
    except Exception as error:  # whatever the library's code makes of what stands in the file
        reason = first_line(error)
        if "Unknown model" in reason:
            raise ModelError(
                f"this timm ({timm.__version__}) has no such architecture: {reason}"
            ) from error
        raise cannot_load(name, path, error) from error
    return module.eval()


def _provenance(timm: Any, config: Mapping[str, Any]) -> dict[str, str]:
    known = {
        "source": "timm",
        "weights": _full_name(config),
        "url": config.get("url"),
        "repository": config.get("hf_hub_id"),
        "licence": config.get("license"),
        "origin": config.get("origin_url"),
        "library": f"timm {timm.__version__}",
    }
    return {name: str(value) for name, value in known.items() if value}


def _revision(path: Path) -> dict[str, str]:
    """The commit, where the file lies in the Hugging Face cache: .../snapshots/COMMIT/FILE."""
    return {"revision": path.parent.name} if path.parent.parent.name == "snapshots" else {}
