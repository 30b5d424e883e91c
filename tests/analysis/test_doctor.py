"""What doctor finds in checkpoints, and when it answers that it cannot tell."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import toplabel
from own_networks import ResNet20
from pictures import encoded, noisy
from toplabel.analysis.data.dataset import Dataset
from toplabel.analysis.doctor.batchnorm_stats import (
    RunningStats,
    find_normalisation,
    kl_divergence,
    layers_in_order,
    measure,
    resample_weights,
)
from toplabel.analysis.doctor.candidates import candidates, distortions, families, usual
from toplabel.errors import LabelsError, ModelError, UsageError

pytest.importorskip("sklearn")
ROOT = Path(__file__).parents[2]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NETS = f"{ROOT}/tests/own_networks.py:ResNet20"


def found(diagnosis: toplabel.Diagnosis, topic: str) -> str:
    """The state of a topic's last finding."""
    return [one.state for one in diagnosis.findings if one.topic == topic][-1]


def photos(count: int = 24, side: int = 32, seed: int = 0) -> np.ndarray:
    """Images with the spectrum and colours of photos: uint8 (N, h, w, 3)."""
    chance = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        colour = chance.uniform(60, 180, 3)
        grey = sum(
            np.kron(chance.normal(size=(side // size, side // size)), np.ones((size, size)))
            for size in (1, 2, 4, 8, 16)
        )
        own = chance.normal(size=(side, side, 3)) * 6
        made.append(np.clip(colour + 22 * grey[..., None] * (1, 0.9, 0.8) + own, 0, 255))
    return np.uint8(made)


def planted(prepare, *, bias: bool = False) -> nn.Module:
    """A network whose batch normalisations remember photos prepared in this way."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1, bias=bias),
        nn.BatchNorm2d(24, momentum=None),
        nn.ReLU(),
        nn.Conv2d(24, 16, 3, stride=2),
        nn.BatchNorm2d(16, momentum=None),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(prepare(photos(256, seed=9))))
    return network.eval()


@pytest.mark.parametrize("family", families(candidates(3)))
def test_the_family_of_a_planted_network_is_told_or_not_told_wrongly(family):
    network = planted(usual(family, "rgb", 3).tensor)
    verdict = find_normalisation(network, photos()).family
    assert family in (verdict.family, verdict.tied)
    assert find_normalisation(network, photos(16)).colour.colour is None  # too few for colours


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_the_colour_order_is_never_told_wrongly(colour):
    for family in ("0 to 1", "-1 to 1", "0 to 255", "z-score", "caffe"):
        network = planted(usual(family, colour, 3).tensor)
        verdict = find_normalisation(network, photos(40))
        assert verdict.colour is not None
        assert verdict.colour.colour in (None, colour)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda pixels: 2 * usual("0 to 1", "rgb", 3).tensor(pixels),
        lambda pixels: 5 * usual("z-score", "rgb", 3).tensor(pixels),
        lambda pixels: usual("0 to 1", "rgb", 3).tensor(pixels) - 2,
        lambda pixels: usual("0 to 1", "rgb", 3).tensor(pixels) ** 3 * 3,
    ],
)
def test_a_preprocessing_that_is_no_candidate_cannot_be_told(prepare):
    verdict = find_normalisation(planted(prepare), photos()).family
    assert verdict.family is None
    assert verdict.reason


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("family", ["0 to 1", "-1 to 1"])
def test_a_network_of_distorted_images_is_given_no_family(place, family):
    distortion = distortions(3)[place]
    tensor = usual(family, "rgb", 3).tensor
    network = planted(lambda pixels: tensor(distortion.apply(pixels)))
    assert find_normalisation(network, photos()).family.family is None


def test_the_reason_names_the_distortion():
    tensor = usual("-1 to 1", "rgb", 3).tensor
    verdict = find_normalisation(planted(lambda pixels: tensor(255 - pixels)), photos()).family
    assert "inverted images" in verdict.reason
    assert "none of the candidates" in verdict.reason


class OneSize(nn.Module):
    """Its fully connected layer takes 40x40 to 43x43 pixels, which no list of usual sizes has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d(4), nn.Flatten()
        )
        self.head = nn.Linear(4 * 10 * 10, 3)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(batch))


def test_a_size_that_fits_is_found_and_one_that_does_not_is_an_error_with_those_that_do(tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    for place, pixels in enumerate(photos(16)):
        (folder / f"{place}.png").write_bytes(encoded(Image.fromarray(pixels), "PNG"))
    diagnosis = toplabel.diagnose(OneSize(), images=folder)
    sizes = [one.text for one in diagnosis.findings if one.topic == "geometry"]
    assert "40x40 pixels (it takes 40x40 to 43x43 pixels of 3 channels)" in sizes[-1]
    with pytest.raises(ModelError, match="fails on images of 224x224 .* takes 40x40 to 43x43"):
        toplabel.diagnose(OneSize(), images=folder, size=224)


def test_grey_images_have_no_channels_to_reverse():
    grey = photos()[..., :1]
    assert all(one.apply(grey).shape == grey.shape for one in distortions(1))
    assert all(one.apply(photos(2)).dtype == np.uint8 for one in distortions(3))


def test_the_divergence_is_that_of_gaussians():
    module = nn.Sequential(nn.BatchNorm2d(2)).eval()
    module[0].running_mean[:] = torch.tensor([1.0, -2.0])
    module[0].running_var[:] = torch.tensor([4.0, 0.25])
    values = np.random.default_rng(0).normal(size=(5, 2, 9, 9)).astype(np.float32)
    layers = layers_in_order(module, values[:1])
    (moments,) = measure(module, layers, values)
    weights = resample_weights(5)
    ours = kl_divergence(moments, RunningStats.of(layers[0]), weights)[0]
    observed = torch.distributions.Normal(
        torch.from_numpy(values.mean((0, 2, 3))), torch.from_numpy(values.std((0, 2, 3)))
    )
    remembered = torch.distributions.Normal(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5]))
    theirs = torch.distributions.kl_divergence(observed, remembered)
    assert ours == pytest.approx(float(theirs.mean()))
    np.testing.assert_allclose(weights.sum(axis=1), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate(photos()):
        from PIL import Image

        Image.fromarray(pixels).save(where / f"{number:02}.png")
    return where


def test_a_network_without_batch_normalisation_asks_for_labels(folder):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError, match='no batch normalisation .* labelled="FOLDER"'):
        toplabel.diagnose(network, images=folder, size=32)


