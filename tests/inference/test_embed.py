"""Features of images: as the network has them, whichever engine and face gives them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toplabel
from run_material import draw_colours, local_predictor, save_model
from toplabel.bundle.bundle import built_in_bundle
from toplabel.bundle.features import find_features
from toplabel.errors import ImageError, ModelError
from toplabel.image.reading import read_image
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine
from toplabel.inference.predictor import Predictor

EXAMPLES = Path(__file__).parents[2] / "examples"
CAT = EXAMPLES / "cat.jpg"


@pytest.fixture(scope="module")
def model() -> Predictor:
    return toplabel.load(threads=2)


def test_the_features_of_an_image_are_what_the_head_takes(model: Predictor) -> None:
    features = model.embed(CAT)
    assert (features.dtype, features.shape) == (np.float32, (1280,))
    pixels = read_image(CAT).pixels
    tensor = np.empty((1, 3, 224, 224), np.float32)
    model.preprocess(pixels, out=tensor[0])
    logits, expected = OnnxRuntimeEngine(built_in_bundle().program, features=True).answer(tensor)
    np.testing.assert_allclose(features, expected[0], atol=1e-5)
    assert model.labels[int(logits.argmax())] == str(model(CAT))


def test_a_list_gives_a_row_for_each_in_order(model: Predictor) -> None:
    image = Image.open(CAT)
    sources = [CAT, EXAMPLES / "coffee.jpg", image, np.asarray(image.convert("RGB"))]
    rows = model.embed(sources)
    assert (rows.dtype, rows.shape) == (np.float32, (4, 1280))
    for row, source in zip(rows, sources, strict=True):
        np.testing.assert_allclose(row, model.embed(source), atol=1e-5)
    assert model.embed([]).shape == (0, 1280)
    assert model.embedding_size == 1280


def test_rows_have_length_one_where_that_is_asked_for(model: Predictor) -> None:
    plain = model.embed([CAT])
    rows = model.embed([CAT], normalize=True)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows, plain / np.linalg.norm(plain), atol=1e-6)
    np.testing.assert_allclose(model.embed(CAT, normalize=True), rows[0], atol=1e-6)


def test_a_large_jpeg_is_read_in_full(model: Predictor, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    np.testing.assert_array_equal(
        model.embed(tmp_path / "large.jpg"), model.embed(Image.open(tmp_path / "large.jpg"))
    )


def test_an_image_that_fails_is_named(model: Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(ImageError, match=r"broken\.jpg") as raised:
        model.embed([CAT, tmp_path / "broken.jpg"])
    assert raised.value.code == "corrupt" or raised.value.code == "truncated"
    with pytest.raises(ImageError):
        model.embed(tmp_path / "broken.jpg")
    with pytest.raises(ImageError, match="embed_stream"):
        model.embed(EXAMPLES)


def test_a_stream_of_features_goes_on_after_a_failure(model: Predictor) -> None:
    found = list(model.embed_stream(iter([CAT, "missing.jpg", CAT])))
    assert [one.error and one.error.code for one in found] == [None, "not_found", None]
    assert [one.features is None for one in found] == [False, True, False]
    assert found[0].label == "tiger cat"
    assert "features" not in found[0].to_dict()


def test_predictions_have_no_features_unless_they_are_asked_for(model: Predictor) -> None:
    assert model(CAT).features is None
    labeller = model.batch_labeller(keep_features=True)
    (prediction,) = labeller.label([(0, CAT)])
    assert prediction.features is not None
    assert prediction.features.base is None  # it does not hold the whole batch's


def test_the_two_optimised_copies_of_a_program_are_not_mixed_up() -> None:
    program = built_in_bundle().program
    batch = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    for _ in range(2):  # made, then opened again
        plain, both = (OnnxRuntimeEngine(program, features=one) for one in (False, True))
        logits, features = both.answer(batch)
        np.testing.assert_allclose(plain(batch), logits, atol=1e-4)
        assert features.shape == (1, find_features(program).size)


def test_a_program_of_fixed_batch_gives_features_one_by_one(tmp_path: Path) -> None:
    from dataclasses import replace

    program = built_in_bundle().program
    batch = np.random.default_rng(0).normal(size=(3, 3, 224, 224)).astype(np.float32)
    _, together = OnnxRuntimeEngine(program, features=True).answer(batch)
    _, alone = OnnxRuntimeEngine(replace(program, fixed_batch=True), features=True).answer(batch)
    np.testing.assert_allclose(alone, together, atol=1e-4)


def test_an_onnx_file_gives_the_mean_of_each_colour(tmp_path: Path) -> None:
    paths = draw_colours(tmp_path / "photos", 3)
    rows = toplabel.load(**save_model(tmp_path)).embed(paths)
    np.testing.assert_allclose(rows, np.diag([255, 254, 253]) / np.float32(255), atol=1e-6)


def test_a_model_without_a_linear_layer_is_refused_by_name(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image"], ["logits"], axes=[2, 3], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
    )
    options = save_model(tmp_path)
    opsets = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), options["model"])
    model = toplabel.load(**options)
    assert model(np.full((8, 8, 3), 9, np.uint8)).error is None
    for ask in (
        lambda: model.embed(CAT),
        lambda: model.embed([CAT]),
        lambda: model.embed_stream([CAT]),
        lambda: model.embedding_size,
        lambda: model.batch_labeller(keep_features=True),
    ):
        with pytest.raises(ModelError, match="gives no features: its class outputs do not come"):
            next(iter(ask()))  # type: ignore[call-overload]


def test_an_engine_of_ones_own_gives_its_own_features() -> None:
    model = local_predictor()
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_allclose(model.embed([red, red]), [[1, 0, 0]] * 2)
    assert model.embedding_size == 3
