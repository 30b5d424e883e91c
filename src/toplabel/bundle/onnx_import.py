"""ONNX files from elsewhere: one in, a bundle or a description out; copied into the cache once."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toplabel._internal.mistaken import mistaken_for
from toplabel._internal.notices import collect_warnings, warn
from toplabel.bundle import cache
from toplabel.bundle.bundle import Bundle, cached_bundle
from toplabel.bundle.onnx_header import OnnxHeader, OnnxInput, read_onnx_header
from toplabel.bundle.outputs import Evidence, interpret
from toplabel.bundle.program import PROGRAM_NAME, REFERENCE_NAME
from toplabel.errors import BundleError, LabelsError, ModelError, PreprocessError
from toplabel.labels.given import LabelsLike, labels_digest, labels_for, list_given
from toplabel.labels.labels import Labels
from toplabel.labels.values import listed_of_value
from toplabel.preprocess.preprocess import Preprocess

LABELS_KEY = "toplabel.labels"
PREPROCESS_KEY = "toplabel.preprocess"

_LABELS_KEYS = (LABELS_KEY, "names", "classes", "labels", "class_names", "id2label")
_LONGEST = 4 << 20
_IMAGE_CHANNELS = (1, 3, 4)
_SHOWN_LABELS = 5
_SHOWN_TEXT = 80


# Opened


def open_onnx(
    path: str | os.PathLike[str],
    *,
    labels: LabelsLike | None = None,
    preprocess: Preprocess | None = None,
    multi_label: bool = False,
    output: str | int | None = None,
) -> Bundle:
    """The bundle of an ONNX file that somebody exported.

    Its outputs are compared with those of the same file without ONNX Runtime's optimisations; no
    PyTorch is there to compare with. The next time it is found in the cache by size, times and
    inode of its files.

    Args:
        path: The file; weights that do not fit into it lie beside it.
        labels: The class names, as `labels_for` takes them; by default those in its metadata, else
            indices.
        preprocess: The preprocessing; by default that in its metadata.
        multi_label: Its outputs are independent of one another.
        output: Which of several outputs holds the scores: its name, or its place from 0.

    Raises:
        BundleError: It is no ONNX file, is damaged, or names weights elsewhere.
        ModelError: It is no classifier of images, cannot be run or cannot be trusted.
        PreprocessError: No preprocessing is given, or it does not fit.
        LabelsError: The labels do not fit its outputs.
    """
    entry = _entry_name(path, labels, preprocess, multi_label, output)
    bundle = cached_bundle(entry)
    if bundle is None:
        source = read_source(path)
        with collect_warnings() as doubts:
            bundle = _import(source, labels, preprocess, multi_label, output)
        bundle = bundle.with_warnings(doubts)
        manifest, files = bundle.to_manifest(), source.signatures
        cache.store_entry(entry, manifest, weights_files=files, weights_may_vanish=False)
    else:
        for text in bundle.warnings:
            warn(text)
    if bundle.labels == Labels.indices(len(bundle.labels)):
        warn(
            f"{bundle.name} comes without class names, so labels are class indices; pass"
            ' labels="classes.txt"',
            about="labels",
        )
    return bundle


def _import(
    source: OnnxSource,
    given: LabelsLike | None,
    preprocess: Preprocess | None,
    multi_label: bool,
    output: str | int | None,
) -> Bundle:
    metadata = source.header.metadata
    preprocess = preprocess or _own_preprocess(source)
    _check_shape(source.input, preprocess, name=source.name)
    labels = _own_labels(metadata, needed=given is None)
    from toplabel.bundle.onnx_check import import_program  # onnxruntime: 100 ms
    from toplabel.bundle.reference import ReferenceOutputs  # Pillow

    listed = labels if given is None else list_given(given)
    names = None if listed is None else len(listed.names)
    program = import_program(source, preprocess, output=output, names=names)
    if given is not None:
        labels = labels_for(given, program.outputs, own=labels)
    reference = ReferenceOutputs.load(program.reference_path)
    found = interpret(
        Evidence(
            count=program.outputs,
            bounds=source.header.outputs.get(program.output_name),
            values=reference.logits,
        ),
        labels=labels,
        multi_label=multi_label,
        name=source.name,
    )
    provenance = {
        "source": "onnx file",
        "file": source.name,
        "sha256": source.hashes[PROGRAM_NAME],
        "producer": source.header.producer,
        "licence": _licence(metadata),
    }
    return Bundle(
        name=f"{source.name}@{source.hashes[PROGRAM_NAME][:8]}",
        program=program,
        preprocess=preprocess,
        labels=found.labels,
        activation=found.activation,
        multi_label=found.multi_label,
        conversion=found.conversion,
        provenance={name: text for name, text in provenance.items() if text},
    )


def _own_labels(metadata: Mapping[str, str], *, needed: bool) -> Labels | None:
    """Those in the file's metadata; None where there are none, or damaged ones that nobody needs.

    Raises:
        LabelsError: They are damaged.
    """
    try:
        return find_labels(metadata)
    except LabelsError:
        if needed:
            raise
        return None


def _own_preprocess(source: OnnxSource) -> Preprocess:
    """The one in the file's metadata.

    Raises:
        PreprocessError: There is none.
    """
    found = find_preprocess(source.header.metadata)
    if found is None:
        raise PreprocessError(
            f"{source.name} does not come with its preprocessing; it takes"
            f" {_shape_text(source.input)}: pass preprocess=... with the transform of its"
            " validation: a preset (`toplabel models --preprocess` lists them), a JSON file or your"
            " own code as FILE.py:NAME"
        )
    return found


def _licence(metadata: Mapping[str, str]) -> str:
    return metadata.get("licence") or metadata.get("license", "")


def _entry_name(
    path: str | os.PathLike[str],
    labels: LabelsLike | None,
    preprocess: Preprocess | None,
    multi_label: bool,
    output: str | int | None,
) -> str:
    """The cache's name for the file together with the options it was opened with."""
    options = [
        None if labels is None else labels_digest(labels),
        None if preprocess is None else preprocess.to_dict(),
        multi_label,
        output,
    ]
    digest = hashlib.sha256(json.dumps(options).encode()).hexdigest()
    return f"{os.path.abspath(path)} (onnx, {digest[:16]})"