def test_outputs_that_are_probabilities_dropout_and_batches_are_named(folder):
    body = planted(usual("0 to 1", "rgb", 3).tensor)
    softmax = toplabel.diagnose(nn.Sequential(body, nn.Softmax(1)), images=folder, size=32)
    assert found(softmax, "outputs") == "wrong"

    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(self.body(x), 0.5)

    assert found(toplabel.diagnose(Dropping(), images=folder, size=32), "repeats") == "wrong"

    class Batching(Dropping):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) - self.body(x).mean(0)

    diagnosis = toplabel.diagnose(Batching(), images=folder, size=32)
    repeats = next(one for one in diagnosis.findings if one.topic == "repeats")
    assert "depends on the others of its batch" in repeats.text
    assert found(toplabel.diagnose(body, images=folder, size=32), "repeats") == "fine"


def test_nan_weights_end_it_with_their_names(folder, tmp_path):
    network = ResNet20()
    network.linear.weight.data[0, 0] = float("nan")
    torch.save(network.state_dict(), tmp_path / "bad.pth")
    diagnosis = toplabel.diagnose(tmp_path / "bad.pth", arch=NETS, images=folder)
    assert found(diagnosis, "weights") == "wrong"
    assert diagnosis.preprocess is None
    assert "linear.weight" in next(f for f in diagnosis.findings if f.topic == "weights").evidence


