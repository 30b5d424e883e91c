"""The sizes that a network takes, against what its own forward accepts."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from toplabel.models.input_size import (  # noqa: E402
    find_input_size,
    input_channels,
    named_data_set,
)


class Tutorial(nn.Module):
    """PyTorch's CIFAR-10 tutorial: 5x5 convolutions, then fully connected layers."""

    def __init__(self, *, channels: int = 3, view: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 10)
        self.view = view

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 400) if self.view else torch.flatten(x, 1)
        return self.fc2(F.relu(self.fc1(x)))


class Averaging(nn.Module):
    def __init__(self, channels: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


class Perceptron(nn.Module):
    def __init__(self, features: int = 784, *, flattens: bool = True):
        super().__init__()
        self.fc = nn.Linear(features, 10)
        self.flattens = flattens

    def forward(self, x):
        return self.fc(x.view(-1, self.fc.in_features) if self.flattens else x)


class Faces(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 6 * 6, 7)

    def forward(self, x):
        return self.fc(F.max_pool2d(self.conv(x), 8).flatten(1))


def accepted_by(network: nn.Module, channels: int, sides: range) -> list[int]:
    found = []
    for side in sides:
        try:
            with torch.no_grad():
                rows = network(torch.zeros(2, channels, side, side)).shape[0]
        except RuntimeError:
            continue
        found += [side] * (rows == 2)
    return found


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_fully_connected_layers_fix_the_size(view, channels):
    network = Tutorial(channels=channels, view=view).eval()
    found = find_input_size(network)
    real = accepted_by(network, channels, range(10, 70))
    assert (found.low, found.high, found.channels) == (real[0], real[-1], channels)
    assert found.side == 32
    assert found.reason == "the usual size of those that the network takes, 32x32 to 35x35 pixels"
    assert found.takes(35, 33)
    assert not found.takes(36, 33)


def test_a_network_that_averages_takes_any_size_and_its_data_set_says_which():
    assert find_input_size(Averaging()).side is None
    assert find_input_size(Averaging()).takes(999, 3)
    known = find_input_size(Averaging(), data_set="./cifar_net.pth")
    assert (known.side, known.reason) == (32, "the size of CIFAR; the network takes any size")


def test_the_size_of_a_data_set_that_the_network_does_not_take_is_not_used():
    assert find_input_size(Faces(), data_set="cifar10").side == 48


def test_a_perceptron_takes_the_square_of_its_inputs():
    for features, channels, side in ((784, 1, 28), (3072, 3, 32), (2304, 1, 48), (12288, 3, 64)):
        found = find_input_size(Perceptron(features))
        assert (found.channels, found.side, found.flat) == (channels, side, False)


def test_rows_of_numbers_are_told_from_images():
    found = find_input_size(Perceptron(flattens=False))
    assert (found.channels, found.side, found.flat) == (1, 28, True)


def test_sizes_far_from_one_that_runs_are_not_tried_where_nearer_ones_fail():
    tried = []

    class Slow(Tutorial):
        def forward(self, x):
            tried.append(x.shape[-1])
            return super().forward(x)

    assert find_input_size(Slow()).high == 35
    assert max(tried) < 64


def test_numbers_that_are_no_pixels_are_said_to_be_none():
    found = find_input_size(Perceptron(42, flattens=False))
    assert (found.low, found.side) == (None, None)
    assert str(found) == "rows of 42 numbers, which are no pixels of a square image"


def test_a_forward_that_looks_at_values_is_run_with_some():
    class Looking(Tutorial):
        def forward(self, x):
            return super().forward(x) * float(x.max())

    assert find_input_size(Looking()).high == 35


def test_a_forward_that_drops_the_dimension_of_one_image_is_asked_with_two():
    class Squeezing(Tutorial):
        def forward(self, x):
            return super().forward(x).squeeze()

    assert find_input_size(Squeezing()).side == 32


def test_a_forward_for_one_image_alone_is_asked_with_one():
    class Alone(Tutorial):
        def forward(self, x):
            return super().forward(x).view(1, 10)

    assert find_input_size(Alone()).side == 32


def test_maps_of_scores_are_no_rows():
    found = find_input_size(nn.Sequential(nn.Conv2d(3, 4, 8), nn.AvgPool2d(25)))
    assert (found.low, found.high) == (32, 56)
    assert found.side is None  # 32 as well as 48


def test_half_precision_and_tuples_of_outputs():
    class Several(Tutorial):
        def forward(self, x):
            scores = super().forward(x)
            return {"logits": scores, "features": x}

    assert find_input_size(Several().half()).side == 32


def test_a_network_that_always_fails_is_said_to_take_nothing():
    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    found = find_input_size(Broken())
    assert (found.low, found.side) == (None, None)
    assert not found.takes(32, 32)
    assert str(found) == "no square image of up to 640 pixels"


def test_nothing_of_the_network_changes_and_nothing_is_printed(capsys):
    class Counting(Tutorial):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))
            self.norm = nn.BatchNorm2d(6)

        def forward(self, x):
            print("forward")
            self.seen += float(x.mean())  # values: the copy without any cannot run it
            F.batch_norm(
                self.conv1(x), self.norm.running_mean, self.norm.running_var, training=True
            )
            return super().forward(x) + torch.rand(1)

    network = Counting().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    assert find_input_size(network).side == 32
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cifar_net.pth", "CIFAR"),
        ("mnist_cnn.pt", "MNIST"),
        ("torchvision.datasets.FashionMNIST(root)", "Fashion-MNIST"),
        ("fashion_mnist.pth", "Fashion-MNIST"),
        ("emnist-letters.pt", "EMNIST"),
        ("tiny-imagenet-200", "Tiny ImageNet"),
        ("FER2013", "FER-2013"),
        ("best.pth", None),
        ("transfer.pth", None),
    ],
)
def test_data_sets_are_known_by_their_names(text, name):
    assert (named_data_set(text) or (None,))[0] == name


def test_channels_are_those_of_the_first_layer():
    assert input_channels(Tutorial(channels=1)) == 1
    assert input_channels(Perceptron(3072)) == 3
    assert input_channels(Perceptron(42)) is None


@pytest.mark.slow
def test_torchvisions_networks():
    from toplabel.models.zoo_import import import_torchvision

    models = import_torchvision().models
    assert find_input_size(models.vit_b_16()).side == 224
    assert find_input_size(models.resnet18()).high is None
    assert find_input_size(models.alexnet()).low == 63
