"""A live network becomes a Model, unless its answers are not those of a classifier."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from toplabel.errors import LabelsError, ModelError, PreprocessError  # noqa: E402
from toplabel.models.outputs import Scores  # noqa: E402
from toplabel.models.sources.module import from_module  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402

PREPROCESS = Preprocess(input_size=(16, 16), resize_size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)


class TinyNet(nn.Module):
    """Three classes; `finish` makes its output of the scores."""

    def __init__(self, finish: Callable[[torch.Tensor], Any] = lambda scores: scores) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)
        self.finish = finish

    def forward(self, batch: torch.Tensor) -> Any:
        return self.finish(self.head(self.dropout(self.features(batch))))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@dataclasses.dataclass
class Output:
    logits: torch.Tensor


def test_uses_the_network_itself_in_eval_mode() -> None:
    network = TinyNet()
    model = from_module(network, preprocess=PREPROCESS, labels=["cat", "dog", "owl"])
    assert not network.training
    assert model.module.network is network
    assert model.name == "TinyNet"
    assert tuple(model.labels) == ("cat", "dog", "owl")
    assert model.preprocess is PREPROCESS
    batch = torch.rand(2, 3, 16, 16)
    assert torch.equal(model.module(batch), network(batch))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("net.pth", "got 'net.pth' \\(toplabel.load opens files"),
        (torch.nn.Linear, "got the class Linear itself; expected"),
        (torch.nn.Linear(2, 2).state_dict(), "got OrderedDict \\(toplabel.load takes the file"),
    ],
)
def test_what_is_no_network_is_named_with_where_it_goes(given: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        from_module(given, labels=["a", "b"], preprocess="half-squash-32")


def test_takes_class_to_idx_and_a_name() -> None:
    model = from_module(
        TinyNet(), preprocess=PREPROCESS, labels={"b": 1, "a": 0, "c": 2}, name="abc"
    )
    assert tuple(model.labels) == ("a", "b", "c")
    assert model.name == "abc"


def test_without_labels_answers_are_indices() -> None:
    labels = from_module(TinyNet(), preprocess=PREPROCESS).labels
    assert tuple(labels) == ("0", "1", "2")
    assert not labels.named


def test_takes_a_torchvision_transform() -> None:
    from toplabel.models.zoo_import import import_torchvision

    transforms = import_torchvision().transforms
    transform = transforms.Compose(
        [
            transforms.Resize(20),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    )
    preprocess = from_module(TinyNet(), preprocess=transform).preprocess
    assert preprocess.resize_size == (20, 20)
    assert preprocess.std == (0.25,) * 3


def test_refuses_a_transform_that_nobody_knows() -> None:
    with pytest.raises(PreprocessError):
        from_module(TinyNet(), preprocess=object())


@pytest.mark.parametrize(
    "finish",
    [
        lambda scores: scores[:, :, None, None],
        Output,
        lambda scores: {"logits": scores},
        lambda scores: {"out": scores, "aux": scores},
        lambda scores: (scores,),
        lambda scores: scores.double(),
    ],
)
def test_finds_the_scores_in_many_forms(finish: Callable[[torch.Tensor], Any]) -> None:
    network = TinyNet(finish).eval()
    scores = Scores(network)(torch.rand(2, 3, 16, 16))
    assert scores.shape == (2, 3)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("finish", "described"),
    [
        (lambda scores: (scores, scores), r"'0' float32 \(1, 3\), '1' .*pass output="),
        (lambda scores: scores[:, None] + scores[:, :, None], r"'output' float32 \(1, 3, 3\)"),
        (lambda scores: scores.argmax(1), r"'output' int64 \(1,\)"),
        (lambda scores: "cat", "a str"),
    ],
)
def test_says_what_came_back_instead_of_scores(
    finish: Callable[[torch.Tensor], Any], described: str
) -> None:
    with pytest.raises(ModelError, match=f"TinyNet gives .*{described}"):
        from_module(TinyNet(finish), preprocess=PREPROCESS)


def test_the_output_that_is_named_is_used_and_exported() -> None:
    network = TinyNet(lambda scores: {"colour": -scores, "kind": scores})
    model = from_module(network, preprocess=PREPROCESS, output="kind")
    batch = torch.rand(2, 3, 16, 16)
    assert torch.equal(model.module(batch), network(batch)["kind"])


def test_a_class_that_is_masked_is_no_error() -> None:
    mask = torch.tensor([0.0, float("-inf"), 0.0])
    model = from_module(TinyNet(lambda scores: scores + mask), preprocess=PREPROCESS)
    assert model.activation == "softmax"


def test_refuses_dropout_that_is_left_on() -> None:
    def finish(scores: torch.Tensor) -> torch.Tensor:
        return functional.dropout(scores, 0.5, training=True)

    with pytest.raises(ModelError, match="different outputs for the same image.*dropout"):
        from_module(TinyNet(finish), preprocess=PREPROCESS)


def test_refuses_noise_in_the_forward() -> None:
    with pytest.raises(ModelError, match="different outputs for the same image"):
        from_module(TinyNet(lambda s: s + 1e-3 * torch.randn_like(s)), preprocess=PREPROCESS)


def test_refuses_a_softmax_over_the_batch() -> None:
    with pytest.raises(ModelError, match=r"depends on the other images.*dim=0"):
        from_module(TinyNet(lambda scores: scores.softmax(0)), preprocess=PREPROCESS)


def test_refuses_batch_normalisation_without_running_statistics() -> None:
    network = TinyNet()
    network.features[1] = nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(ModelError, match="depends on the other images"):
        from_module(network, preprocess=PREPROCESS)


def test_refuses_a_part_that_stays_in_training_mode() -> None:
    class Stubborn(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> "Stubborn":
            return super().train(True)

    network = TinyNet()
    network.features[1] = Stubborn(8)
    with pytest.raises(ModelError, match=r"stays in training mode.*features\.1"):
        from_module(network, preprocess=PREPROCESS)


def test_refuses_scores_that_are_not_finite() -> None:
    network = TinyNet()
    network.head.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN or infinite"):
        from_module(network, preprocess=PREPROCESS)


def test_a_single_output_says_yes_or_no() -> None:
    def first(scores: torch.Tensor) -> torch.Tensor:
        return scores[:, 0]

    network = TinyNet(first)
    model = from_module(network, preprocess=PREPROCESS, labels=["cat", "dog"])
    batch = torch.rand(2, 3, 16, 16)
    yes = model.module(batch).softmax(1)[:, 1]
    torch.testing.assert_close(yes, network(batch).sigmoid())
    alone = from_module(network, preprocess=PREPROCESS, labels=["dog"], multi_label=True)
    assert (alone.activation, alone.multi_label) == ("sigmoid", True)


def test_refuses_labels_that_do_not_fit() -> None:
    with pytest.raises(LabelsError, match="got 2 labels for a model with 3 outputs"):
        from_module(TinyNet(), preprocess=PREPROCESS, labels=["cat", "dog"])


def test_says_the_shape_that_the_network_does_not_take() -> None:
    grey = Preprocess(
        input_size=(16, 16), resize_size=(16, 16), channels="grey", mean=(0.5,), std=(0.5,)
    )
    with pytest.raises(ModelError, match=r"fails on a batch of shape \(1, 1, 16, 16\)"):
        from_module(TinyNet(), preprocess=grey)


def test_accepts_a_network_that_takes_one_image_at_a_time() -> None:
    def finish(scores: torch.Tensor) -> torch.Tensor:
        return scores.view(1, 3)

    assert len(from_module(TinyNet(finish), preprocess=PREPROCESS).labels) == 3


def test_leaves_buffers_and_random_state_as_they_were() -> None:
    class Counting(TinyNet):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, batch: torch.Tensor) -> Any:
            self.calls += 1
            torch.rand(1)
            return super().forward(batch)

    network = Counting()
    state = torch.random.get_rng_state()
    from_module(network, preprocess=PREPROCESS)
    assert network.calls == 0
    assert torch.equal(torch.random.get_rng_state(), state)


def test_copies_a_network_of_another_dtype() -> None:
    network = TinyNet().half()
    model = from_module(network, preprocess=PREPROCESS)
    assert network.head.weight.dtype == torch.float16
    assert model.module.network.head.weight.dtype == torch.float32


def test_unpacks_data_parallel() -> None:
    network = TinyNet()
    model = from_module(nn.DataParallel(network), preprocess=PREPROCESS)
    assert model.module.network is network
    assert model.name == "TinyNet"


@pytest.mark.parametrize("given", [{"weight": torch.zeros(1)}, "model.pth", None])
def test_refuses_what_is_no_network(given: Any) -> None:
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module"):
        from_module(given, preprocess=PREPROCESS)


def test_refuses_networks_without_weights() -> None:
    with pytest.raises(ModelError, match="lazy layers"):
        from_module(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), preprocess=PREPROCESS)
    with torch.device("meta"):
        network = TinyNet()
    with pytest.raises(ModelError, match="device 'meta'"):
        from_module(network, preprocess=PREPROCESS)


def test_the_architecture_names_class_and_file() -> None:
    architecture = from_module(TinyNet(), preprocess=PREPROCESS).architecture
    name, _, digest = architecture.partition("@")
    assert name.endswith("test_sources_module.TinyNet")
    assert len(digest) == 16
