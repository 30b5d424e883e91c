"""Describing: a model file in, what it is out. Nothing in it is run, and torch is not imported."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toplabel._internal.json_file import read_json
from toplabel.bundle.bundle import built_in_bundle
from toplabel.bundle.file import describe_packed
from toplabel.bundle.onnx_import import describe_onnx
from toplabel.errors import CheckpointError, ModelNotFound
from toplabel.models.architectures.identify import IMAGENET_CLASSES, Candidate, identify
from toplabel.models.checkpoint.allowed_globals import check_harmless, check_no_program
from toplabel.models.checkpoint.header import read_checkpoint_info
from toplabel.models.checkpoint.info import CheckpointInfo, TensorInfo
from toplabel.models.checkpoint.state_dict_search import (
    FoundStateDict,
    check_no_adapter_alone,
    find_state_dict,
)
from toplabel.models.image_evidence import image_evidence
from toplabel.models.ref import ModelRef, folder_of_weights, weights_of

_SHOWN_CANDIDATES = 5
_SHOWN_LABELS = 5
_MOST_BESIDE = 50
_MOST_READ = 1_000_000  # bytes; notebooks carry pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a model file is.

    Args:
        facts: Name -> value, plain data for JSON, in the order to show.
        missing: What still has to be stated to label with it, as options of the command line.
        problem: Why it cannot be used as it is; empty where it can.
    """

    facts: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    problem: str = ""


def describe(path: Path, *, ema: bool = False, state_dict: str | None = None) -> Description:
    """What a model file is: a checkpoint, a packed bundle or an ONNX file.

    Args:
        path: The file.
        ema: Look at a checkpoint's averaged weights.
        state_dict: The key of those that are meant, where it holds several.

    Raises:
        CheckpointError, BundleError, ModelError: It is none of these, or is damaged.
    """
    ref = ModelRef.parse(path)
    if ref.kind == "built-in":
        return _describe_built_in()
    if ref.kind == "bundle":
        facts = describe_packed(path)
        verified = facts["verified"]
        return Description(facts=facts, problem="" if verified is True else str(verified))
    if ref.kind == "onnx":
        return _describe_onnx(path)
    if ref.kind == "name" and ref.canonical() and not path.exists():
        raise ModelNotFound(
            f"got {str(path)!r}, the name of a model; inspect looks into files: a checkpoint, a"
            " bundle or an ONNX file"
        )
    folder = str(path) if ref.kind == "folder" else folder_of_weights(str(path))
    if folder is not None and (weights := weights_of(folder)):
        return _describe_folder(
            Path(folder), describe_checkpoint(Path(weights), ema=ema, state_dict=state_dict)
        )
    return describe_checkpoint(path, ema=ema, state_dict=state_dict)


def _describe_folder(folder: Path, weights: Description) -> Description:
    """A Hugging Face folder: what its config.json says of its weights."""
    config = read_json(folder / "config.json") or {}
    labels = config.get("id2label") or config.get("label_names") or ()
    names = [*labels.values()] if isinstance(labels, dict) else [*labels]
    library = "transformers" if "model_type" in config else "timm"
    settings = (folder / "preprocessor_config.json").is_file() or "pretrained_cfg" in config
    classes = len(names) or config.get("num_labels") or config.get("num_classes")
    known = {
        "config": str(folder / "config.json"),
        "architecture": [f"{library}/{config.get('model_type') or config.get('architecture')}"],
        "classes": classes or (2 if library == "transformers" else 1000),  # their defaults
        "labels": names[:_SHOWN_LABELS],
        "labels_from": "config.json",
        "preprocess": "stated in the folder" if settings else "not stated",
    }
    if not names:
        del known["labels"], known["labels_from"]
    facts = {name: v for name, v in weights.facts.items() if name not in _GUESSED}
    missing = () if settings else ("--preprocess PRESET|FILE (as in its validation)",)
    return Description(facts=facts | known, missing=missing, problem=weights.problem)


