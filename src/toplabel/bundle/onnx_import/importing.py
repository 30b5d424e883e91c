"""Importing: an ONNX file from elsewhere in, a checked program in the cache out."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

from toplabel._internal.onnxruntime import ort
from toplabel.bundle import cache
from toplabel.bundle.cache import FileSignature
from toplabel.bundle.onnx_import.checking import check_onnx
from toplabel.bundle.onnx_import.source import OnnxSource
from toplabel.bundle.program import GOLDENS_NAME, PROGRAM_NAME, NotCompiled, Program
from toplabel.errors import BundleError
from toplabel.preprocess import Preprocess

_KEY_SCHEME = "onnx file 1"

logger = logging.getLogger(__name__)


def import_program(source: OnnxSource, recipe: Preprocess) -> Program:
    """The program of an ONNX file, from the cache, or copied into it and checked.

    Raises:
        ModelError: It cannot be run, is no classifier, or its answers cannot be trusted.
        BundleError: It changes meanwhile, or there is no room for it.
    """
    shape = (recipe.num_channels, *recipe.input_size)
    text = json.dumps([_KEY_SCHEME, shape, dict(source.hashes)], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()

    def build(folder: Path) -> Program:
        logger.info("checking %s", source.name)
        return _import(source, recipe, key, folder)

    program = cache.store_program(key, build)
    if isinstance(program, NotCompiled):
        raise BundleError(f"cannot copy {source.name} into the cache: {program.reason}")
    return program


def _import(source: OnnxSource, recipe: Preprocess, key: str, folder: Path) -> Program:
    """The program, copied into the folder and checked there."""
    for name, file in source.files.items():
        shutil.copyfile(file, folder / name)
    if tuple(FileSignature.of(stamp.path) for stamp in source.stamps) != source.stamps:
        raise BundleError(f"{source.name} changed while it was read; try again")
    dimensions = source.taken.dimensions
    checked = check_onnx(
        folder / PROGRAM_NAME,
        name=source.name,
        preprocess=recipe,
        one_only=dimensions is not None and dimensions[0] == 1,
    )
    checked.goldens.save(folder / GOLDENS_NAME)
    logits, agreement = checked.goldens.logits, checked.agreement
    in_unit_range = bool(((logits >= 0) & (logits <= 1)).all())
    maker = source.outline.makers.get(checked.output_name)
    program = Program(
        path=folder / PROGRAM_NAME,
        goldens_path=folder / GOLDENS_NAME,
        key=key,
        input_name=source.taken.name,
        output_name=checked.output_name,
        input_shape=(recipe.num_channels, *recipe.input_size),
        outputs=logits.shape[1],
        fixed_batch=checked.fixed_batch,
        exporter=source.outline.producer or "not stated",
        agreement={
            "max_difference": agreement.max_difference,
            "tolerance": agreement.tolerance,
            "spread": agreement.spread,
            "checked_with": f"onnxruntime {ort.__version__}, against itself without optimisations;"
            " no PyTorch was there to compare with",
        },
        probabilities=checked.probabilities or (in_unit_range and maker == "Sigmoid"),
    )
    program.write(folder)
    return program
