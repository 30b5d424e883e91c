"""Heat maps: where they lie, what they are of, and whether they are true."""

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import toplabel
from explaining_material import (
    CLASSES,
    RECIPE,
    Colours,
    Tokens,
    centre_of,
    picture,
    turned_jpeg,
    wrapped,
)
from toplabel.analysis.explain.gradcam import Grid, find_grid, grad_cam
from toplabel.analysis.explain.perturbation import PATCHES_PER_SIDE, MaskedInput, occlusion_heat
from toplabel.analysis.explain.rendering import colour_table, explain_upload
from toplabel.analysis.explain.upsample import over_image
from toplabel.errors import ImageError, ModelError, UsageError

METHODS = ("gradcam", "occlusion")


@pytest.fixture(scope="module")
def colours() -> toplabel.Predictor:
    return wrapped(Colours())


@pytest.mark.parametrize("method", METHODS)
def test_the_heat_is_over_the_image_at_its_own_size(colours, method):
    pixels = picture()
    heat = toplabel.explain(colours, pixels, method=method).heat
    assert heat.shape == (96, 160)
    assert heat.dtype == np.float32
    assert heat.min() == 0
    assert 0.9 < heat.max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_the_heat_lies_where_the_label_comes_from(colours, method):
    heat = toplabel.explain(colours, picture(), method=method).heat
    row, column = centre_of(heat)
    assert (row, column) == pytest.approx((52, 75), abs=5)
    assert heat[40:64, 60:90].mean() > 8 * heat.mean()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", ["blue", 2])
def test_another_label_has_its_own_heat(colours, method, label):
    heat = toplabel.explain(colours, picture(), label, method=method).heat
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row, column) == pytest.approx((11, 111), abs=8)
    assert heat[4:18, 104:118].mean() > 4 * heat[40:64, 60:90].mean()


@pytest.mark.parametrize("method", METHODS)
def test_an_image_that_lies_on_its_side_is_explained_upright(colours, method):
    pixels = picture()
    turned = toplabel.explain(colours, turned_jpeg(pixels), method=method).heat
    upright = toplabel.explain(colours, pixels, method=method).heat
    assert turned.shape == upright.shape == (96, 160)
    assert np.abs(turned - upright).mean() < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_what_was_cropped_off_has_no_heat(colours, method):
    heat = toplabel.explain(colours, picture(red=(40, 2, 64, 60)), method=method).heat
    assert not heat[:, :31].any()  # 96x160 becomes 64x107, of which the middle 64 are seen
    assert not heat[:, 129:].any()
    assert heat[40:64, 34:60].mean() > 0.5


def test_a_png_frames_what_the_model_sees_and_says_that_it_sees_no_more(colours, tmp_path):
    found = toplabel.explain(colours, np.repeat(np.repeat(picture(), 3, 0), 3, 1))
    assert found.seen_at((288, 480)) == pytest.approx((96, 0, 384, 288), abs=2)
    found.save(tmp_path / "why.png")
    drawn = np.asarray(Image.open(tmp_path / "why.png")).astype(int)
    left, _, right, _ = map(round, found.seen_at(drawn.shape[:2]))
    assert (drawn[40:-40, left] == 255).all()  # a white line down each side
    assert (drawn[40:-40, right - 1] == 255).all()
    assert (drawn[:, right + 2 :] > 200).all(axis=2).any()  # the caption


def test_an_image_that_is_seen_whole_has_no_frame(colours, tmp_path):
    square = toplabel.explain(colours, picture()[:, 32:128])
    square.save(tmp_path / "why.png")
    assert not (np.asarray(Image.open(tmp_path / "why.png")) == 255).all(axis=2).any()


def test_tokens_are_laid_out_as_the_image_is():
    predictor = wrapped(Tokens())
    found = toplabel.explain(predictor, picture(), method="gradcam")
    assert found.layer.endswith("mix")
    assert centre_of(found.heat) == pytest.approx((52, 75), abs=6)