_GUESSED = ("classes_from", "input_channels", "input_channels_from")
"""What is guessed from tensors alone."""


def _describe_built_in() -> Description:
    bundle = built_in_bundle()
    facts = {
        "kind": "built-in model",
        "name": bundle.name,
        "classes": len(bundle.labels),
        "labels": list(bundle.labels.names[:_SHOWN_LABELS]),
        "activation": bundle.activation,
        "preprocess": bundle.preprocess.to_dict(),
        "licence": bundle.provenance.get("licence", "not stated"),
        "provenance": dict(bundle.provenance),
    }
    return Description(facts=facts)


def _describe_onnx(path: Path) -> Description:
    facts = describe_onnx(path)
    missing = {
        "--labels classes.txt (else labels are indices)": facts["labels"],
        f"--preprocess PRESET|FILE (as in its validation: its input is {facts['input']})": (
            facts["preprocess"]
        ),
    }
    return Description(facts=facts, missing=tuple(o for o, found in missing.items() if not found))


def describe_checkpoint(
    path: Path, *, ema: bool = False, state_dict: str | None = None
) -> Description:
    """What a checkpoint holds: format, keys, classes, channels, architecture, what is missing.

    Raises:
        CheckpointError: It is none, or is damaged.
    """
    info = read_checkpoint_info(path)
    facts: dict[str, Any] = {
        "file": str(path),
        "format": info.format,
        "size_bytes": info.size_bytes,
    }
    if info.format in ("torch legacy", "safetensors"):  # nothing in these tells of damage
        facts["sha256"] = sha256_of(path)
    if info.blocked:
        facts["blocked"] = list(info.blocked)
    if info.whole_module:
        facts["whole_module"] = info.whole_module
    try:
        contents = find_state_dict(info.content, metadata=info.metadata, ema=ema, key=state_dict)
    except CheckpointError as error:
        return Description(facts=facts, problem=_problem(info, None) or str(error))
    shapes = {name: tuple(tensor.shape) for name, tensor in contents.state.items()}
    candidates = identify(shapes)
    facts |= dict(_content_facts(contents)) | dict(_architecture_facts(contents, candidates))
    missing = (*_missing(contents, candidates), *script_advice(path))
    return Description(facts=facts, missing=missing, problem=_problem(info, contents))


def sha256_of(path: Path) -> str:
    """The file's sha256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_facts(contents: FoundStateDict) -> Iterator[tuple[str, Any]]:
    tensors = [tensor for tensor in contents.state.values() if isinstance(tensor, TensorInfo)]
    yield "state_dict", contents.where or "the file itself"
    if contents.others:
        yield "other_state_dicts", list(contents.others)
    yield "tensors", len(tensors)
    yield "elements", sum(tensor.num_elements for tensor in tensors)
    yield "dtypes", sorted({tensor.dtype for tensor in tensors})
    yield "first_keys", list(contents.state)[:3]
    if contents.hyper_parameters:
        yield "hyper_parameters", {k: repr(v)[:80] for k, v in contents.hyper_parameters.items()}
    if contents.labels is not None:
        yield "labels", list(contents.labels.names[:_SHOWN_LABELS])
        yield "labels_from", contents.labels_where
    yield "preprocess", "stated in the file" if contents.preprocess else "not stated"


def _architecture_facts(
    contents: FoundStateDict, candidates: tuple[Candidate, ...]
) -> Iterator[tuple[str, Any]]:
    if contents.architecture:
        yield "architecture_stated", contents.architecture
    if candidates:
        yield "architecture", [f"{c.library}/{c.name}" for c in candidates[:_SHOWN_CANDIDATES]]
        if (head := candidates[0].head) is not None:
            yield "other_head", f"{head.place}: {head}"
        yield "classes", candidates[0].classes
        yield "input_channels", candidates[0].in_channels
        return
    yield "architecture", []
    classes, channels = _last_matrix(contents.state), _first_kernel(contents.state)
    if classes:
        yield "classes", classes[1]
        yield "classes_from", classes[0]
    if channels:
        yield "input_channels", channels[1]
        yield "input_channels_from", channels[0]


def _last_matrix(state: Mapping[str, Any]) -> tuple[str, int] | None:
    """The last tensor (K, features): mostly the classifier's."""
    matrices = [(name, tensor.shape[0]) for name, tensor in state.items() if len(tensor.shape) == 2]
    return matrices[-1] if matrices else None


