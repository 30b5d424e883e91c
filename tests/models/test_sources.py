"""Names of models become canonical, or an error that says what was meant; without torch."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import toplabel
from toplabel.errors import ModelNotFound
from toplabel.models.ref import ModelRef

needs_libraries = pytest.mark.skipif(
    not (find_spec("torchvision") and find_spec("timm")), reason="needs torchvision and timm"
)

BUILT_IN = "embedded/efficientnet_lite0"


def canonical_name(name: object) -> str:
    return ModelRef.parse(name).canonical()


@needs_libraries
@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("resnet50", "torchvision/resnet50"),
        ("resnet50:IMAGENET1K_V2", "torchvision/resnet50:IMAGENET1K_V2"),
        ("torchvision/resnet50", "torchvision/resnet50"),
        ("vit_tiny_patch16_224", "timm/vit_tiny_patch16_224"),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("timm/vit_base_patch16_224_in21k", "timm/vit_base_patch16_224_in21k"),
        ("fasterrcnn_resnet50_fpn", "torchvision/fasterrcnn_resnet50_fpn"),
    ],
)
def test_resolves_names_of_libraries(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


@pytest.mark.parametrize("prefix", ["hf/", "hf-hub:", "hf_hub:"])
def test_resolves_names_on_the_hub(prefix: str) -> None:
    assert canonical_name(f"{prefix}google/vit-base@main") == "hf/google/vit-base@main"


@needs_libraries
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet5", "did you mean resnet50 or"),
        ("torchvision/resnet5", "did you mean torchvision/resnet50 or"),
        ("timm/resnt50", "did you mean timm/resnet50 or"),
        ("torchvison/resnet50", r"did you mean torchvision/resnet50\?"),
        ("google/vit-base", r"did you mean hf/google/vit-base\?"),
        ("./missing", "there is no such path"),
        ("best.pth", "there is no such file"),
        ("qqqqqq", "toplabel models"),
        ("hf/a/b/c", "expected hf/ORG/NAME"),
    ],
)
def test_says_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ModelNotFound, match=meant):
        canonical_name(name)


def test_resolves_a_folder_to_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path.parent)
    assert canonical_name(os.path.join(".", tmp_path.name)) == str(tmp_path)
    assert canonical_name(tmp_path) == str(tmp_path)


def test_says_what_a_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        canonical_name(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match=r"an adapter alone \(LoRA.*merge_and_unload"):
        canonical_name(tmp_path)


def test_knows_files_by_content_whatever_they_are_called(tmp_path: Path) -> None:
    built_in = toplabel.load()
    built_in.save(tmp_path / "packed.toplabel")
    (tmp_path / "best").write_bytes((tmp_path / "packed.toplabel").read_bytes())
    (tmp_path / "MODEL.ONNX").write_bytes(
        Path(built_in.classifier.bundle.program.path).read_bytes()
    )
    (tmp_path / "program.bin").write_bytes((tmp_path / "MODEL.ONNX").read_bytes())
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty.TOPLABEL").touch()
    kinds = {
        "best": "bundle",
        "packed.toplabel": "bundle",
        "empty.TOPLABEL": "bundle",
        "MODEL.ONNX": "onnx",
        "program.bin": "onnx",
        "notes.txt": "checkpoint",
    }
    assert {name: ModelRef.parse(tmp_path / name).kind for name in kinds} == kinds


def test_a_bare_name_that_exists_is_a_path_unless_a_library_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("best").touch()
    assert ModelRef.parse("mine") == ModelRef("mine", "folder")
    assert ModelRef.parse("best") == ModelRef("best", "checkpoint")


@needs_libraries
def test_a_librarys_name_is_a_path_only_with_a_separator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("resnet18").mkdir()
    Path("vit_base_patch16_224_in21k").mkdir()  # a name of old
    assert ModelRef.parse("resnet18").kind == "name"
    assert ModelRef.parse("vit_base_patch16_224_in21k").kind == "name"
    assert ModelRef.parse("./resnet18").kind == "folder"


@pytest.mark.parametrize("name", [None, "embedded", "built-in", "Embedded", BUILT_IN])
def test_the_built_in_model_has_its_names_everywhere(name: str | None) -> None:
    assert ModelRef.parse(name) == ModelRef(BUILT_IN, "built-in")
    assert toplabel.load(name).name.startswith(BUILT_IN)


def test_names_the_extra_where_the_libraries_are_missing() -> None:
    script = (
        "import sys; sys.modules |= {'torchvision': None, 'timm': None}\n"
        "from toplabel.errors import MissingDependency\n"
        "from toplabel.models.ref import ModelRef\n"
        "for name in ('resnet50', 'timm/resnet50'):\n"
        "    try: ModelRef.parse(name).canonical()\n"
        "    except MissingDependency as error: print(error)\n"
    )
    command = [sys.executable, "-c", script]
    answers = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answers.count("pip install 'toplabel[torch]'") == 2


@needs_libraries
def test_resolving_imports_no_torch() -> None:
    script = (
        "import sys; from toplabel.models.ref import ModelRef\n"
        "[ModelRef.parse(name).canonical() for name in ('resnet50', 'timm/resnet50')]\n"
        "print(sorted({'torch', 'torchvision', 'timm'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert answer.strip() == "[]"


@pytest.mark.torch
@needs_libraries
def test_the_names_read_from_source_are_those_of_the_libraries() -> None:
    pytest.importorskip("torch")
    from toplabel.models import zoo_import
    from toplabel.models.sources import names

    models = zoo_import.import_torchvision().models
    assert names.torchvision_names() == set(models.list_models(module=models))
    assert set(models.list_models()) >= names.other_names("torchvision")
    timm = zoo_import.import_timm()
    assert names.timm_names() == set(timm.list_models())
    assert names.other_names("timm") == set(timm.models._registry._deprecated_models)
