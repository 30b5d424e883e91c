"""int8: how much faster networks are by ONNX Runtime's quantiser, and what it does to labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.bench import SUBJECTS, Bench
from benchmarks.photos import REAL, find_photos
from benchmarks.results import Row, Section, Table

NETWORKS = (
    "torchvision/resnet18",
    "torchvision/resnet50",
    "torchvision/regnet_y_400mf",
    "torchvision/densenet121",
    "torchvision/squeezenet1_1",
    "torchvision/shufflenet_v2_x1_0",
    "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_large",
    "torchvision/efficientnet_b0",
    "timm/mobilenetv4_conv_small",
    "timm/tf_efficientnet_lite2",
    "torchvision/convnext_tiny",
    "torchvision/swin_t",
    "torchvision/vit_b_16",
    "timm/deit_tiny_patch16_224",
)
LEAST_GAIN = 1.1
"""As `models/reduce.py` has it."""

_SETS = ("imagenet", "train/flowers", "train/trash", "train/bees")


def measure(bench: Bench) -> Section:
    """The built-in network with real weights, and others with random ones."""
    photos = find_photos(bench).small
    names = NETWORKS[:2] if bench.quick else NETWORKS
    found = {name: bench.ask_script(SUBJECTS / "int8.py", name, *photos[:16]) for name in names}
    own = {} if bench.quick else _built_in(bench)
    return Section(
        title="int8",
        rows=tuple(row for photos, candidates in own.items() for row in _rows(photos, candidates)),
        tables=(
            Table(
                title="Networks with random weights, one image at a time on one thread",
                header=("network", "float32", "int8", "speed", "first layers in float32", "used"),
                rows=tuple(_row(name, one) for name, one in found.items()),
            ),
        ),
        notes=(
            "Times are processor time of one thread, the two programs in turn. A program in int8"
            f" is used where it is {LEAST_GAIN} times as fast, what is computed again included;"
            " random weights say nothing of labels, so here that is by speed alone.",
            "Calibrated by smallest and largest values over 16 photos, weights for each channel."
            " The last layer is in float32; where norms are computed from what flows through"
            " (ConvNeXt, Swin, ViT, DeiT) so is all between the layers.",
        ),
        raw={"networks": found, "built-in": own},
    )


def _built_in(bench: Bench) -> dict[str, list[dict[str, Any]]]:
    """What `toplabel optimize` finds for the built-in network, on photos of two kinds."""
    if not REAL.is_dir():
        return {}
    sets = {name: _files(REAL / name) for name in _SETS}
    kinds = {
        "200 ImageNet photos and 400 of flowers": (*sets["imagenet"], *sets["train/flowers"][:400]),
        "the same, 360 of trash and all of bees and flowers": sum(sets.values(), ()),
    }
    return {
        kind: bench.ask_script(SUBJECTS / "int8.py", "lite0", *photos)
        for kind, photos in kinds.items()
    }


def _files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def _rows(photos: str, candidates: list[dict[str, Any]]) -> tuple[Row, ...]:
    (int8,) = (one for one in candidates if one["name"] == "int8")
    figure = int8["reason"]
    if int8["bound"] is not None:
        again, bound = 100 * int8["again"], 100 * int8["bound"]
        figure = (
            f"{int8['speedup']:.2f} x; {int8['changed']} of {int8['images']} labels changed"
            f" without a margin, none with it in the half that checked it; {again:.0f} % computed"
            f" again, {int8['net']:.2f} x with that; at most {bound:.2f} % of labels at 95 %"
            " confidence"
        )
    return (
        Row(
            what=f"EfficientNet-Lite0 in int8, {photos}",
            figure=figure,
        ),
        Row(
            what="its file against float32's",
            figure=f"{int8['size_bytes'] / candidates[0]['size_bytes']:.2f}",
        ),
    )


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    if "float32" not in one:
        return name, "", "", "", "", one["reason"]
    speed = one["float32"] / one["int8"]
    return (
        name,
        f"{1000 * one['float32']:.1f} ms",
        f"{1000 * one['int8']:.1f} ms",
        f"{speed:.2f} x",
        str(one["float_layers"]),
        "yes" if speed >= LEAST_GAIN else "no",
    )
