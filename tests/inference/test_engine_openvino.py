"""The OpenVINO engine: the logits of eager PyTorch, never in fewer bits than asked for."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toplabel
from toplabel.bundle.bundle import built_in_bundle
from toplabel.bundle.cache import optimised_folder
from toplabel.bundle.margin import Margin
from toplabel.bundle.program import Program
from toplabel.bundle.reduced import ReducedProgram
from toplabel.bundle.reference import ReferenceOutputs, compare
from toplabel.errors import BundleError, EngineError, UsageError
from toplabel.inference.classifier import Classifier
from toplabel.inference.engines import Engine
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine

pytest.importorskip("openvino")
from toplabel.inference.engines.openvino import OpenVinoEngine, openvino

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = built_in_bundle().program
COMPUTES_BFLOAT16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module")
def reference() -> ReferenceOutputs:
    return ReferenceOutputs.load(PROGRAM.reference_path)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return OpenVinoEngine(PROGRAM, features=True)


def copies() -> list[Path]:
    folder = optimised_folder(PROGRAM.key)
    assert folder is not None
    return sorted(folder.iterdir())


def test_it_gives_the_logits_of_eager_pytorch_in_batches_of_any_size(
    engine: Engine, reference: ReferenceOutputs
) -> None:
    inputs = reference.inputs()
    for size in (1, 3, 8):
        pieces = [engine(inputs[at : at + size]) for at in range(0, len(inputs), size)]
        assert compare(reference.logits, np.concatenate(pieces)).agrees
    fixed = replace(PROGRAM, fixed_batch=True)
    assert compare(reference.logits, OpenVinoEngine(fixed, threads=2)(inputs)).agrees


def test_its_features_are_those_of_onnx_runtime(
    engine: Engine, reference: ReferenceOutputs
) -> None:
    inputs = reference.inputs()[:2]
    logits, features = engine.answer(inputs)
    expected, rows = OnnxRuntimeEngine(PROGRAM, features=True).answer(inputs)
    np.testing.assert_allclose(features, rows, atol=1e-4)
    np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_threads_at_once_get_their_own_answers(engine: Engine, reference: ReferenceOutputs) -> None:
    inputs = reference.inputs()
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda at: engine(inputs[at % 8, None]), range(24)))
    assert compare(np.tile(reference.logits, (3, 1)), np.concatenate(rows)).agrees


@pytest.mark.slow
def test_what_was_compiled_is_kept_and_opened_again(
    reference: ReferenceOutputs, tmp_path: Path
) -> None:
    OpenVinoEngine(PROGRAM)
    stamp, copy = sorted(copies(), key=lambda path: path.suffix, reverse=True)
    assert (copy.suffix, stamp.suffix) == (".blob", ".json")
    inputs = reference.inputs()
    gone = replace(PROGRAM, path=tmp_path / "gone.onnx")
    assert compare(reference.logits, OpenVinoEngine(gone, threads=2)(inputs)).agrees
    copy.write_bytes(copy.read_bytes()[:-1000])
    with pytest.raises(EngineError, match=r"openvino cannot open .*gone\.onnx"):
        OpenVinoEngine(gone)
    assert compare(reference.logits, OpenVinoEngine(PROGRAM)(inputs)).agrees


def test_without_a_place_for_copies_it_works_all_the_same(
    reference: ReferenceOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", "/proc/no-such-place")
    assert compare(reference.logits, OpenVinoEngine(PROGRAM)(reference.inputs())).agrees


@pytest.mark.slow
def test_bfloat16_is_computed_where_it_is_asked_for_and_only_there(
    reference: ReferenceOutputs,
) -> None:
    program = replace(PROGRAM, tolerance=2.0)
    if not COMPUTES_BFLOAT16:
        with pytest.raises(EngineError, match="does not compute in bfloat16"):
            OpenVinoEngine(program, precision="bfloat16")
        return
    with pytest.raises(BundleError, match="its outputs differ by up to"):
        OpenVinoEngine(PROGRAM, precision="bfloat16")
    reduced = OpenVinoEngine(program, precision="bfloat16")(reference.inputs())
    assert not compare(reference.logits, reduced).agrees
    np.testing.assert_allclose(reduced, reference.logits, atol=2)
    assert compare(reference.logits, OpenVinoEngine(PROGRAM)(reference.inputs())).agrees


@pytest.mark.skipif(not COMPUTES_BFLOAT16, reason="this processor does not compute in bfloat16")
def test_a_reduced_program_is_run_by_the_engine_and_in_the_precision_that_it_states(
    reference: ReferenceOutputs, tmp_path: Path
) -> None:
    loose = replace(PROGRAM, tolerance=2.0)
    logits = OpenVinoEngine(loose, precision="bfloat16")(reference.inputs())
    replace(reference, logits=logits).save(tmp_path / "reduced.npz")
    reduced = ReducedProgram(
        path=PROGRAM.path,
        reference_path=tmp_path / "reduced.npz",
        key="b" * 64,
        precision="bfloat16",
        engine="openvino",
        margin=Margin(logits=1.0, images=300),
        speedup=1.6,
        processor="any",
        images=300,
    )
    classifier = Classifier.of_bundle(replace(built_in_bundle(), reduced=reduced))
    assert classifier.open_reduced is not None
    engine = classifier.open_reduced(1)
    assert engine.name == "openvino"
    np.testing.assert_allclose(engine(reference.inputs()), logits, atol=1e-5)


def test_a_program_that_gives_other_logits_is_refused(
    reference: ReferenceOutputs, tmp_path: Path
) -> None:
    path = tmp_path / "reference.npz"
    replace(reference, logits=reference.logits[:, ::-1].copy()).save(path)
    other: Program = replace(PROGRAM, reference_path=path)
    with pytest.raises(BundleError, match=r"with openvino 20.* no longer gives the logits"):
        OpenVinoEngine(other)
    assert copies() == []


def test_a_batch_of_the_wrong_shape_is_an_engine_error(engine: Engine) -> None:
    with pytest.raises(EngineError, match="openvino failed: Can't set the input tensor"):
        engine(np.zeros((1, 3, 8, 9), np.float32))


def test_a_model_and_the_workers_of_a_run_use_it_where_it_is_named(tmp_path: Path) -> None:
    model = toplabel.load(engine="openvino")
    assert model.engine == "openvino on cpu"
    assert model(EXAMPLES / "cat.jpg").label == "tiger cat"
    copy = next(path for path in copies() if path.suffix == ".blob")
    copy.unlink()
    toplabel.run(EXAMPLES, tmp_path / "labels.jsonl", engine="openvino")
    lines = (tmp_path / "labels.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["label"] for line in lines) == [
        *("espresso", "missile", "tiger cat"),
    ]
    assert copy.exists()  # the worker's


def test_it_runs_on_the_cpu_in_float32_alone() -> None:
    with pytest.raises(UsageError, match="got engine 'openvino' with device 'cuda'"):
        toplabel.load(engine="openvino", device="cuda")


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("", "[]"),
        ("sys.modules['openvino'] = None; ", "needs openvino, which is not installed; pip"),
    ],
    ids=["installed", "missing"],
)
def test_it_reports_to_nobody_and_names_its_extra(before: str, said: str, tmp_path: Path) -> None:
    code = (
        f"import sys; {before}import toplabel; toplabel.load(engine='openvino').open_engine();"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []  # openvino_telemetry keeps an identity there