def test_grad_cam_is_the_papers_formula():
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, stride=2),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 3),
    ).eval()
    tensor = np.random.default_rng(2).normal(size=(3, 20, 24)).astype(np.float32)
    found = grad_cam(module, tensor, 1)
    assert found.layer == "4"  # what is pooled to 2x2 is a map still
    features = module[:5](torch.from_numpy(tensor[None])).detach().requires_grad_()
    logits = module[5:](features)
    (gradient,) = torch.autograd.grad(logits[0, 1], features)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()[0]
    np.testing.assert_allclose(found.heat, expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(found.logits, logits.detach()[0].numpy(), atol=1e-6)
    assert not any(module_._forward_hooks for module_ in module.modules())


@pytest.mark.slow
def test_occlusion_needs_no_torch():
    code = (
        "import sys, toplabel\n"
        "heat = toplabel.explain(None, 'examples/cat.jpg').heat\n"
        "assert heat.shape == (300, 451) and heat.max() > 0.9\n"
        "assert not {'torch', 'captum', 'scipy', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_occlusion_asks_no_more_than_it_says():
    asked = 0

    class Counting:
        def __call__(self, batch):
            nonlocal asked
            asked += len(batch)
            return batch.mean(axis=(2, 3))

    for size in ((224, 224), (37, 512), (3, 5), (1, 1)):
        asked = 0
        masked = MaskedInput(Counting(), np.ones((3, *size), np.float32), 4)
        heat = occlusion_heat(masked, index=0, activation="softmax")
        assert asked <= PATCHES_PER_SIDE**2 + 1
        assert heat.shape == size


@pytest.mark.parametrize(
    ("shape", "size", "grid"),
    [
        ((1, 512, 7, 7), (224, 224), Grid("maps", 7, 7)),
        ((1, 7, 7, 768), (224, 224), Grid("channels_last", 7, 7)),
        ((1, 197, 192), (224, 224), Grid("tokens", 14, 14)),
        ((1, 198, 192), (224, 224), Grid("tokens", 14, 14)),
        ((1, 201, 384), (224, 224), Grid("tokens", 14, 14)),
        ((1, 512, 8, 4), (256, 128), Grid("maps", 8, 4)),
        ((1, 512, 1, 1), (224, 224), None),
        ((1, 1000), (224, 224), None),
    ],
)
def test_a_layers_output_is_recognised_by_its_shape(shape, size, grid):
    assert find_grid(shape, size, known=[]) == grid


def test_faithfulness_is_high_for_the_true_part_and_low_for_others(colours):
    found = toplabel.explain(colours, picture(), method="gradcam")
    assert (found.label, found.index) == ("red", 0)
    assert found.faithfulness > 0.3
    assert found.faithfulness > 3 * max(found.random_faithfulness, 0.01)


@pytest.mark.slow
def test_a_model_without_a_network_falls_back_to_occlusion_and_says_so():
    cat = "examples/cat.jpg"
    found = toplabel.explain(None, cat)
    assert (found.method, found.layer) == ("occlusion", "")
    with pytest.raises(ModelError, match="use method 'occlusion'"):
        toplabel.explain(None, cat, method="gradcam")


def test_a_network_without_a_map_is_explained_by_occlusion():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3))
    found = toplabel.explain(wrapped(module), picture())
    assert found.method == "occlusion"
    with pytest.raises(ModelError, match="no layer of this network gives a map"):
        toplabel.explain(wrapped(module), picture(), method="gradcam")


def test_wrong_labels_methods_and_images_are_refused(colours):
    with pytest.raises(UsageError, match="expected 0 to 2"):
        toplabel.explain(colours, picture(), 3)
    with pytest.raises(UsageError, match="did you mean 'red'"):
        toplabel.explain(colours, picture(), "rede")
    with pytest.raises(UsageError, match="unknown method .* auto, gradcam, occlusion"):
        toplabel.explain(colours, picture(), method="shap")
    with pytest.raises(ImageError, match="it is text"):
        toplabel.explain(colours, b"not a picture")


def test_two_classes_of_one_name_are_told_apart_by_index():
    module = Colours().eval()
    predictor = toplabel.wrap(
        module, labels=("crane", "crane", "dog"), preprocess=wrapped(module).preprocess
    )
    with pytest.raises(UsageError, match="give the index of one: 0, 1"):
        toplabel.explain(predictor, picture(), "crane")


