"""Reference outputs: inputs that exercise a model, and the comparison that decides."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toplabel.bundle import reference
from toplabel.bundle.reference import (
    ReferenceOutputs,
    compare,
    draw_inputs,
    replay,
    replay_once,
)
from toplabel.errors import BundleError


def make_reference(count: int = 8, classes: int = 5) -> ReferenceOutputs:
    generator = np.random.default_rng(0)
    return ReferenceOutputs(
        pixels=draw_inputs((3, 16, 12))[:count],
        scale=np.array([0.01, 0.02, 0.03], np.float32),
        offset=np.array([-1, 0, 1], np.float32),
        logits=generator.normal(size=(count, classes)).astype(np.float32) * 3,
    )


def looked_up(expected: ReferenceOutputs, seen: list[int]):
    """An engine that knows the reference by heart, and notes the batch sizes it was given."""

    def run(batch: np.ndarray) -> np.ndarray:
        seen.append(len(batch))
        rows = [(expected.inputs() == one).all(axis=(1, 2, 3)).argmax() for one in batch]
        return expected.logits[rows]

    return run


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 28, 28), (3, 7, 300), (4, 9, 9), (3, 1, 1)])
def test_draws_eight_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    images = draw_inputs(shape)
    assert images.dtype == np.uint8
    assert images.shape == (8, *shape)


def test_draws_different_images_the_same_at_every_call() -> None:
    images = draw_inputs((3, 64, 64))
    assert len({image.tobytes() for image in images}) == 8
    assert np.array_equal(images, draw_inputs((3, 64, 64)))
    means = images.reshape(8, -1).mean(axis=1)
    assert means.min() < 30
    assert means.max() > 225


def test_photos_are_small_and_their_licence_lies_beside_them() -> None:
    folder = Path(reference.__file__).parents[1] / "data" / "reference_images"
    photos = list(folder.glob("*.png"))
    assert len(photos) == 3
    assert sum(photo.stat().st_size for photo in photos) < 60_000
    licence = (folder / "LICENCE.md").read_text(encoding="utf-8")
    assert all(photo.name in licence for photo in photos)
    for photo in photos:
        with Image.open(photo) as image:
            assert image.mode == "RGB"


def test_drawn_images_pack_well(tmp_path: Path) -> None:
    drawn = ReferenceOutputs(
        draw_inputs((3, 224, 224)),
        np.ones(3, np.float32),
        np.zeros(3, np.float32),
        np.zeros((8, 10), np.float32),
    )
    drawn.save(tmp_path / "goldens.npz")
    assert (tmp_path / "goldens.npz").stat().st_size < 400_000  # 1.2 MB unpacked


def test_inputs_are_scaled_by_channel() -> None:
    some = make_reference()
    inputs = some.inputs()
    assert inputs.dtype == np.float32
    assert inputs[0, 2, 3, 4] == np.float32(some.pixels[0, 2, 3, 4]) * np.float32(0.03) + 1


def test_saved_outputs_come_back_equal(tmp_path: Path) -> None:
    some = make_reference()
    some.save(tmp_path / "goldens.npz")
    again = ReferenceOutputs.load(tmp_path / "goldens.npz")
    for name in ("pixels", "scale", "offset", "logits"):
        assert np.array_equal(getattr(some, name), getattr(again, name))


def test_every_truncation_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "goldens.npz"
    make_reference().save(path)
    content = path.read_bytes()
    for part in range(20):
        path.write_bytes(content[: len(content) * part // 20])
        with pytest.raises(BundleError, match="make the bundle again"):
            ReferenceOutputs.load(path)


def test_missing_outputs_are_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="goldens.npz"):
        ReferenceOutputs.load(tmp_path / "goldens.npz")


def test_flipped_bytes_never_load_silently_changed(tmp_path: Path) -> None:
    path = tmp_path / "goldens.npz"
    some = make_reference()
    some.save(path)
    content = path.read_bytes()
    for position in np.random.default_rng(1).integers(0, len(content), 100):
        changed = bytearray(content)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        try:
            again = ReferenceOutputs.load(path)
        except BundleError:
            continue
        assert np.array_equal(again.pixels, some.pixels)
        assert np.array_equal(again.logits, some.logits)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "goldens.npz"
    objects = np.array([print], dtype=object)
    np.savez(path, pixels=objects, scale=objects, offset=objects, logits=objects)
    with pytest.raises(BundleError, match="allow_pickle"):
        ReferenceOutputs.load(path)


def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    some = make_reference()
    path = tmp_path / "goldens.npz"
    ReferenceOutputs(some.pixels, some.scale, some.offset, some.logits[:3]).save(path)
    with pytest.raises(BundleError, match="match one another"):
        ReferenceOutputs.load(path)
    ReferenceOutputs(some.pixels, some.scale, some.offset, some.logits.astype(np.float64)).save(
        path
    )
    with pytest.raises(BundleError, match="logits is float64"):
        ReferenceOutputs.load(path)


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "goldens.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (600, 1, 1024, 1024)}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("pixels.npy", "w") as member,
    ):
        member.write(header.getvalue())
        for _ in range(600):
            member.write(bytes(2**20))
    with pytest.raises(BundleError, match="unpacks to"):
        ReferenceOutputs.load(path)


def test_equal_logits_agree() -> None:
    logits = make_reference().logits
    agreement = compare(logits, logits)
    assert agreement.agrees
    assert agreement.reason == ""
    assert agreement.max_difference == 0
    assert agreement.same_top1


def test_the_tolerance_grows_with_the_spread() -> None:
    logits = np.array([[0, 1], [50, 2]], np.float32)
    agreement = compare(logits, logits + np.float32(0.004))
    assert agreement.agrees
    assert agreement.spread == 50
    assert agreement.tolerance == pytest.approx(0.005)
    assert not compare(logits, logits + np.float32(0.006)).agrees
    assert not compare(logits / 50, logits / 50 + np.float32(2e-4)).agrees


def test_a_spread_that_is_the_same_for_every_input_does_not_loosen_the_tolerance() -> None:
    logits = np.array([[1000, 0], [1000, 1]], np.float32)
    assert compare(logits, logits).tolerance == pytest.approx(1e-4)


def test_another_best_class_is_no_agreement() -> None:
    expected = np.array([[1, 1.00001], [3, 0]], np.float32)
    got = np.array([[1, 0.99999], [3, 0]], np.float32)
    agreement = compare(expected, got)
    assert not agreement.agrees
    assert not agreement.same_top1
    assert "best class" in agreement.reason


@pytest.mark.parametrize("logits", [np.zeros((8, 4)), np.arange(4)[None].repeat(8, axis=0)])
def test_logits_that_do_not_depend_on_the_input_agree_with_nothing(logits: np.ndarray) -> None:
    same = logits.astype(np.float32)
    agreement = compare(same, same)
    assert not agreement.agrees
    assert "do not depend on the input" in agreement.reason
    almost = same + np.random.default_rng(0).normal(size=same.shape).astype(np.float32) * 1e-5
    assert not compare(almost, almost).agrees


def test_other_shapes_do_not_agree() -> None:
    logits = make_reference().logits
    assert "shape (8, 4)" in compare(logits, logits[:, :4]).reason


def test_rows_that_are_not_finite_must_be_so_on_both_sides() -> None:
    expected = make_reference().logits.copy()
    expected[7] = np.nan
    got = expected.copy()
    assert compare(expected, got).agrees
    got[7] = 0
    assert "finite" in compare(expected, got).reason
    got[:7], got[7] = expected[:7], np.nan
    got[0, 0] = np.inf
    assert "finite" in compare(expected, got).reason


def test_mostly_not_finite_logits_agree_with_nothing() -> None:
    expected = make_reference().logits.copy()
    expected[:5] = np.inf
    assert "not finite" in compare(expected, expected).reason


def test_replay_asks_in_every_batch_size() -> None:
    seen: list[int] = []
    some = make_reference()
    assert replay(some, looked_up(some, seen)).agrees
    assert seen == [1] * 8 + [2] * 4 + [5, 3]


def test_replay_asks_a_fixed_batch_one_by_one() -> None:
    seen: list[int] = []
    some = make_reference()
    assert replay(some, looked_up(some, seen), fixed_batch=True).agrees
    assert seen == [1] * 8


@pytest.mark.parametrize(("fixed", "sizes"), [(False, [1, 2, 5]), (True, [1] * 8)])
def test_once_asks_each_input_once_and_in_every_batch_size(fixed: bool, sizes: list[int]) -> None:
    seen: list[int] = []
    some = make_reference()
    assert replay_once(some, looked_up(some, seen), fixed_batch=fixed).agrees
    assert seen == sizes


@pytest.mark.parametrize("check", [replay, replay_once])
def test_replay_notices_what_goes_wrong_only_in_a_larger_batch(check: Callable[..., Any]) -> None:
    some = make_reference()
    right = looked_up(some, [])

    def run(batch: np.ndarray) -> np.ndarray:
        logits = right(batch).copy()
        logits[4:] += 1
        return logits

    agreement = check(some, run)
    assert not agreement.agrees
    assert agreement.max_difference == pytest.approx(1)


def test_replay_notices_outputs_of_the_wrong_shape() -> None:
    some = make_reference()
    assert "shape (1, 3)" in replay(some, lambda batch: some.logits[: len(batch), :3]).reason


def test_arrays_that_do_not_fit_the_program_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "goldens.npz"
    some = make_reference()
    large = np.zeros((40, 3, 512, 512), np.uint8)
    ReferenceOutputs(large, some.scale, some.offset, np.zeros((40, 5), np.float32)).save(path)
    tracemalloc.start()
    with pytest.raises(BundleError, match="do not fit its program"):
        ReferenceOutputs.load(path, expecting=((3, 16, 12), 5))
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    some.save(path)
    assert len(ReferenceOutputs.load(path, expecting=((3, 16, 12), 5)).pixels) == 8
    with pytest.raises(BundleError, match="do not fit its program"):
        ReferenceOutputs.load(path, expecting=((3, 16, 12), 4))


def test_very_many_inputs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "goldens.npz"
    some = make_reference()
    pixels, logits = np.zeros((65, 3, 2, 2), np.uint8), np.zeros((65, 5), np.float32)
    ReferenceOutputs(pixels, some.scale, some.offset, logits).save(path)
    with pytest.raises(BundleError, match="65 reference inputs"):
        ReferenceOutputs.load(path)


def test_the_room_for_inputs_follows_the_programs_input(tmp_path: Path) -> None:
    path = tmp_path / "goldens.npz"
    some = make_reference()
    pixels = np.zeros((8, 3, 16, 12), np.uint8)
    ReferenceOutputs(pixels, some.scale, some.offset, np.zeros((8, 3 * 2**20), np.float32)).save(
        path
    )
    with pytest.raises(BundleError, match="unpacks to"):
        ReferenceOutputs.load(path, expecting=((3, 16, 12), 5))
