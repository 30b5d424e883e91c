"""What is trained on: other models than the built-in one."""

import numpy as np
import pytest

import toplabel
from toplabel.errors import ModelError
from training_material import draw, draw_folder

torch = pytest.importorskip("torch", reason="needs the torch extra")

pytestmark = [pytest.mark.slow, pytest.mark.torch]


class Net(torch.nn.Module):
    """Random filters on small images, pooled in nine fields; then `head`."""

    def __init__(self, head):
        super().__init__()
        torch.manual_seed(0)
        self.filters = torch.nn.Conv2d(3, 24, 5, stride=2)
        self.head = head

    def forward(self, x):
        return self.head(torch.nn.functional.adaptive_avg_pool2d(self.filters(x).relu(), 3))


def _wrapped(head, **options):
    torch.manual_seed(1)
    preprocess = toplabel.Preprocess(
        input_size=(48, 48),
        resize_mode="squash",
        resize_size=(48, 48),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    return toplabel.wrap(Net(head).eval(), preprocess=preprocess, labels=["a", "b", "c"], **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("photos"), {"round": 10, "striped": 10})


@pytest.fixture(scope="module")
def network():
    return _wrapped(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(216, 3)))


def test_a_users_network_is_trained_on(network, photos, tmp_path):
    result = toplabel.train(photos, model=network)
    assert result.bundle.training["features"] == 216
    assert result.predictor.labels.names == ("round", "striped")
    result.save(tmp_path / "mine.toplabel")
    saved = toplabel.load(tmp_path / "mine.toplabel")
    images = [draw("round", 60), draw("striped", 61)]
    assert np.abs(saved.embed(images) - network.embed(images)).max() < 1e-4
    assert saved.labels.names == ("round", "striped")


def test_weights_that_lie_beside_a_program_go_along(network, photos, tmp_path):
    """As a program of more than 2 GB keeps them."""
    import onnx

    network.compile()
    program = onnx.load(network.classifier.bundle.program.path)
    path = tmp_path / "big.onnx"
    onnx.save(program, path, save_as_external_data=True, location="big.bin", size_threshold=1000)
    preprocess, names = network.preprocess, ["a", "b", "c"]
    outside = toplabel.load(path, preprocess=preprocess, labels=names)
    result = toplabel.train(photos, model=outside)
    result.save(tmp_path / "mine.toplabel")
    expected = toplabel.train(photos, model=network).predictor(draw("round", 60))
    found = toplabel.load(tmp_path / "mine.toplabel")(draw("round", 60))
    assert (found.label, found.score) == (expected.label, pytest.approx(expected.score, abs=1e-4))


def test_a_model_without_features_is_named(photos):
    model = _wrapped(torch.nn.Sequential(torch.nn.Conv2d(24, 3, 3), torch.nn.Flatten()))
    with pytest.raises(ModelError, match="gives no features"):
        toplabel.train(photos, model=model)


def test_code_that_no_bundle_holds_cannot_be_trained_on(photos):
    def transform(image):
        return torch.as_tensor(np.asarray(image.resize((48, 48))) / 255).permute(2, 0, 1).float()

    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(216, 3))
    model = toplabel.wrap(Net(head).eval(), preprocess=transform, labels=["a", "b", "c"])
    with pytest.raises(
        ModelError, match="cannot train on .*: a trained model is saved as a bundle"
    ):
        toplabel.train(photos, model=model)
