"""Margins and reduced programs as values: what they say, what is kept of them, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from toplabel.bundle.bundle import Bundle, built_in_bundle
from toplabel.bundle.margin import Margin
from toplabel.bundle.reduced import ReducedProgram
from toplabel.errors import BundleError

MARGIN = Margin(logits=0.75, images=1160, again=0.17)


def reduced_in(folder: Path) -> ReducedProgram:
    return ReducedProgram(
        path=folder / "reduced.onnx",
        reference_path=folder / "reduced.npz",
        key="ab" * 32,
        precision="int8",
        engine="onnxruntime",
        margin=MARGIN,
        speedup=2.0,
        processor="a processor",
        images=2000,
    )


@pytest.mark.parametrize("images", [1, 30, 1000])
def test_the_bound_is_the_rate_at_which_no_change_would_be_seen_in_one_of_twenty(
    images: int,
) -> None:
    bound = replace(MARGIN, images=images).bound
    none_changed = (1 - bound) ** images
    assert none_changed == pytest.approx(0.05)
    assert images < 30 or bound == pytest.approx(3 / images, rel=0.05)


def test_a_margin_says_its_bound_in_words_and_none_where_a_label_changed() -> None:
    assert str(MARGIN) == (
        "no label changed in 1,160 re-computations: at most 0.26 % at 95 % confidence"
    )
    changed = replace(MARGIN, changed=2)
    assert str(changed) == "2 labels changed of 1,160 computed both ways"
    assert str(replace(MARGIN, changed=1)) == "1 label changed of 1,160 computed both ways"
    assert changed.bound == 1


@pytest.mark.parametrize(
    "wrong",
    [{"logits": float("nan")}, {"logits": -1.0}, {"features": float("inf")}, {"images": 0}],
    ids=str,
)
def test_a_margin_that_holds_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BundleError, match="margin"):
        Margin(**{"logits": 0.5, "images": 10, **wrong})  # type: ignore[arg-type]


def test_a_bundle_keeps_its_reduced_program_in_the_manifest() -> None:
    plain = built_in_bundle()
    bundle = replace(plain, reduced=reduced_in(plain.program.path.parent))
    assert Bundle.from_manifest(bundle.to_manifest(), bundle.program) == bundle
    assert bundle.schema == plain.schema  # an older version answers exactly


@pytest.mark.parametrize(
    "wrong", [{"precision": "int2"}, {"speedup": "2"}, {"margin": 0.5}, {"x": 1}]
)
def test_a_damaged_reduced_program_is_refused(wrong: dict[str, object]) -> None:
    bundle = replace(built_in_bundle(), reduced=reduced_in(Path("here")))
    manifest = bundle.to_manifest()
    manifest["reduced"] |= wrong
    with pytest.raises(BundleError, match="manifest is damaged"):
        Bundle.from_manifest(manifest, bundle.program)