def _first_kernel(state: Mapping[str, Any]) -> tuple[str, int] | None:
    """The first tensor (out, C, h, w): mostly the first convolution's."""
    kernels = [(name, tensor.shape[1]) for name, tensor in state.items() if len(tensor.shape) == 4]
    return kernels[0] if kernels else None


def _missing(contents: FoundStateDict, candidates: tuple[Candidate, ...]) -> Iterator[str]:
    if len({candidate.name for candidate in candidates}) > 1 and not contents.architecture:
        names = ", ".join(dict.fromkeys(candidate.name for candidate in candidates))
        yield f"--arch NAME (several fit, and may give other outputs: {names})"
    if contents.module.startswith("torch.nn.modules."):
        pass  # rebuilt of torch's own layers
    elif contents.module and not candidates:
        name = contents.module.rpartition(".")[2]
        yield f"--arch FILE.py:{name} (a whole pickled network of class {contents.module})"
    elif not candidates:
        yield "--arch nets.py:MyClass (no architecture of torchvision or timm fits every tensor)"
    if contents.labels and candidates and len(contents.labels) != candidates[0].classes:
        yield f"--labels (the file names {len(contents.labels)} of {candidates[0].classes} classes)"
    if contents.labels is None:
        yield "--labels classes.txt (else labels are indices)"
    if contents.preprocess is None:
        yield f"--preprocess {_preprocess_words(contents, candidates)}"


def _preprocess_words(contents: FoundStateDict, candidates: tuple[Candidate, ...]) -> str:
    """What `--preprocess` needs, and what is known of it."""
    evidence = image_evidence(contents.state, contents.hyper_parameters)
    words = [*evidence.words]
    if candidates and candidates[0].classes == IMAGENET_CLASSES:
        words.append("else that of the architecture's own weights is assumed")
    known = f": {'; '.join(words)}" if words else ""
    return f"PRESET|FILE (as in its validation{known})"


def _problem(info: CheckpointInfo, contents: FoundStateDict | None) -> str:
    """Why it is not read as it is, and what to do."""
    try:
        check_harmless(info)
        check_no_program(info)
        if contents is not None:
            check_no_adapter_alone(contents.state)
    except CheckpointError as error:
        return str(error)
    return "" if contents is None else contents.unclear


def script_advice(path: Path) -> tuple[str, ...]:
    """`--script train.py`, where code that may have made a checkpoint lies beside it."""
    name = script_beside(path)
    return (
        () if name is None else (f"--script {name} (it lies beside; all the rest is read there)",)
    )


def script_beside(path: Path) -> str | None:
    """The Python file or notebook beside a checkpoint that names it, else one with a network."""
    try:
        beside = [p for p in sorted(path.parent.iterdir()) if p.suffix in (".py", ".ipynb")]
    except OSError:
        return None
    texts = {file: _start_of(file) for file in beside[:_MOST_BESIDE]}
    named = [file for file, text in texts.items() if path.name in text]
    networks = [file for file, text in texts.items() if "nn.Module" in text or "nn.Seq" in text]
    both = [file for file in named if file in networks]
    found = next(iter([*both, *networks, *named]), None)
    return None if found is None else str(found)


def _start_of(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_READ).decode("utf-8", errors="replace")
    except OSError:
        return ""
