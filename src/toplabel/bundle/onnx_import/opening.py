"""Opening: an ONNX file from elsewhere in, its bundle out; copied into the cache once."""

from __future__ import annotations

import hashlib
import json
import os

from toplabel._internal.notices import warn
from toplabel.bundle import cache
from toplabel.bundle.bundle import Bundle, cached_bundle
from toplabel.bundle.model import Activation
from toplabel.bundle.onnx_import.metadata import find_labels, find_preprocess
from toplabel.bundle.onnx_import.shapes import check_recipe, shape_text
from toplabel.bundle.onnx_import.source import OnnxSource, read_source
from toplabel.bundle.program import PROGRAM_NAME, Program
from toplabel.errors import ModelError, PreprocessError
from toplabel.labels.labels import Labels
from toplabel.preprocess import Preprocess


def open_onnx(
    path: str | os.PathLike[str],
    *,
    labels: Labels | None = None,
    preprocess: Preprocess | None = None,
    multi_label: bool = False,
) -> Bundle:
    """The bundle of an ONNX file that somebody exported.

    Its outputs are compared with those of the same file without ONNX Runtime's optimisations; no
    PyTorch is there to compare with. The next time it is found in the cache by size, times and
    inode of its files.

    Args:
        path: The file; weights that do not fit into it lie beside it.
        labels: The class names; by default what its metadata says, else indices.
        preprocess: The recipe; by default what its metadata says.
        multi_label: Its outputs are independent of one another.

    Raises:
        BundleError: It is no ONNX file, is damaged, or names weights elsewhere.
        ModelError: It is no classifier of pictures, cannot be run or cannot be trusted.
        PreprocessError: No recipe is stated, or it does not fit.
        LabelsError: The labels do not fit its outputs.
    """
    entry = _entry_name(path, labels, preprocess, multi_label)
    if (known := cached_bundle(entry)) is not None:
        _warn_of_indices(known)
        return known
    source = read_source(path)
    recipe = preprocess or find_preprocess(source.outline.metadata)
    if recipe is None:
        raise PreprocessError(
            f"{source.name} states no preprocessing; it takes {shape_text(source.taken)}: state"
            " what it was trained with, as preprocess (--preprocess), such as"
            " imagenet-crop-256-224, or a JSON file; `toplabel doctor` helps to find out"
        )
    check_recipe(source.taken, recipe, name=source.name)
    named = labels or find_labels(source.outline.metadata)
    from toplabel.bundle.onnx_import.importing import import_program  # onnxruntime: 100 ms

    program = import_program(source, recipe)
    bundle = Bundle(
        name=f"{source.name}@{source.hashes[PROGRAM_NAME][:8]}",
        program=program,
        preprocess=recipe,
        labels=named or Labels.indices(program.outputs),
        activation=_activation(program, multi_label, source.name),
        provenance=_provenance(source),
    )
    _warn_of_indices(bundle)
    cache.store_entry(
        entry, bundle.to_manifest(), weights_files=source.stamps, weights_may_vanish=False
    )
    return bundle


def _activation(program: Program, multi_label: bool, name: str) -> Activation:
    if program.outputs == 1 and not multi_label:
        raise ModelError(
            f"{name} gives one score; expected at least two, one for each class; if it says how"
            " much one class applies, state multi_label (--multi-label)"
        )
    if program.probabilities:
        return "none"
    return "sigmoid" if multi_label else "softmax"


def _provenance(source: OnnxSource) -> dict[str, str]:
    """What is known of where it comes from."""
    known = {
        "source": "onnx file",
        "file": source.name,
        "sha256": source.hashes[PROGRAM_NAME],
        "producer": source.outline.producer,
    }
    metadata = source.outline.metadata
    known["licence"] = metadata.get("licence") or metadata.get("license", "")
    return {name: text for name, text in known.items() if text}


def _warn_of_indices(bundle: Bundle) -> None:
    if not bundle.labels.named:
        warn(
            f"{bundle.name} comes without class names, so labels are class indices; pass labels"
            " (--labels classes.txt)"
        )


def _entry_name(
    path: str | os.PathLike[str],
    labels: Labels | None,
    preprocess: Preprocess | None,
    multi_label: bool,
) -> str:
    """Under what the cache knows the file together with what is stated of it."""
    name = os.path.abspath(path)
    stated = [
        None if labels is None else [labels.names, labels.ids, labels.named],
        None if preprocess is None else preprocess.to_dict(),
        multi_label,
    ]
    digest = hashlib.sha256(json.dumps(stated).encode()).hexdigest()
    return f"{name} (onnx, {digest[:16]})"
