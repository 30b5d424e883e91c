"""The embedded bundle equals one that is built anew from the published weights."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from toplabel.bundle.bundle import Bundle, built_in_bundle
from toplabel.bundle.reference import ReferenceOutputs, compare

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "scripts/build_built_in_bundle.py"


def weights(path: Path) -> dict[str, np.ndarray]:
    graph = onnx.load(path).graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def test_the_embedded_bundle_is_what_its_script_builds(tmp_path: Path) -> None:
    built: Bundle = runpy.run_path(str(SCRIPT))["build"](tmp_path)
    shipped = built_in_bundle()
    assert built.to_manifest() == replace(shipped, reduced=None).to_manifest()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("program.onnx", "goldens.npz", "program.json", "manifest.json"),
    }
    expected, found = weights(shipped.program.path), weights(built.program.path)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        # the exporter folds batch norms in float32: processors differ in the last bit
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6, err_msg=name)
    old, new = (
        ReferenceOutputs.load(shipped.program.reference_path),
        ReferenceOutputs.load(built.program.reference_path),
    )
    np.testing.assert_array_equal(old.pixels, new.pixels)
    assert compare(old.logits, new.logits).agrees
