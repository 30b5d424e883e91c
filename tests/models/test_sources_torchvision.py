"""torchvision's classifiers load by its own code, from weights in torch's own cache."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402

from loading import load_model  # noqa: E402
from toplabel.errors import (  # noqa: E402
    CheckpointError,
    DownloadError,
    ModelError,
    ModelNotFound,
)
from toplabel.models import zoo_import  # noqa: E402


@pytest.fixture
def torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where torch keeps weights; TORCH_HOME is the test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def write_weights(folder: Path, architecture: str, weights_name: str) -> torch.nn.Module:
    """Random weights under the name that torchvision looks for; returns the network."""
    models = zoo_import.import_torchvision().models
    weights = models.get_model_weights(architecture)[weights_name]
    torch.manual_seed(0)
    network = (
        models.get_model(architecture, weights=None, init_weights=True)
        if (architecture == "googlenet")
        else models.get_model(architecture, weights=None)
    )
    torch.save(network.state_dict(), folder / weights.url.rpartition("/")[2])
    return network


def test_loads_the_default_weights_with_their_recipe_and_names(torch_cache: Path) -> None:
    network = write_weights(torch_cache, "resnet18", "DEFAULT").eval()
    model = load_model("resnet18", offline=True)
    assert model.name == "torchvision/resnet18:IMAGENET1K_V1"
    assert model.architecture == "torchvision/resnet18"
    assert model.preprocess.resize_size == (256, 256)
    assert model.preprocess.input_size == (224, 224)
    assert not model.module.training
    assert [file.path for file in model.weights_files] == [
        str(torch_cache / "resnet18-f37072fd.pth")
    ]
    batch = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.module(batch), network(batch))


def test_labels_are_the_categories_with_synset_ids(torch_cache: Path) -> None:
    write_weights(torch_cache, "squeezenet1_1", "DEFAULT")
    labels = load_model("squeezenet1_1", offline=True).labels
    assert (labels[281], labels.ids[281]) == ("tabby", "n02123045")
    assert (labels[0], labels.ids[0]) == ("tench", "n01440764")
    assert list(labels.ids) == sorted(labels.ids)


def test_states_where_the_weights_come_from(torch_cache: Path) -> None:
    write_weights(torch_cache, "squeezenet1_1", "DEFAULT")
    provenance = load_model("squeezenet1_1", offline=True).provenance
    assert provenance["source"] == "torchvision"
    assert provenance["weights"] == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert provenance["accuracy"].startswith("58.178 % top-1")
    assert provenance["library"].startswith("torchvision 0.")
    assert all(isinstance(value, str) for value in provenance.values())


def test_each_weights_entry_brings_its_own_recipe(torch_cache: Path) -> None:
    write_weights(torch_cache, "mobilenet_v2", "IMAGENET1K_V1")
    write_weights(torch_cache, "mobilenet_v2", "IMAGENET1K_V2")
    first = load_model("mobilenet_v2:IMAGENET1K_V1", offline=True)
    second = load_model("torchvision/mobilenet_v2:IMAGENET1K_V2", offline=True)
    assert first.preprocess.resize_size == (256, 256)
    assert second.preprocess.resize_size == (232, 232)


@pytest.mark.slow
def test_keeps_what_the_builder_does_beyond_loading(torch_cache: Path) -> None:
    """GoogLeNet's weights want inputs normalised once more; a plain load_state_dict forgets it."""
    write_weights(torch_cache, "googlenet", "DEFAULT")
    module = load_model("googlenet", offline=True).module
    assert module.transform_input is True


def test_refuses_weights_without_categories() -> None:
    with pytest.raises(ModelError, match="IMAGENET1K_FEATURES has no class names"):
        load_model("vgg16:IMAGENET1K_FEATURES", offline=True)


@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet50_fpn", "torchvision/fcn_resnet50", "torchvision/r3d_18"]
)
def test_refuses_what_is_no_image_classifier(name: str) -> None:
    with pytest.raises(ModelError, match="not an image classifier"):
        load_model(name, offline=True)


def test_lists_the_weights_where_the_name_of_one_is_wrong() -> None:
    with pytest.raises(ModelNotFound, match="expected one of IMAGENET1K_V1, IMAGENET1K_V2"):
        load_model("resnet50:V3", offline=True)


def test_says_what_is_missing_and_where_it_was_looked_for(torch_cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"resnet50-11ad3fa6\.pth is not on this machine") as e:
        load_model("resnet50", offline=True)
    assert str(torch_cache) in str(e.value)


def test_names_the_damaged_file(torch_cache: Path) -> None:
    (torch_cache / "resnet18-f37072fd.pth").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"resnet18-f37072fd\.pth.*delete .*\.pth to"):
        load_model("resnet18", offline=True)


def test_runs_no_code_from_the_cache(torch_cache: Path, tmp_path: Path) -> None:
    torch.save({"code": Trap(tmp_path / "sprung")}, torch_cache / "resnet18-f37072fd.pth")
    with pytest.raises(CheckpointError, match="cannot load torchvision/resnet18"):
        load_model("resnet18", offline=True)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_every_entry_of_the_zoo_but_one_has_names() -> None:
    from toplabel.models.sources.torchvision import find_weights, read_labels

    models = zoo_import.import_torchvision().models
    refused = []
    for architecture in models.list_models(module=models):
        for entry in models.get_model_weights(architecture):
            weights = find_weights(models, architecture, entry.name)
            try:
                labels = read_labels(models, weights)
            except ModelError:
                refused.append(str(weights))
            else:
                assert labels.ids is not None
                assert len(labels) == 1000
    assert refused == ["VGG16_Weights.IMAGENET1K_FEATURES"]
