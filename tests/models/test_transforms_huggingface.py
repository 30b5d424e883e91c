"""Recipes of Hugging Face's image processors, compared bit for bit with their Pillow backends."""

import json

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from toplabel.models.zoo_import import import_timm  # noqa: E402

import_timm()  # which transformers would import without our help

import transformers  # noqa: E402
from transformers.models.auto.image_processing_auto import (  # noqa: E402
    IMAGE_PROCESSOR_MAPPING_NAMES,
)
from transformers.models.auto.modeling_auto import (  # noqa: E402
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
)

from toplabel.errors import PreprocessError  # noqa: E402
from toplabel.models.transforms import translate  # noqa: E402
from toplabel.models.transforms.huggingface import (  # noqa: E402
    CLASS_OF_MODEL_TYPE,
    DEFAULTS,
    REFUSED,
    from_config,
    from_processor,
)
from toplabel.models.transforms.verify import drawn_photos  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402

SHAPES = [(120, 161), (163, 110), (64, 64), (1, 1), (7, 40), (60, 11), (31, 47), (301, 403)]


@pytest.fixture(autouse=True)
def one_thread():
    """Pictures this small are done faster by one thread than shared among several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _with_pillow(name: str, config: dict):
    return getattr(transformers, f"{name}Pil").from_dict(config)


def _assert_equal(preprocess: Preprocess, processor, shapes=tuple(SHAPES)) -> None:
    for pixels in drawn_photos(shapes):
        expected = np.asarray(processor(Image.fromarray(pixels))["pixel_values"][0])
        ours = preprocess(pixels)
        assert np.array_equal(ours, expected), pixels.shape


@pytest.mark.parametrize("name", DEFAULTS)
def test_our_table_of_defaults_is_that_of_the_class(name):
    cls = getattr(transformers, f"{name}Pil")
    processor = cls()
    for key, value in DEFAULTS[name].items():
        theirs = getattr(cls, key, None)
        if isinstance(theirs, list):
            theirs = tuple(theirs)
        assert value == theirs, key
        assert hasattr(processor, key), key


@pytest.mark.parametrize("model_type", MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)
def test_every_classifier_of_transformers_is_translated_or_refused_by_name(model_type):
    backends = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type)
    if backends is None:  # dinov2_with_registers, hgnet_v2: their JSON names the class
        assert model_type not in CLASS_OF_MODEL_TYPE
        return
    if model_type == "timm_wrapper":  # has timm's pretrained_cfg instead
        return
    name = CLASS_OF_MODEL_TYPE[model_type]
    assert name == backends["torchvision"]
    assert (name in DEFAULTS) != (name in REFUSED)


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_class_with_its_defaults_equals_its_preprocessing(name):
    if name in ("SegformerImageProcessor", "EfficientNetImageProcessor"):  # large
        shapes = SHAPES[::3]
    else:
        shapes = SHAPES
    _assert_equal(from_config({"image_processor_type": name}), _with_pillow(name, {}), shapes)


VARIANTS = {
    "vit-base-patch16-224": (
        "ViTImageProcessor",
        {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "size": 224},
    ),
    "without rescale": ("ViTImageProcessor", {"size": 40, "do_rescale": False,
                         "image_mean": [127.5] * 3, "image_std": [127.5] * 3}),
    "without normalize": ("ViTImageProcessor", {"size": 40, "do_normalize": False}),
    "another factor": ("ViTImageProcessor", {"size": 40, "rescale_factor": 0.00784313725490196}),
    "an odd factor": ("ViTImageProcessor", {"size": 40, "rescale_factor": 0.0123}),
    "a tiny factor": ("ViTImageProcessor",
                       {"size": 40, "rescale_factor": 1 / 65535, "do_normalize": False}),
    "one mean for all": ("ViTImageProcessor", {"size": 40, "image_mean": 0.3, "image_std": 0.7}),
    "lanczos": ("ViTImageProcessor", {"size": {"height": 40, "width": 56}, "resample": 1}),
    "nearest": ("ViTImageProcessor", {"size": [40, 56], "resample": 0}),
    "box": ("ViTImageProcessor", {"size": 40, "resample": 4}),
    "hamming": ("ViTImageProcessor", {"size": 40, "resample": 5}),
    "null, which is no default": ("CLIPImageProcessor", {"size": {"height": 50, "width": 60},
                                  "do_center_crop": None, "do_normalize": None}),
    "null for no rescale": ("ViTImageProcessor",
                             {"size": 40, "do_rescale": None, "do_normalize": False}),
    "poolformer, null": ("PoolFormerImageProcessor", {"size": 64, "crop_pct": None}),
    "vit that crops": (
        "ViTImageProcessor",
        {"size": {"shortest_edge": 50}, "do_center_crop": True, "crop_size": 45},
    ),
    "clip of old": ("CLIPImageProcessor", {"size": 64, "crop_size": 64}),
    "clip, odd crop": ("CLIPImageProcessor", {"size": 64, "crop_size": [47, 64]}),
    "crop that pads": ("CLIPImageProcessor", {"size": 30, "crop_size": [47, 65]}),
    "crop alone": ("CLIPImageProcessor", {"do_resize": False, "crop_size": 57}),
    "longest": (
        "CLIPImageProcessor",
        {"size": {"max_height": 64, "max_width": 50}, "crop_size": 60},
    ),
    "convnext-224": ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
    "convnext of old": ("ConvNextImageProcessor", {"size": 224, "crop_pct": 0.95}),
    "convnext-384": ("ConvNextImageProcessor", {"size": 384, "crop_pct": None}),
    "resnet-50": (
        "ConvNextImageProcessor",
        {"crop_pct": 0.875, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
         "resample": 3, "size": 224},
    ),
    "efficientnet-b0": (
        "EfficientNetImageProcessor",
        {"size": {"height": 224, "width": 224}, "resample": 0, "include_top": True,
         "image_mean": [0.485, 0.456, 0.406], "image_std": [0.47853944, 0.4732864, 0.47434163],
         "rescale_factor": 0.00392156862745098, "rescale_offset": False},
    ),
    "efficientnet with offset": (
        "EfficientNetImageProcessor",
        {"size": 64, "rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
    ),
    "efficientnet with both": (
        "EfficientNetImageProcessor",
        {"size": 64, "rescale_offset": True, "image_std": [0.4, 0.5, 0.6]},
    ),
    "efficientnet, top only": (
        "EfficientNetImageProcessor",
        {"size": 64, "do_normalize": False, "image_std": [0.4, 0.5, 0.6]},
    ),
    "efficientnet that crops": (
        "EfficientNetImageProcessor",
        {"size": 64, "do_center_crop": True, "crop_size": 55},
    ),
    "levit": ("LevitImageProcessor", {"size": {"shortest_edge": 96}, "crop_size": 90}),
    "levit, squashed": ("LevitImageProcessor", {"size": {"height": 96, "width": 70}}),
    "mobilevit-small": (
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 288}, "crop_size": {"height": 256, "width": 256}},
    ),
    "mobilevit, rgb": (
        "MobileViTImageProcessor",
        {"size": 60, "crop_size": 50, "do_flip_channel_order": False, "do_normalize": True},
    ),
    "poolformer, square": ("PoolFormerImageProcessor", {"size": {"height": 64, "width": 64}}),
    "poolformer, not square": (
        "PoolFormerImageProcessor",
        {"size": {"height": 64, "width": 50}, "crop_pct": 0.95, "crop_size": 48},
    ),
    "dinov2": (
        "BitImageProcessor",
        {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224},
         "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    ),
    "swin-tiny": (
        "ViTImageProcessor",
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
         "resample": 3, "size": {"height": 224, "width": 224}},
    ),
    "a key that the class does not know": ("ViTImageProcessor", {"size": 40, "crop_pct": 0.5,
                                           "include_top": True, "do_flip_channel_order": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", VARIANTS)
def test_what_the_hub_holds_equals_its_preprocessing(case):
    name, config = VARIANTS[case]
    preprocess = from_config({"image_processor_type": name, **config})
    _assert_equal(preprocess, _with_pillow(name, config), SHAPES[:6])
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
    assert translate({"image_processor_type": name, **config}) == preprocess


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
@pytest.mark.parametrize("name", ["ViTImageProcessor", "ConvNextImageProcessor"])
def test_live_processors_of_both_backends_have_the_preprocessing_of_pillow(name, backend):
    suffix = "Pil" if backend == "pil" else ""
    processor = getattr(transformers, f"{name}{suffix}")()
    assert processor.backend == backend
    assert translate(processor) == from_config({"image_processor_type": name})


def test_a_live_processor_survives_its_own_json():
    processor = transformers.MobileViTImageProcessor(size={"shortest_edge": 60}, crop_size=50)
    preprocess = from_processor(processor)
    assert from_config(json.loads(processor.to_json_string())) == preprocess
    assert preprocess.channels == "bgr"


def test_the_wrapper_of_timm_is_timms_own_transform():
    config = {"input_size": [3, 64, 64], "crop_pct": 0.9, "interpolation": "bicubic"}
    processor = transformers.TimmWrapperImageProcessor(pretrained_cfg=config)
    preprocess = from_processor(processor)
    assert preprocess == from_config({"architecture": "x", "pretrained_cfg": config})
    for pixels in drawn_photos(SHAPES):
        expected = processor(Image.fromarray(pixels))["pixel_values"][0].numpy()
        assert np.array_equal(preprocess(pixels), expected)


@pytest.mark.parametrize(
    "name", ["ViTFeatureExtractor", "ViTImageProcessorFast", "ViTImageProcessorPil"]
)
def test_old_and_other_names_of_a_class_are_known(name):
    expected = from_config({"image_processor_type": "ViTImageProcessor"})
    assert from_config({"feature_extractor_type": name}) == expected
    assert from_config({"image_processor_type": name}) == expected


def test_a_file_without_a_class_needs_the_model_type():
    config = {"do_normalize": True, "do_resize": True, "size": 224}
    assert from_config(config, model_type="vit").resize_mode == "squash"
    with pytest.raises(PreprocessError, match="no image_processor_type"):
        from_config(config)
    with pytest.raises(PreprocessError, match="model type 'bert'"):
        from_config(config, model_type="bert")


@pytest.mark.parametrize("name", REFUSED)
def test_classes_without_support_are_refused_by_name(name):
    with pytest.raises(PreprocessError, match=f"{name} is not supported: it"):
        from_config({"image_processor_type": name})


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        (
            "Mask2FormerImageProcessor",
            {},
            "Mask2FormerImageProcessor is not supported: it is unknown",
        ),
        ("ViTImageProcessor", {"size": {"shortest_edge": 9}}, "different sizes for images"),
        ("ViTImageProcessor", {"size": {"shortest_edge": 9, "longest_edge": 20}}, "got size"),
        ("ViTImageProcessor", {"do_pad": True}, "do_pad"),
        ("ViTImageProcessor", {"resample": 9}, "got resample 9"),
        ("ViTImageProcessor", {"resample": None}, "got resample None"),
        ("ViTImageProcessor", {"size": None}, "but size null"),
        ("ViTImageProcessor", {"size": "large"}, "cannot make sense of"),
        ("PoolFormerImageProcessor", {"crop_pct": 0}, "cannot make sense of"),
        ("ViTImageProcessor", {"size": {"height": "9", "width": 9}}, "got input_size"),
        ("ViTImageProcessor", {"image_mean": None}, "got image_mean"),
        ("ViTImageProcessor", {"rescale_factor": None}, "got rescale_factor None"),
        ("ConvNextImageProcessor", {"size": 224, "crop_pct": None}, "got crop_pct null"),
        ("ViTImageProcessor", {"image_std": [0, 1, 1]}, "got std"),
        ("CLIPImageProcessor", {"crop_size": {"shortest_edge": 3}}, "got crop_size"),
        ("ConvNextImageProcessor", {"size": {"height": 9, "width": 9}}, "expects shortest_edge"),
        (
            "ConvNextImageProcessor",
            {"size": 224, "do_center_crop": True, "crop_size": 100},
            "crops twice",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(name, config, message):
    with pytest.raises(PreprocessError, match=message):
        from_config({"image_processor_type": name, **config})


def test_a_users_own_processor_is_refused():
    class Mine(transformers.ViTImageProcessorPil):
        pass

    with pytest.raises(PreprocessError, match="Mine is not one of transformers itself"):
        translate(Mine())