def test_heat_is_placed_where_a_squashed_or_padded_input_came_from():
    heat = np.zeros((8, 8), np.float32)
    heat[0, 0] = 1
    squash = replace(RECIPE, input_size=(32, 32), resize_mode="squash", resize_size=(32, 32))
    placed = over_image(heat, squash, image_size=(40, 200))
    assert placed.shape == (40, 200)
    assert np.unravel_index(placed.argmax(), placed.shape) < (3, 13)
    padded = replace(RECIPE, resize_mode="none", resize_size=None)
    assert not over_image(heat, padded, image_size=(20, 20)).any()  # the corner is padding


@pytest.mark.parametrize("format", ["png", "json"])
def test_an_upload_is_rendered_with_its_facts(colours, format):
    rendered = explain_upload(
        colours.classifier,
        colours.open_engine(),
        turned_jpeg(picture()),
        label=None,
        format=format,
        read=toplabel.ReadOptions(),
    )
    assert rendered.facts["label"] == CLASSES[0]
    assert (rendered.facts["height"], rendered.facts["width"]) == (96, 160)
    assert rendered.content.startswith(b"\x89PNG" if format == "png" else b"{")


def test_the_colours_are_a_path_through_oklab_of_even_lightness():
    """Within 1/255 of the path that the table abridges (https://bottosson.github.io/posts/oklab)."""
    to_cones = np.array(
        [
            [1.0, 0.3963377774, 0.2158037573],
            [1.0, -0.1055613458, -0.0638541728],
            [1.0, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    chroma = np.interp(np.linspace(0, 4, 256), range(5), (0.10, 0.19, 0.20, 0.17, 0.10))
    hue = np.radians(np.interp(np.linspace(0, 4, 256), range(5), (-65, -10, 30, 65, 100)))
    lab = np.stack(
        [np.linspace(0.22, 0.96, 256), chroma * np.cos(hue), chroma * np.sin(hue)], axis=1
    )
    linear = np.clip((lab @ to_cones.T) ** 3 @ to_linear.T, 0, 1)
    bright = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    expected = np.rint(255 * np.where(linear <= 0.0031308, 12.92 * linear, bright))
    assert colour_table().shape == (256, 3)
    assert np.abs(colour_table() - expected).max() <= 1


@pytest.mark.slow
@pytest.mark.shared_data
def test_both_methods_find_what_the_built_in_models_label_hangs_on(shared_data):
    """Over real photos the score falls far more without the hottest tenth than without others."""
    script = Path(__file__).parents[2] / "scripts" / "build_built_in_bundle.py"
    built = runpy.run_path(str(script))["build_model"]()
    live = toplabel.wrap(built.module, labels=built.labels, preprocess=built.preprocess)
    photos = sorted((shared_data / "imagenet").glob("*.JPEG"))[::8][:24]
    for method in METHODS:
        model = live if method == "gradcam" else None  # the same weights, a faster engine
        found = [toplabel.explain(model, photo, method=method) for photo in photos]
        hottest = np.mean([one.faithfulness for one in found])
        others = np.mean([one.random_faithfulness for one in found])
        print(method, hottest, others)
        assert hottest > 2 * others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("resnet18", (7, 7)),
        ("vit_tiny_patch16_224", (14, 14)),
        ("deit_tiny_distilled_patch16_224", (14, 14)),
        ("swin_tiny_patch4_window7_224", (7, 7)),
        ("convnext_atto", (7, 7)),
        ("mixer_s32_224", (7, 7)),
        ("maxvit_tiny_rw_224", (7, 7)),
        ("mobilenetv3_small_050", (7, 7)),
        ("densenet121", (7, 7)),
        ("vgg11_bn", (7, 7)),
    ],
)
def test_a_layer_is_found_in_the_zoos_networks(name, layout):
    from toplabel.models import zoo_import

    torch.manual_seed(0)
    module = zoo_import.import_timm().create_model(name, pretrained=False).eval()
    for parameter in module.parameters():  # a head of zeros would tell nothing
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    with Image.open("examples/cat.jpg") as image:
        pixels = np.asarray(image.convert("RGB").resize((224, 224)), np.float32) / 127.5 - 1
    found = grad_cam(module, pixels.transpose(2, 0, 1), 5)
    assert found.heat.shape == layout
    assert found.layer