def test_labels_that_do_not_fit_are_named(folder):
    body = planted(usual("0 to 1", "rgb", 3).tensor)
    diagnosis = toplabel.diagnose(body, images=folder, size=32, labels=["a", "b"])
    assert found(diagnosis, "labels") == "wrong"
    with pytest.warns(DeprecationWarning, match="use Diagnosis.preprocess"):
        assert diagnosis.recipe == diagnosis.preprocess
    assert diagnosis.to_dict()["recipe"] == diagnosis.to_dict()["preprocess"]
    assert found(toplabel.diagnose(body, images=folder, size=32), "labels") == "cannot tell"


def test_too_few_and_unreadable_images_are_one_line(tmp_path, folder):
    body = planted(usual("0 to 1", "rgb", 3).tensor)
    with pytest.raises(UsageError, match="got no images"):
        toplabel.diagnose(body)
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(encoded(noisy(40, 40), "PNG"))
    with pytest.raises(UsageError, match="5 of 5 images .* at least 16"):
        toplabel.diagnose(body, images=tmp_path, size=32)
    (tmp_path / "some").mkdir()
    for path in folder.iterdir():
        (tmp_path / "some" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "some" / "zz.png").write_bytes(b"?")
    diagnosis = toplabel.diagnose(body, images=tmp_path / "some", size=32)
    assert any(
        "1 image could not be read, and is left out" in one.text for one in diagnosis.findings
    )


def labelled(shared_data: Path, tmp_path: Path, count: int, seed: int = 0) -> Path:
    """A table of so many images, drawn from all."""
    every = sorted((shared_data / "cifar10-test").rglob("*.jpg"))
    drawn = np.random.default_rng(seed).choice(len(every), count, replace=False)
    rows = [f"{every[place]},{every[place].parent.name}" for place in drawn]
    table = tmp_path / f"few-{count}-{seed}.csv"
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    return table


@pytest.mark.slow
@pytest.mark.shared_data
def test_sixteen_photos_tell_the_family_of_a_real_checkpoint(shared_data, tmp_path):
    path = shared_data / "checkpoints" / "resnet20-12fca82f.th"
    every = sorted((shared_data / "imagenet").iterdir())
    for draw in range(4):
        diagnosis = toplabel.diagnose(path, arch=NETS, images=every[draw::12][:16])
        family = next(one for one in diagnosis.findings if one.topic == "family")
        assert (family.state, "'z-score'" in family.text) == ("told", True)
        assert found(diagnosis, "colour") == "cannot tell"
        assert not diagnosis.sure


@pytest.mark.slow
@pytest.mark.timeout(2700)
@pytest.mark.shared_data
def test_fifty_labels_tell_the_channel_order_and_a_preprocessing_within_a_point(
    shared_data, tmp_path
):
    path = shared_data / "checkpoints" / "resnet20-12fca82f.th"
    told = 0
    for seed in range(4):
        few = labelled(shared_data, tmp_path, 50, seed)
        diagnosis = toplabel.diagnose(path, arch=NETS, labelled=few, labels=CIFAR)
        assert found(diagnosis, "order") == "fine"
        assert found(diagnosis, "family") == "told"
        assert diagnosis.preprocess.channels == "rgb"  # told, or the usual choice
        told += diagnosis.sure
    assert told >= 3
    model = toplabel.load(path, arch=NETS, labels=CIFAR, preprocess=diagnosis.preprocess)
    right = toplabel.evaluate(model, shared_data / "cifar10-test").metrics.top1.value
    assert right >= 0.795 - 0.01  # that of the true preprocessing


