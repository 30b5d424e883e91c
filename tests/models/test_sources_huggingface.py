"""Image classifiers of transformers load from folders and from the Hub's cache."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
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
    PreprocessError,
)
from toplabel.models.inspect import describe  # noqa: E402
from toplabel.models.sources import huggingface  # noqa: E402
from toplabel.models.zoo_import import import_torchvision  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PREPROCESSING = {
    "image_processor_type": "ViTImageProcessor",
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 32, "width": 32},
}


def write_folder(folder: Path, *, kind: str = "ViTForImageClassification", **changes: Any) -> Any:
    """A folder as `save_pretrained` writes it; returns the network."""
    import_torchvision()
    import transformers

    names = {"id2label": {0: "cat", 1: "dog", 2: "owl"}, "num_labels": 3} | changes
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        **names,
    )
    torch.manual_seed(0)
    network = getattr(transformers, kind)(config)
    folder.mkdir(exist_ok=True, parents=True)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return network.eval()


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def to_pickle(folder: Path) -> None:
    """Store the folder's weights as a pickle instead of safetensors."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_loads_a_folder_with_its_names_and_preprocessing(tmp_path: Path) -> None:
    network = write_folder(tmp_path)
    model = load_model(tmp_path, offline=True)
    assert model.name == f"folder/{tmp_path.name}"
    assert model.architecture == "transformers/vit"
    assert tuple(model.labels) == ("cat", "dog", "owl")
    assert model.preprocess.input_size == (32, 32)
    assert model.preprocess.std == (0.25, 0.25, 0.25)
    assert not model.multi_label
    assert not model.module.training
    assert [Path(file.path).name for file in model.weights_files] == [
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    ]
    batch = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.module(batch), network(batch).logits)


def test_the_weights_of_a_folder_are_opened_and_described_with_its_config(tmp_path: Path) -> None:
    write_folder(tmp_path / "vit")
    model = toplabel.load(tmp_path / "vit" / "model.safetensors", engine="torch")
    assert model.name.startswith("folder/vit@")
    assert tuple(model.labels) == ("cat", "dog", "owl")
    for path in (tmp_path / "vit", tmp_path / "vit" / "model.safetensors"):
        found = describe(path)
        assert (found.facts["classes"], found.facts["architecture"]) == (3, ["transformers/vit"])
        assert found.facts["labels"] == ["cat", "dog", "owl"]
        assert found.missing == ()


def test_weights_beside_a_config_of_another_program_are_a_checkpoint(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mine", "lr": 0.1}')
    with pytest.raises(CheckpointError, match="no architecture of torchvision or timm fits"):
        toplabel.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_folder_that_training_saves_into_meanwhile_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    write_folder(tmp_path / "model")
    write_folder(tmp_path / "new", id2label={0: "owl", 1: "cat", 2: "dog"})
    load = huggingface._load_module

    def load_then_replace(folder: Path, *, name: str) -> Any:
        loaded = load(folder, name=name)
        (tmp_path / "new" / file).replace(folder / file)
        return loaded

    monkeypatch.setattr(huggingface, "_load_module", load_then_replace)
    with pytest.raises(CheckpointError, match="changed while it was read; try again"):
        toplabel.load(tmp_path / "model")
    assert list_entries() == []


def test_a_link_to_nowhere_in_a_folder_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").symlink_to("../../blobs/abc")
    with pytest.raises(CheckpointError, match=r"model\.safetensors links to a missing file; copy"):
        toplabel.load(tmp_path)


def test_a_folder_that_changes_before_it_is_compiled_is_read_again(tmp_path: Path) -> None:
    write_folder(tmp_path)
    model = toplabel.load(tmp_path)
    change_config(tmp_path, id2label={0: "owl", 1: "cat", 2: "dog"})
    model.compile()
    assert tuple(model.labels) == ("cat", "dog", "owl")
    assert tuple(toplabel.load(tmp_path).labels) == ("owl", "cat", "dog")


def test_loads_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path)
    capfd.readouterr()
    load_model(tmp_path, offline=True)
    assert capfd.readouterr() == ("", "")


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    write_folder(tmp_path).half().save_pretrained(tmp_path)
    model = load_model(tmp_path, offline=True)
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}


def test_loads_from_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--owls"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    write_folder(repository / "snapshots" / COMMIT)
    (repository / "snapshots" / COMMIT / "README.md").write_text("---\nlicense: mit\n---\n# Owls\n")
    for name in ("hf/org/owls", f"hf-hub:org/owls@{COMMIT}"):
        model = load_model(name, offline=True)
        assert model.name == f"hf/org/owls@{COMMIT}"
        assert model.provenance["revision"] == COMMIT
        assert model.provenance["licence"] == "mit"


def test_says_what_is_missing_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match="org/owls is not on this machine"):
        load_model("hf/org/owls", offline=True)


def test_placeholders_are_no_names(tmp_path: Path) -> None:
    write_folder(tmp_path, id2label={0: "LABEL_0", 1: "LABEL_1"}, num_labels=2)
    labels = load_model(tmp_path, offline=True).labels
    assert not labels.named
    assert tuple(labels) == ("0", "1")


