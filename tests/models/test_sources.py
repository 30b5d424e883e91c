"""Names of models become canonical, or an error that says what was meant; without torch."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from toplabel.errors import ModelNotFound
from toplabel.models.sources import resolve

needs_libraries = pytest.mark.skipif(
    not (find_spec("torchvision") and find_spec("timm")), reason="needs torchvision and timm"
)


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
    assert resolve(name) == canonical


@pytest.mark.parametrize("prefix", ["hf/", "hf-hub:", "hf_hub:"])
def test_resolves_names_on_the_hub(prefix: str) -> None:
    assert resolve(f"{prefix}google/vit-base@main") == "hf/google/vit-base@main"


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
        resolve(name)


def test_resolves_a_folder_to_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path.parent)
    assert resolve(os.path.join(".", tmp_path.name)) == str(tmp_path)
    assert resolve(tmp_path) == str(tmp_path)


def test_says_what_a_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        resolve(tmp_path)


def test_says_that_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelNotFound, match="expected the name of one"):
        resolve(tmp_path / "notes.txt")


def test_names_the_extra_where_the_libraries_are_missing(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "src"
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from toplabel.errors import MissingDependency\n"
        "from toplabel.models.sources import resolve\n"
        "for name in ('resnet50', 'timm/resnet50'):\n"
        "    try: resolve(name)\n"
        "    except MissingDependency as error: print(error)\n"
    )
    # -S: without site-packages, so none of the libraries is found
    command = [sys.executable, "-S", "-c", script, str(source)]
    answers = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answers.count("pip install 'toplabel[torch]'") == 2


@needs_libraries
def test_resolving_imports_no_torch() -> None:
    script = (
        "import sys; from toplabel.models.sources import resolve\n"
        "resolve('resnet50'); resolve('timm/resnet50')\n"
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
