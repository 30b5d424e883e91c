"""timm's classifiers load from the Hub's cache or a folder, with their preprocessing and names."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402

import toplabel  # noqa: E402
from loading import load_model  # noqa: E402
from toplabel.bundle.cache import list_entries  # noqa: E402
from toplabel.errors import (  # noqa: E402
    CheckpointError,
    DownloadError,
    LabelsError,
    ModelError,
    ModelNotFound,
)
from toplabel.models import zoo_import  # noqa: E402
from toplabel.models.sources import timm  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def snapshot(cache: Path, repository: str) -> Path:
    """An empty snapshot of the repository's main branch, as the Hub's client lays it out."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    return folder / "snapshots" / COMMIT


def write_registered(cache: Path, name: str) -> Any:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = zoo_import.import_timm().create_model(name.partition(".")[0], pretrained=False)
    save_file(network.state_dict(), snapshot(cache, f"timm/{name}") / "model.safetensors")
    return network.eval()


def write_folder(folder: Path, *, config: dict[str, Any], **options: Any) -> Any:
    """A folder as timm saves it, with a tiny network."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = zoo_import.import_timm().create_model("resnet10t", pretrained=False, **options)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet10t", **config}))
    save_file(network.state_dict(), folder / "model.safetensors")
    return network.eval()


PRETRAINED = {
    "input_size": [3, 64, 64],
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "center",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "num_classes": 3,
    "first_conv": "conv1.0",
    "classifier": "fc",
    "license": "cc0-1.0",
}


def test_loads_from_the_cache_of_the_hub_without_a_network(hub_cache: Path) -> None:
    network = write_registered(hub_cache, "resnet10t.c3_in1k")
    model = load_model("timm/resnet10t", offline=True)
    assert model.name == "timm/resnet10t.c3_in1k"
    assert model.architecture == "timm/resnet10t"
    assert model.preprocess.input_size == (176, 176)
    assert not model.module.training
    assert model.provenance["revision"] == COMMIT
    assert model.provenance["licence"] == "apache-2.0"
    assert [Path(file.path).name for file in model.weights_files] == ["model.safetensors"]
    batch = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.module(batch), network(batch))


def test_names_are_those_of_imagenet_with_ids(hub_cache: Path) -> None:
    write_registered(hub_cache, "resnet10t.c3_in1k")
    labels = load_model("resnet10t.c3_in1k", offline=True).labels
    assert (labels[281], labels.ids[281]) == ("tabby", "n02123045")
    assert labels[134] == labels[517] == "crane"
    assert labels.ids[134] != labels.ids[517]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm/vit_base_patch16_clip_224.openai", "its 512 outputs are embeddings"),
        ("timm/vit_pe_core_tiny_patch16_384.fb", "its 512 outputs are embeddings"),
        ("timm/vit_small_patch14_dinov2.lvd142m", "has no classifier"),
    ],
)
def test_refuses_what_gives_no_classes(name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        load_model(name, offline=True)


def test_382_configurations_give_no_classes() -> None:
    from toplabel.models.sources.timm import check_classifies

    library = zoo_import.import_timm()
    refused = 0
    for name in library.list_models(pretrained=True):
        try:
            check_classifies(library.models.get_pretrained_cfg(name).to_dict(remove_null=False))
        except ModelError:
            refused += 1
    assert refused == 382


def test_lists_the_tags_where_one_is_wrong() -> None:
    with pytest.raises(ModelNotFound, match=r"'nonsense' for timm/resnet10t; expected one of c3"):
        load_model("timm/resnet10t.nonsense", offline=True)


def test_says_what_is_missing_offline(hub_cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"timm/resnet10t\.c3_in1k is not on this machine"):
        load_model("timm/resnet10t", offline=True)


def test_a_name_of_old_becomes_that_of_today(hub_cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"timm/vit_base_patch16_224\.augreg_in21k is not"):
        load_model("timm/vit_base_patch16_224_in21k", offline=True)


def test_loads_a_folder_with_its_names_and_preprocessing(tmp_path: Path) -> None:
    names = ["cat", "dog", "owl"]
    network = write_folder(
        tmp_path, config={"pretrained_cfg": PRETRAINED, "label_names": names}, num_classes=3
    )
    model = load_model(tmp_path)
    assert tuple(model.labels) == ("cat", "dog", "owl")
    assert model.preprocess.input_size == (64, 64)
    assert model.preprocess.std == (0.25, 0.25, 0.25)
    assert model.provenance["licence"] == "cc0-1.0"
    assert [Path(file.path).name for file in model.weights_files] == [
        "config.json",
        "model.safetensors",
    ]
    batch = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.module(batch), network(batch))


def test_a_folder_that_training_saves_into_meanwhile_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"pretrained_cfg": PRETRAINED, "label_names": ["cat", "dog", "owl"]}
    write_folder(tmp_path, config=config, num_classes=3)
    create = timm._create

    def create_then_save(*arguments: Any, **options: Any) -> Any:
        module = create(*arguments, **options)
        write_folder(
            tmp_path, config=config | {"label_names": ["owl", "cat", "dog"]}, num_classes=3
        )
        return module

    monkeypatch.setattr(timm, "_create", create_then_save)
    with pytest.raises(CheckpointError, match="changed while it was read; try again"):
        toplabel.load(tmp_path)
    assert list_entries() == []


def test_never_borrows_the_names_of_imagenet(tmp_path: Path) -> None:
    write_folder(tmp_path, config={"pretrained_cfg": PRETRAINED | {"num_classes": 1000}})
    labels = load_model(tmp_path).labels
    assert not labels.named
    assert len(labels) == 1000


def test_refuses_names_that_do_not_fit(tmp_path: Path) -> None:
    config = {"pretrained_cfg": PRETRAINED, "label_names": ["cat", "dog"]}
    write_folder(tmp_path, config=config, num_classes=3)
    with pytest.raises(LabelsError, match="got 2 labels for a model with 3 outputs"):
        load_model(tmp_path)


def test_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    write_folder(tmp_path, config={"pretrained_cfg": PRETRAINED}, num_classes=3)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        load_model(tmp_path)


def test_refuses_weights_of_another_architecture(tmp_path: Path) -> None:
    write_folder(tmp_path, config={"pretrained_cfg": PRETRAINED}, num_classes=3)
    config = {"architecture": "resnet18", "pretrained_cfg": PRETRAINED}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"cannot load \S+ from \S+: .*; check that its files"
    ):
        load_model(tmp_path)


def test_refuses_an_architecture_that_timm_does_not_have(tmp_path: Path) -> None:
    write_folder(tmp_path, config={"pretrained_cfg": PRETRAINED}, num_classes=3)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10q"}))
    with pytest.raises(ModelError, match="no such architecture: Unknown model .resnet10q"):
        load_model(tmp_path)