def test_a_config_without_names_gives_indices(tmp_path: Path) -> None:
    write_folder(tmp_path, id2label={0: "a", 1: "b"}, num_labels=2)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not load_model(tmp_path, offline=True).labels.named


def test_refuses_names_with_a_gap(tmp_path: Path) -> None:
    write_folder(tmp_path)
    change_config(tmp_path, id2label={"0": "cat", "1": "dog", "3": "owl"})
    with pytest.raises(LabelsError, match="without one for index 2"):
        load_model(tmp_path, offline=True)


def test_knows_multi_label_models(tmp_path: Path) -> None:
    write_folder(tmp_path, problem_type="multi_label_classification")
    assert load_model(tmp_path, offline=True).multi_label


def test_refuses_a_regression(tmp_path: Path) -> None:
    write_folder(tmp_path, problem_type="regression")
    with pytest.raises(ModelError, match="is a regression"):
        load_model(tmp_path, offline=True)


@pytest.mark.parametrize("names", [None, ["cat", "dog"]])
def test_one_output_is_a_sigmoid_as_in_the_librarys_pipeline(
    tmp_path: Path, names: list[str] | None
) -> None:
    network = write_folder(tmp_path, id2label={0: "dog"}, num_labels=1)
    model = toplabel.load(f"{tmp_path}", engine="torch", labels=names)
    prediction = model(np.full((32, 32, 3), 90, np.uint8))
    with torch.no_grad():
        pixels = torch.full((1, 3, 32, 32), (90 / 255 - 0.5) / 0.25)
        (yes,) = network(pixels).logits.sigmoid()[0].tolist()
    if names:
        scores = {one.label: one.score for one in prediction.top}
        assert scores == pytest.approx({"cat": 1 - yes, "dog": yes}, abs=1e-5)
    else:
        assert prediction.score == pytest.approx(yes, abs=1e-5)
        assert prediction.label == ("dog" if yes >= 0.5 else None)


@pytest.mark.parametrize("kind", ["ViTModel", "ViTForMaskedImageModeling"])
def test_refuses_what_is_no_image_classifier(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path, kind=kind)
    with pytest.raises(ModelError, match=f"holds {kind}, which is not an image classifier"):
        load_model(tmp_path, offline=True)


def test_refuses_a_head_that_was_never_trained(tmp_path: Path) -> None:
    write_folder(tmp_path, kind="ViTModel")
    change_config(tmp_path, architectures=["ViTForImageClassification"])
    with pytest.raises(CheckpointError, match=r"untrained: classifier\.bias"):
        load_model(tmp_path, offline=True)


def test_refuses_a_head_of_another_size(tmp_path: Path) -> None:
    write_folder(tmp_path)
    change_config(tmp_path, id2label={"0": "cat", "1": "dog"})
    with pytest.raises(CheckpointError):
        load_model(tmp_path, offline=True)


def test_never_runs_code_of_a_repository(tmp_path: Path) -> None:
    write_folder(tmp_path)
    auto_map = {"AutoModelForImageClassification": "mine.MineForImageClassification"}
    change_config(
        tmp_path,
        model_type="mine",
        architectures=["MineForImageClassification"],
        auto_map=auto_map,
    )
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    with pytest.raises(ModelError, match="its own code, which is never run"):
        load_model(tmp_path, offline=True)
    assert not (tmp_path / "sprung").exists()


def test_refuses_to_guess_the_preprocessing(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(PreprocessError, match=r"has no preprocessor_config\.json"):
        load_model(tmp_path, offline=True)


def test_takes_a_stated_preprocessing(tmp_path: Path) -> None:
    from toplabel.preprocess.preprocess import Preprocess

    write_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    preprocess = Preprocess(
        input_size=(32, 32), resize_size=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3
    )
    assert load_model(tmp_path, offline=True, preprocess=preprocess).preprocess == preprocess


def test_reads_pickled_weights_without_running_code(tmp_path: Path) -> None:
    network = write_folder(tmp_path / "good")
    to_pickle(tmp_path / "good")
    batch = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        answer = load_model(tmp_path / "good", offline=True).module(batch)
        assert torch.equal(answer, network(batch).logits)
    torch.save({"code": Trap(tmp_path / "sprung")}, tmp_path / "good" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot load"):
        load_model(tmp_path / "good", offline=True)
    assert not (tmp_path / "sprung").exists()


def test_an_old_torch_reads_no_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    from toplabel.errors import MissingDependency
    from toplabel.models.sources.fetch import demand_safe_pickles

    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    demand_safe_pickles([Path("model.safetensors")])
    with pytest.raises(MissingDependency, match="CVE-2026-24747"):
        demand_safe_pickles([Path("pytorch_model.bin")])


def test_notices_missing_shards(tmp_path: Path) -> None:
    network = write_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    network.save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    files = load_model(tmp_path, offline=True).weights_files
    assert set(shards) < {Path(file.path) for file in files}
    shards[0].unlink()
    with pytest.raises(CheckpointError, match="not all of them"):
        load_model(tmp_path, offline=True)


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_refuses_a_damaged_config(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"cannot read .*config\.json"):
        load_model(tmp_path, offline=True)


def test_refuses_a_config_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"editor": "vim"}')
    with pytest.raises(ModelError, match="neither a model_type"):
        load_model(tmp_path, offline=True)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)