class OfInverted(nn.Module):
    """The same network, as if it had been trained on inverted images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        self.std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        upright = 1 - (x * self.std + self.mean)
        return self.network((upright - self.mean) / self.std)


@pytest.mark.slow
@pytest.mark.shared_data
def test_labels_do_not_make_a_preprocessing_of_what_needs_inverted_images(shared_data, tmp_path):
    network = ResNet20()
    given = torch.load(
        shared_data / "checkpoints" / "resnet20-12fca82f.th", weights_only=True, map_location="cpu"
    )["state_dict"]
    network.load_state_dict({name.removeprefix("module."): t for name, t in given.items()})
    diagnosis = toplabel.diagnose(
        OfInverted(network.eval()), labelled=labelled(shared_data, tmp_path, 30), labels=CIFAR
    )
    family = next(one for one in diagnosis.findings if one.topic == "family")
    assert family.state == "cannot tell"
    assert "inverted images" in family.text
    assert not diagnosis.sure


@pytest.mark.slow
@pytest.mark.shared_data
def test_a_permuted_list_is_named_first(shared_data, tmp_path):
    path = shared_data / "checkpoints" / "resnet20-12fca82f.th"
    few = labelled(shared_data, tmp_path, 100)
    swapped = [*CIFAR]
    swapped[2], swapped[7] = swapped[7], swapped[2]
    diagnosis = toplabel.diagnose(path, arch=NETS, labelled=few, labels=swapped)
    order = next(one for one in diagnosis.findings if one.topic == "order")
    assert (order.state, "look swapped" in order.text) == ("wrong", True)
    assert found(diagnosis, "family") == "told"  # the rest is found out all the same
    with pytest.raises(LabelsError, match="match no label"):
        toplabel.diagnose(path, arch=NETS, labelled=few, labels=[*"abcdefghij"])


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_command_writes_what_preprocess_takes(shared_data, tmp_path):
    path = shared_data / "checkpoints" / "resnet20-12fca82f.th"
    few, names = labelled(shared_data, tmp_path, 50), tmp_path / "names.txt"
    names.write_text("\n".join(CIFAR) + "\n")
    target = tmp_path / "preprocess.json"
    start = [sys.executable, "-m", "toplabel"]
    command = [*start, "doctor", path, "--arch", NETS, "--labelled", few, "--labels", names]
    done = subprocess.run([*command, "-o", target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "found  colour: it takes RGB" in done.stdout
    cat = next((shared_data / "cifar10-test" / "cat").iterdir())
    using = [cat, "-m", path, "--arch", NETS, "--labels", names, "--preprocess", target]
    asked = subprocess.run([*start, *using, "--json"], capture_output=True, text=True)
    assert json.loads(asked.stdout)["label"] in CIFAR
    photos_only = [*start, "doctor", path, "--arch", NETS, "--images", shared_data / "imagenet"]
    weak = subprocess.run(
        [*photos_only, "-o", tmp_path / "no.json"], capture_output=True, text=True
    )
    assert weak.returncode == 2
    assert "nothing was written" in weak.stderr
    assert not (tmp_path / "no.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.shared_data
def test_sixteen_photos_tell_the_built_in_models_family_and_fifty_its_preprocessing(shared_data):
    script = runpy.run_path(str(ROOT / "scripts/build_built_in_bundle.py"))
    network, labels = script["load_module"](), script["imagenet_labels"]()
    every = sorted((shared_data / "imagenet").iterdir())
    for draw in range(2):
        diagnosis = toplabel.diagnose(network, images=every[draw::12][:16], size=224)
        family = next(one for one in diagnosis.findings if one.topic == "family")
        assert (family.state, "'-1 to 1'" in family.text) == ("told", True)
        assert diagnosis.preprocess.channels == "rgb"
    few = Dataset(
        tuple(map(str, every[2::4])), tuple(path.name[:9] for path in every[2::4]), "fourths"
    )
    diagnosis = toplabel.diagnose(network, labelled=few, size=224, labels=labels)
    assert diagnosis.sure
    assert diagnosis.preprocess.channels == "rgb"
    assert diagnosis.preprocess.std == (0.5, 0.5, 0.5)
    model = toplabel.wrap(network, labels=labels, preprocess=diagnosis.preprocess)
    assert toplabel.evaluate(model, shared_data / "imagenet").metrics.top1.value >= 0.9 - 0.01
