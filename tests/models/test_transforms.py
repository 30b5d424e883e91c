"""Naming a preprocessing: presets, files of every kind, and what is neither."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toplabel.errors import PreprocessError
from toplabel.models.transforms import preprocess_of
from toplabel.preprocess.presets import preset

PREPROCESS = preset("imagenet-crop-256-224")


def write(path: Path, plain: object) -> Path:
    path.write_text(plain if isinstance(plain, str) else json.dumps(plain), encoding="utf-8")
    return path


def test_a_preset_is_found_by_its_name() -> None:
    assert preprocess_of("imagenet-crop-256-224") == PREPROCESS


def test_a_file_of_our_own_is_read_as_text_or_path(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", PREPROCESS.to_json())
    assert preprocess_of(path) == preprocess_of(str(path)) == PREPROCESS


def test_a_file_without_suffix_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "preprocess", PREPROCESS.to_json())
    monkeypatch.chdir(tmp_path)
    assert preprocess_of("preprocess") == PREPROCESS


def test_a_preset_goes_before_a_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "half-squash-32"
    write(tmp_path / name, PREPROCESS.to_json())
    monkeypatch.chdir(tmp_path)
    assert preprocess_of(name) == preset(name)
    assert preprocess_of(Path(name)) == PREPROCESS


def test_the_config_of_timm_is_read(tmp_path: Path) -> None:
    config = {
        "architecture": "resnet18",
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    assert preprocess_of(write(tmp_path / "config.json", config)) == PREPROCESS


def test_the_preprocessor_of_hugging_face_is_read(tmp_path: Path) -> None:
    config = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}}
    preprocess = preprocess_of(write(tmp_path / "preprocessor_config.json", config))
    assert preprocess.resize_size == (64, 64)
    assert preprocess.convention == "hf"


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    for text in (str(tmp_path / "p"), "p.json", tmp_path / "q.json", Path("imagenet-squash-8")):
        with pytest.raises(PreprocessError, match=r"there is no such file.*the name of a preset"):
            preprocess_of(text)


def test_a_name_that_is_no_path_is_an_unknown_preset() -> None:
    with pytest.raises(PreprocessError, match=r"unknown preset.*mean 'imagenet-crop-256-224'\?"):
        preprocess_of("imagnet-crop-256-224")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "preprocessing is not valid JSON"),
        ('{"mean": [0]}', "the preprocessing has no 'input_size'"),
        ('{"image_processor_type": "SamImageProcessor"}', "SamImageProcessor is not supported"),
        ("[" * 100_000, "preprocessing is not valid JSON"),
    ],
)
def test_a_file_without_preprocessing_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "p.json", text)
    with pytest.raises(PreprocessError, match=message) as caught:
        preprocess_of(path)
    assert str(caught.value).startswith(f"cannot read preprocessing from {str(path)!r}: ")


def test_a_folder_is_refused_with_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(PreprocessError, match="it is a folder; expected a JSON file"):
        preprocess_of(tmp_path)
    write(tmp_path / "config.json", {})
    with pytest.raises(PreprocessError, match=r"it is a folder; give its config\.json"):
        preprocess_of(tmp_path)


def test_pipes_and_huge_files_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(PreprocessError, match="not a regular file"):
        preprocess_of(tmp_path / "pipe.json")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(PreprocessError, match="larger than 16,000,000 bytes"):
        preprocess_of(tmp_path / "huge.json")


@pytest.mark.parametrize("text", ["", " ", "a\0b", "a/\0", "x" * 5000, "/" + "x" * 5000])
def test_names_that_no_file_can_have_are_refused(text: str) -> None:
    with pytest.raises(PreprocessError, match=r"unknown preset|cannot read preprocessing"):
        preprocess_of(text)


def test_a_preset_and_our_own_file_need_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", PREPROCESS.to_json())
    code = (
        "import sys; from toplabel.models.transforms import preprocess_of\n"
        f"preprocess_of('half-squash-32'); preprocess_of({str(path)!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
