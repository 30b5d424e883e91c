"""The ONNX Runtime engine: batches, its optimised copy, and programs that changed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from toplabel.bundle.bundle import built_in_bundle
from toplabel.bundle.cache import optimised_folder
from toplabel.bundle.program import Program
from toplabel.bundle.reference import ReferenceOutputs, replay
from toplabel.errors import BundleError, EngineError
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The embedded program in a folder that a test may damage."""
    folder = shutil.copytree(built_in_bundle().program.path.parent, tmp_path / "program")
    return Program.read(Path(folder))


def copies(program: Program) -> list[Path]:
    folder = optimised_folder(program.key)
    assert folder is not None
    return sorted(folder.glob("*.onnx"))


def logits_agree(program: Program, engine: OnnxRuntimeEngine) -> bool:
    return replay(ReferenceOutputs.load(program.reference_path), engine, batch_sizes=(1, 3)).agrees


def test_the_first_opening_leaves_an_optimised_copy_and_the_second_uses_it(
    program: Program,
) -> None:
    assert logits_agree(program, OnnxRuntimeEngine(program))
    (copy,) = copies(program)
    program.path.unlink()  # the copy is enough
    assert logits_agree(program, OnnxRuntimeEngine(program, threads=2))
    assert copies(program) == [copy]


@pytest.mark.parametrize("damage", [b"", b"no program", None])
def test_a_damaged_copy_is_made_again(program: Program, damage: bytes | None) -> None:
    OnnxRuntimeEngine(program)
    (copy,) = copies(program)
    good = copy.read_bytes()
    copy.write_bytes(good[:-1000] if damage is None else damage)
    assert logits_agree(program, OnnxRuntimeEngine(program))
    assert copies(program)[0].stat().st_size == len(good)


def test_a_program_that_gives_other_logits_is_refused(program: Program) -> None:
    reference = ReferenceOutputs.load(program.reference_path)
    replace(reference, logits=reference.logits[:, ::-1].copy()).save(program.reference_path)
    with pytest.raises(BundleError, match="no longer gives the logits it was checked with"):
        OnnxRuntimeEngine(program)
    assert copies(program) == []


def test_a_program_that_is_none_is_an_engine_error(program: Program) -> None:
    program.path.write_bytes(b"no program")
    with pytest.raises(EngineError, match="onnxruntime cannot open"):
        OnnxRuntimeEngine(program)


def test_without_a_place_for_copies_it_works_all_the_same(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", "/proc/no-such-place")
    assert logits_agree(program, OnnxRuntimeEngine(program))


def test_a_program_of_fixed_batch_is_run_one_by_one(program: Program) -> None:
    batch = np.random.default_rng(0).random((3, 3, 224, 224), np.float32)
    together = OnnxRuntimeEngine(program)(batch)
    alone = OnnxRuntimeEngine(replace(program, fixed_batch=True))(batch)
    np.testing.assert_allclose(alone, together, atol=1e-4)


def test_a_batch_of_the_wrong_shape_is_an_engine_error(program: Program) -> None:
    with pytest.raises(EngineError, match="onnxruntime failed"):
        OnnxRuntimeEngine(program)(np.zeros((1, 3, 8, 9, 1), np.float32))
