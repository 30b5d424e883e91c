"""The catalogue lists classifiers and nothing else, with what their zoo states."""

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from toplabel.models.sources.catalog import ModelInfo, list_models  # noqa: E402


@pytest.fixture(scope="module")
def everything() -> list[ModelInfo]:
    return list_models()


def test_lists_the_embedded_model_first(everything: list[ModelInfo]) -> None:
    assert everything[0].name == "embedded/efficientnet_lite0"
    sources = [info.name.partition("/")[0] for info in everything]
    assert sources == sorted(sources, key=["embedded", "torchvision", "timm"].index)


def test_lists_every_classifier_once(everything: list[ModelInfo]) -> None:
    names = [info.name for info in everything]
    assert len(names) == len(set(names))
    assert sum(name.startswith("torchvision/") for name in names) == 115 - 1
    assert not any("FEATURES" in name or "rcnn" in name for name in names)
    assert "timm/vit_base_patch16_clip_224.openai" not in names
    assert "timm/vit_base_patch16_clip_224.openai_ft_in1k" in names


def test_states_what_the_zoo_states(everything: list[ModelInfo]) -> None:
    by_name = {info.name: info for info in everything}
    assert by_name["torchvision/resnet50:IMAGENET1K_V2"] == ModelInfo(
        name="torchvision/resnet50:IMAGENET1K_V2",
        is_default=True,
        classes=1000,
        input_size=(224, 224),
        accuracy=80.858,
        parameters=25557032,
        size_bytes=102540247,
    )
    assert not by_name["torchvision/resnet50:IMAGENET1K_V1"].is_default
    assert by_name["timm/resnet50.a1_in1k"].is_default
    assert by_name["timm/convnext_tiny.fb_in22k"].classes == 21841
    assert by_name["timm/convnext_tiny.fb_in22k"].accuracy is None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("resnet18", "torchvision/resnet18:IMAGENET1K_V1"),
        ("resnet*", "timm/resnet50.a1_in1k"),
        ("torchvision/RESNET50", "torchvision/resnet50:IMAGENET1K_V1"),
        ("timm/*.a1_in1k", "timm/resnet50.a1_in1k"),
        ("*lite0", "embedded/efficientnet_lite0"),
    ],
)
def test_a_pattern_matches_names_with_and_without_source_and_weights(
    pattern: str, expected: str
) -> None:
    assert expected in [info.name for info in list_models(pattern)]


def test_a_pattern_that_matches_nothing_gives_nothing() -> None:
    assert list_models("resnet5000*") == []


def test_default_names_resolve(everything: list[ModelInfo]) -> None:
    from toplabel.models.ref import ModelRef

    for info in everything[1:]:
        assert ModelRef.parse(info.name).canonical() == info.name
