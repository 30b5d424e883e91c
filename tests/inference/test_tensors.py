"""Prepared tensors: labelled as they are, once their type, shape and values fit the network."""

import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import toplabel  # noqa: E402
from small_networks import small  # noqa: E402
from toplabel.errors import ImageError, ToplabelWarning, UsageError  # noqa: E402
from toplabel.inference.predictor import Predictor  # noqa: E402

SHAPE = (3, 33, 33)


@pytest.fixture
def model() -> Predictor:
    return toplabel.wrap(
        small(), labels=list("abcdefg"), preprocess="half-squash-33", engine="torch"
    )


def batch(count: int, *, seed: int = 0) -> torch.Tensor:
    """Noise of the values that the preprocessing gives, darker and brighter."""
    noise = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return noise * torch.linspace(0.3, 1, count).reshape(-1, 1, 1, 1) * 2 - 1


def answers(tensors: torch.Tensor) -> list[int]:
    with torch.no_grad():
        return small()(tensors).argmax(1).tolist()


def indices(predictions: Any) -> list[int]:
    return [prediction.index for prediction in predictions]


def test_a_batch_gives_a_list_and_one_image_a_prediction(model: Predictor) -> None:
    tensors = batch(5)
    assert indices(model.predict_tensor(tensors)) == answers(tensors)
    assert indices(model.predict_tensor(tensors.numpy().astype(np.float64))) == answers(tensors)
    assert indices(model.predict_tensor(tensors[:1])) == answers(tensors[:1])
    assert model.predict_tensor(tensors[3]).index == answers(tensors)[3]
    assert indices(model.predict_tensor(list(tensors))) == answers(tensors)
    assert model.predict_tensor(tensors[:0]) == []


def test_scores_and_records_are_those_of_an_image(model: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 33, 3)).astype(np.uint8)
    expected, found = (
        model(pixels, top_k=2),
        model.predict_tensor(model.preprocess(pixels), top_k=2),
    )
    assert found.to_dict() == {**expected.to_dict(), "source": "<tensor 0>"}
    assert model.predict_tensor(model.preprocess(pixels), threshold=1.0).unsure


def test_what_a_data_loader_gives_goes_in_as_it_is(model: Predictor) -> None:
    tensors = batch(7)
    loader = DataLoader(TensorDataset(tensors, torch.zeros(7)), batch_size=3)
    assert [i for pair in loader for i in indices(model.predict_tensor(pair))] == answers(tensors)
    assert indices(model.predict_tensor({"pixel_values": tensors})) == answers(tensors)
    assert model.predict_tensor((tensors[2], 4)).index == answers(tensors)[2]
    names = [p.source for p in model.predict_tensor(tensors)]
    assert names == [f"<tensor {number}>" for number in range(7)]


def test_a_model_that_is_compiled_gives_the_same() -> None:
    model = toplabel.wrap(small(), preprocess="half-squash-33")
    model.predict_tensor(batch(2))
    assert indices(model.predict_tensor(batch(5))) == answers(batch(5))
    assert model.engine == "onnxruntime on cpu"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(2, 33, 33, 3), r"shape \(2, 33, 33, 3\).*permute\(0, 3, 1, 2\)"),
        (torch.zeros(2, 3, 32, 32), r"shape \(2, 3, 32, 32\); expected \(N, 3, 33, 33\)"),
        (torch.zeros(33, 33), r"shape \(33, 33\)"),
        (torch.zeros(1, 2, *SHAPE), "shape"),
        (torch.zeros(2, *SHAPE, dtype=torch.uint8), r"of uint8; expected float32"),
        (torch.full((2, *SHAPE), 255.0), r"from 255 to 255.*-1 to 1: the tensor is not prepared"),
        ({"pixels": batch(1)}, "a dict with pixels"),
        ("cat.jpg", r"got str; .*model\(image\)"),
        ([], "got list"),
    ],
)
def test_what_the_network_does_not_take_is_refused(
    model: Predictor, given: object, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        model.predict_tensor(given)


@pytest.mark.parametrize(
    ("times", "plus", "said"),
    [(0.5, 0.5, "scaled, but not normalised"), (3.0, 0.0, "in another way, or twice")],
)
def test_values_that_the_preprocessing_does_not_give_are_warned_of_in_each_record(
    model: Predictor, times: float, plus: float, said: str
) -> None:
    with pytest.warns(ToplabelWarning, match=said):
        found = model.predict_tensor(batch(2) * times + plus)
    assert all(said in prediction.warnings[0] for prediction in found)


def test_ordinary_values_are_not_warned_of(model: Predictor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ToplabelWarning)
        assert model.predict_tensor(batch(2) * 1.2)[0].warnings == ()


def test_a_tensor_that_is_not_finite_fails_alone(model: Predictor) -> None:
    tensors = batch(3)
    tensors[1, 0, 0, 0] = torch.nan
    found = model.predict_tensor(tensors)
    assert [p.error and p.error.code for p in found] == [None, "non_finite", None]
    assert found[2].index == answers(batch(3))[2]
    with pytest.raises(ImageError, match="NaN"):
        model.predict_tensor(tensors[1])