# Described


def describe_onnx(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is in an ONNX file's header, as plain data for JSON. No engine runs.

    `labels` and `preprocess` are None where it has none, or a text that says what is wrong.

    Raises:
        BundleError: It cannot be read, is no ONNX file, is damaged, or names weights elsewhere.
        ModelError: It does not take a batch of images.
    """
    source = read_source(path)
    metadata = source.header.metadata
    labels: Labels | str | None
    preprocess: dict[str, Any] | str | None
    try:
        labels = find_labels(metadata)
    except LabelsError as error:
        labels = str(error)
    try:
        found = find_preprocess(metadata)
        preprocess = None if found is None else found.to_dict()
    except PreprocessError as error:
        preprocess = str(error)
    return {
        "file": os.fspath(path),
        "kind": "ONNX file",
        "size_bytes": sum(signature.size for signature in source.signatures),
        "producer": source.header.producer or "not stated",
        "input": f"{source.input.name} {source.input.dtype} {_shape_text(source.input)}",
        "outputs": list(source.header.outputs),
        "weights_files": list(source.header.weights),
        "classes": len(labels) if isinstance(labels, Labels) else None,
        "labels": list(labels.names[:_SHOWN_LABELS]) if isinstance(labels, Labels) else labels,
        "preprocess": preprocess,
        "licence": _licence(metadata) or "not stated",
        "metadata": {key: text[:_SHOWN_TEXT] for key, text in metadata.items()},
    }


# Metadata: class names and preprocessing


def find_labels(metadata: Mapping[str, str]) -> Labels | None:
    """The class names, from `toplabel.labels` or a key that others use; None where there are none.

    Values are JSON, or a Python literal as Ultralytics writes it.

    Raises:
        LabelsError: A key is there and holds no class names; says which.
    """
    for key in _LABELS_KEYS:
        text = metadata.get(key, "").strip()
        if not text:
            continue
        try:
            return listed_of_value(_parse(text), key.rpartition(".")[2]).in_order()
        except (LabelsError, ValueError) as error:
            raise LabelsError(
                f"the file's metadata {key!r} holds no class names: {error}; pass"
                ' labels="classes.txt"'
            ) from error
    return None


def find_preprocess(metadata: Mapping[str, str]) -> Preprocess | None:
    """The preprocessing in `toplabel.preprocess`; None where there is none.

    Raises:
        PreprocessError: It is no description of a preprocessing.
    """
    text = metadata.get(PREPROCESS_KEY)
    if text is None:
        return None
    try:
        return Preprocess.from_json(text)
    except PreprocessError as error:
        raise PreprocessError(f"in the file's metadata {PREPROCESS_KEY!r}: {error}") from error


def _parse(text: str) -> Any:
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text):,} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("it is neither JSON nor a Python literal") from None


# Read as far as no engine is needed


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSource:
    """An ONNX file with the files that hold its weights; its header is sound, nothing is run.

    `files` and `hashes` are by the name that each file has in a program's folder.
    """

    name: str
    header: OnnxHeader
    input: OnnxInput
    files: Mapping[str, Path]
    hashes: Mapping[str, str]
    signatures: tuple[cache.FileSignature, ...]


def read_source(path: str | os.PathLike[str]) -> OnnxSource:
    """The ONNX file at `path` and its weights.

    Raises:
        BundleError: It cannot be read, is no ONNX file, is damaged, or names weights elsewhere.
        ModelError: It does not take a batch of images.
    """
    file = Path(os.path.abspath(path))
    try:
        first = cache.FileSignature.of(file)  # before it is read
        _check_content(file)
        header = read_onnx_header(file)
        files = {PROGRAM_NAME: file} | {name: _beside(file, name) for name in header.weights}
        if strange := [one.name for one in files.values() if not one.is_file() and one.exists()]:
            raise BundleError(
                f"{file.name} keeps its weights in {strange[0]!r}, which is not a file"
            )
        return OnnxSource(
            name=file.name,
            header=header,
            input=_check_input(header, name=file.name),
            files=files,
            signatures=(first, *(cache.FileSignature.of(files[name]) for name in header.weights)),
            hashes={name: cache.file_sha256(one) for name, one in files.items()},
        )
    except OSError as error:
        missing = f" {error.filename!r}" if error.filename else ""
        raise BundleError(
            f"cannot read {str(file)!r} and its weights:{missing} {error.strerror or error}"
        ) from error


def _check_content(file: Path) -> None:
    """Refuse what people mix up with an ONNX file.

    Raises:
        BundleError: It is something else; says what.
        OSError: It cannot be read.
    """
    if not file.is_file():  # opening a pipe would wait for its writer
        raise BundleError(f"{str(file)!r} is not a file; expected an ONNX file")
    with file.open("rb") as opened:
        start = opened.read(256)
    if (other := mistaken_for(start)) is not None:
        raise BundleError(f"{str(file)!r} is {other}")


def _beside(file: Path, location: str) -> Path:
    """The file with weights that the ONNX file names.

    Raises:
        BundleError: It is anywhere but beside the ONNX file.
    """
    weights = file.parent / location
    plain = location == os.path.basename(location) and not set(location) & set("\\\0")
    behind_links = (os.path.realpath(file.parent), os.path.dirname(os.path.realpath(file)))
    if not plain or os.path.dirname(os.path.realpath(weights)) not in behind_links:
        raise BundleError(
            f"{file.name} keeps its weights in {location!r}; expected a file beside it, in"
            f" {str(file.parent)!r}; save the model again with its weights there"
        )
    if location in (PROGRAM_NAME, REFERENCE_NAME) or location.endswith(".json"):
        raise BundleError(
            f"{file.name} keeps its weights in {location!r}, a name that toplabel needs itself;"
            " save the model again with its weights under another one"
        )
    return weights


# Shapes


def _check_input(header: OnnxHeader, *, name: str) -> OnnxInput:
    """The one input, which takes a batch of images as float32 (N, C, H, W).

    Raises:
        ModelError: There is none or more than one, or it takes something else.
    """
    if len(header.inputs) != 1:
        names = ", ".join(repr(one.name) for one in header.inputs) or "none"
        raise ModelError(
            f"{name} has {len(header.inputs)} inputs ({names}); expected one, a batch of images"
        )
    (found,) = header.inputs
    if found.dtype != "float32":
        raise ModelError(f"{name} takes {found.dtype}; expected float32; export it in float32")
    if found.dimensions is None:
        return found
    if len(found.dimensions) != 4:
        raise ModelError(
            f"{name} takes tensors of shape {_shape_text(found)}; expected (N, C, H, W), a batch of"
            " images"
        )
    count, channels, height, last = found.dimensions
    if isinstance(count, int) and count != 1:
        raise ModelError(
            f"{name} takes exactly {count} images at once; export it with batch size 1, or any"
        )
    one_is_named = isinstance(channels, str) and isinstance(height, str)
    other_than_image = isinstance(channels, int) and channels not in _IMAGE_CHANNELS
    if last in _IMAGE_CHANNELS and (one_is_named or other_than_image):
        raise ModelError(
            f"{name} takes tensors of shape {_shape_text(found)}, channels last; expected"
            " (N, C, H, W); export it with channels first (tf2onnx: --inputs-as-nchw)"
        )
    return found


def _check_shape(found: OnnxInput, preprocess: Preprocess, *, name: str) -> None:
    """Stop where the preprocessing makes tensors that the program does not take.

    Raises:
        PreprocessError: Their channels, height or width differ.
    """
    made = (preprocess.num_channels, *preprocess.input_size)
    wanted = (found.dimensions or ("?",) * 4)[1:]
    if any(isinstance(want, int) and want != size for want, size in zip(wanted, made, strict=True)):
        raise PreprocessError(
            f"the preprocessing produces tensors of shape {made}, but {name} takes"
            f" {_shape_text(found)}; pass the preprocessing that it was exported for"
        )


def _shape_text(found: OnnxInput) -> str:
    """The shape for people: (N, 3, 224, 224); what is free has a name or is "?"."""
    return "?" if found.dimensions is None else f"({', '.join(map(str, found.dimensions))})"
