"""Class names that a live network or a published weights file brings."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402

import toplabel  # noqa: E402
from toplabel._internal.notices import collect_warnings  # noqa: E402
from toplabel.errors import ToplabelWarning  # noqa: E402
from toplabel.labels.labels import Labels  # noqa: E402
from toplabel.models import zoo_import  # noqa: E402
from toplabel.models.sources import own_labels  # noqa: E402
from toplabel.models.sources.huggingface import read_labels  # noqa: E402
from toplabel.models.sources.own_labels import (  # noqa: E402
    find_published_weights,
    labels_of_network,
)

PREPROCESS = toplabel.Preprocess(
    input_size=(32, 32), resize_mode="squash", resize_size=(32, 32), mean=[0.5] * 3, std=[0.5] * 3
)


def network(**attributes: object) -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def test_a_live_network_of_transformers_brings_its_id2label() -> None:
    module = network(config=SimpleNamespace(id2label={0: "ape", 1: "bee", 2: "cat"}))
    assert toplabel.wrap(module, preprocess=PREPROCESS).labels == Labels(("ape", "bee", "cat"))


def test_a_live_network_of_timm_brings_its_label_names() -> None:
    config = {"label_names": ["ape", "bee", "cat"], "num_classes": 3}
    assert labels_of_network(network(pretrained_cfg=config), 3) == Labels(("ape", "bee", "cat"))
    of_timm = SimpleNamespace(**config)  # its own class
    assert labels_of_network(network(pretrained_cfg=of_timm), 3) == Labels(("ape", "bee", "cat"))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"config": SimpleNamespace(id2label={0: "LABEL_0", 1: "LABEL_1"})},
        {"config": SimpleNamespace(hidden=3)},
        {"config": {"id2label": "x"}},
        {"pretrained_cfg": {"num_classes": 1000}},
        {"pretrained_cfg": {"label_names": ["ape", "bee"]}},
    ],
)
def test_names_of_another_number_are_not_the_networks(attributes: dict[str, object]) -> None:
    assert labels_of_network(network(**attributes), 3) is None


def test_placeholders_are_indices() -> None:
    id2label = {index: f"LABEL_{index}" for index in range(3)}
    module = network(config=SimpleNamespace(id2label=id2label))
    assert toplabel.wrap(module, preprocess=PREPROCESS).labels == Labels.indices(3)


def test_names_that_are_given_in_another_order_than_the_networks_are_warned_of() -> None:
    module = network(config=SimpleNamespace(id2label={0: "ape", 1: "bee", 2: "cat"}))
    with pytest.warns(ToplabelWarning, match="the model itself names, in another order"):
        model = toplabel.wrap(module, preprocess=PREPROCESS, labels=["cat", "bee", "ape"])
    assert model.labels[0] == "cat"


def test_a_configuration_that_contradicts_itself_is_warned_of() -> None:
    names = {0: "ape", 1: "bee"}
    with pytest.warns(ToplabelWarning, match="id2label and label2id of the configuration differ"):
        assert read_labels(names, {"ape": 1, "bee": 0}) == Labels(("ape", "bee"))
    with collect_warnings() as texts:
        read_labels(names, {"ape": 0, "bee": 1})
        read_labels(names, {"LABEL_0": 0, "LABEL_1": 1})  # its default
    assert texts == []


def test_imagenets_names_are_offered_to_a_network_of_a_zoo_and_never_taken() -> None:
    models = zoo_import.import_torchvision().models
    torch.manual_seed(0)
    module = models.squeezenet1_1(weights=None)
    with torch.no_grad():
        module.classifier[1].weight *= 20  # above 1, as no score is
    with pytest.warns(ToplabelWarning, match='pass labels="imagenet" if it was trained'):
        model = toplabel.wrap(module, preprocess=PREPROCESS, engine="torch")
    assert not model.labels.named
    with collect_warnings() as texts:
        model = toplabel.wrap(module, preprocess=PREPROCESS, labels="imagenet", engine="torch")
    assert model.labels[281] == "tabby"
    assert texts == []


def test_published_weights_are_known_by_their_hash_whatever_the_file_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = zoo_import.import_torchvision().models
    path = tmp_path / "downloaded.pth"
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1(weights=None).state_dict(), path)
    assert find_published_weights(path, "torchvision/squeezenet1_1") is None
    with pytest.warns(ToplabelWarning, match='labels are indices; pass labels="imagenet"'):
        model = toplabel.load(path, arch="squeezenet1_1", engine="torch")
    assert not model.labels.named

    entry = models.SqueezeNet1_1_Weights.DEFAULT
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    url = f"https://download.pytorch.org/models/squeezenet1_1-{digest[:8]}.pth"
    monkeypatch.setattr(own_labels, "_of_torchvision", lambda name: iter([(url, entry)]))
    with collect_warnings() as texts:
        model = toplabel.load(path, arch="squeezenet1_1", engine="torch")
    published = find_published_weights(path, "torchvision/squeezenet1_1")
    assert model.labels[281] == "tabby"
    assert model.preprocess.input_size == (224, 224)
    assert texts == []
    assert published is not None
    assert published.title == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
