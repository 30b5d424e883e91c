"""Reported kinds: names that are not those of the outputs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scene import NAMES, TRANSFORM, Body, Net, Scene, Trial, kind
from torch import nn

from checkpoints import change_config, folder_of, of_folder

WIDE = 12


def _lines(path: Path) -> list[str]:
    """How the thirty lines read a file of names."""
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]


def _file(
    scene: Scene, name: str, text: str, expected=None, read: Callable = _lines, **options
) -> Trial:
    """A file of names in an own format, by us and by what people read such a file with."""
    path = scene.folder / name
    path.write_text(text, encoding="utf-8")
    weights = scene.saved(scene.net.state_dict())

    def thirty_lines() -> list[str]:
        return list(scene.thirty_lines(scene.net, names=read(path))())

    return Trial(
        expected=expected or scene.labels,
        tools={
            "toplabel": scene.ours(weights, labels=path, **options),
            "torchvision": thirty_lines,
        },
    )


class Wide(nn.Module):
    """Twelve classes; 0 to 3 are those of the pictures, moved to other places."""

    def __init__(self, places: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.body, self.fc = Body(), nn.Linear(32, WIDE)
        self.places = places

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.body(x))


def _wide(scene: Scene, places: tuple[int, ...]) -> Wide:
    net = Wide(places).eval()
    net.body.load_state_dict(scene.net.body.state_dict())
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.fill_(-50)
        for source, place in enumerate(places):
            net.fc.weight[place] = scene.net.fc.weight[source]
            net.fc.bias[place] = scene.net.fc.bias[source]
    return net


@kind("folders 1 to 12, sorted as text", "pytorch/vision#714", "NVIDIA/DIGITS#665")
def _(scene: Scene) -> Trial:
    """ImageFolder's order is 1, 10, 11, 12, 2: the file has no names, the index is not the folder.

    Right is the folder's name; the index without a word is read as it.
    """
    folders = sorted(map(str, range(1, WIDE + 1)))
    net = _wide(scene, (1, 4, 6, 9))
    content = {
        "state_dict": net.state_dict(),
        "class_to_idx": {name: i for i, name in enumerate(folders)},
    }
    path = scene.saved(content)
    indices = net(scene.batch).argmax(1).tolist()
    return Trial(
        expected=[folders[i] for i in indices],
        tools={
            "toplabel": scene.ours(path, arch=Wide, labels=None),
            "torchvision": scene.thirty_lines(net, names=list(map(str, range(WIDE)))),
        },
    )


@kind(
    "folders in natural order, a network in textual order", "huggingface/pytorch-image-models#222"
)
def _(scene: Scene) -> Trial:
    natural = [f"class{number}" for number in range(1, WIDE + 1)]
    net = _wide(scene, (1, 4, 6, 9))
    path = scene.saved(net.state_dict())
    expected = [sorted(natural)[i] for i in net(scene.batch).argmax(1).tolist()]
    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(path, arch=Wide, labels=natural),
            "torchvision": scene.thirty_lines(net, names=natural),
        },
    )


@kind("background in front", "mlcommons/inference#550", "tensorflow/tpu#507")
def _(scene: Scene) -> Trial:
    """Thirteen outputs with the background as 0, twelve names."""
    names = [f"class{number:02d}" for number in range(11)]
    net = _wide(scene, (1, 2, 3, 4))
    path = scene.saved(net.state_dict())
    expected = [names[i - 1] for i in net(scene.batch).argmax(1).tolist()]
    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(path, arch=Wide, labels=names),
            "torchvision": scene.thirty_lines(net, names=names),
        },
    )


@kind("names given in another order than the file's own", "fastai/fastai#1514")
def _(scene: Scene) -> Trial:
    """The file's order is the training's."""
    given = sorted(NAMES)
    path = scene.saved({"state_dict": scene.net.state_dict(), "classes": list(NAMES)})
    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": scene.ours(path, labels=given),
            "torchvision": scene.thirty_lines(scene.net, names=given),
        },
    )


@kind("a name first, its index after it (class_indices of Keras)", "keras-team/keras#3054")
def _(scene: Scene) -> Trial:
    text = json.dumps({name: NAMES.index(name) for name in sorted(NAMES)})
    return _file(
        scene, "class_indices.json", text,
        read=lambda path: list(json.loads(path.read_text(encoding="utf-8"))),
    )  # fmt: skip


@kind("a CSV with an index column, sorted by name", "Sense-X/TSD#30")
def _(scene: Scene) -> Trial:
    rows = "\n".join(f"{name},{NAMES.index(name)}" for name in sorted(NAMES))

    def read(path: Path) -> list[str]:
        with path.open(encoding="utf-8", newline="") as file:
            return [row[0] for row in csv.reader(file)][1:]

    return _file(scene, "names.csv", f"name,target\n{rows}\n", read=read)


@kind("a numbered list, in another order", "snowzach/doods2#76")
def _(scene: Scene) -> Trial:
    text = "\n".join(f"{NAMES.index(name)}. {name}" for name in sorted(NAMES))

    def read(path: Path) -> list[str]:
        return [line.split(". ")[1] for line in _lines(path)]

    return _file(scene, "numbered.txt", text, read=read)


@kind(
    "a label map that begins with 1",
    "aws-samples/amazon-sagemaker-tensorflow-object-detection-api#6",
)
def _(scene: Scene) -> Trial:
    """Read as indices, each name is its neighbour's."""
    text = "".join(
        f"item {{\n  id: {number}\n  name: '{name}'\n}}\n" for number, name in enumerate(NAMES, 1)
    )

    def read(path: Path) -> list[str]:
        import re

        found = re.findall(r"id: (\d+)\s+name: '(.*?)'", path.read_text(encoding="utf-8"))
        by_index = {int(number): name for number, name in found}
        return [by_index.get(index, "?") for index in range(4)]

    return _file(scene, "label_map.pbtxt", text, read=read)


@kind("a byte-order mark and carriage returns", "jveitchmichaelis/deeplabel#25")
def _(scene: Scene) -> Trial:
    def read(path: Path) -> list[str]:
        return path.read_bytes().decode("utf-8").split("\n")

    return _file(scene, "names.txt", "\ufeff" + "\r\n".join(NAMES) + "\r\n", read=read)


@kind("two classes of one name", "openai/CLIP#465", "nottombrown/imagenet-stubs#2")
def _(scene: Scene) -> Trial:
    """They stay two: the index tells them apart."""
    import toplabel

    names = ["crane", "apple", "crane", "banjo"]
    indices = scene.net(scene.batch).argmax(1).tolist()

    def ours() -> list:
        model = toplabel.wrap(scene.net, labels=names, preprocess=TRANSFORM)
        return [(one.label, one.index) for one in model(scene.images)]

    def thirty_lines() -> list:
        by_name = {name: index for index, name in enumerate(names)}
        said = scene.thirty_lines(scene.net, names=names)()
        return [(name, by_name[name]) for name in said]

    return Trial(
        expected=[(names[i], i) for i in indices],
        tools={"toplabel": ours, "torchvision": thirty_lines},
    )


@kind(
    "synset, index and name on a line, in the devkit's order", "nmasse/Context-Dependent-Gating#1"
)
def _(scene: Scene) -> Trial:
    """The index is another count than the outputs; the synsets' sorted order is theirs."""
    synsets = {name: f"n{10_000_000 + index}" for index, name in enumerate(NAMES)}
    text = "\n".join(
        f"{synsets[name]} {number} {name}" for number, name in enumerate(sorted(NAMES), 1)
    )

    def read(path: Path) -> list[str]:
        return [line.split()[2] for line in _lines(path)]

    return _file(scene, "map_clsloc.txt", text, read=read)


@kind("names by folder, folders by index", "plantnet/PlantNet-300K#16")
def _(scene: Scene) -> Trial:
    """class_to_idx in the file, cat_to_name.json beside it."""
    folders = ("10", "2", "33", "1")
    order = sorted(folders)
    net = Net().eval()
    net.body.load_state_dict(scene.net.body.state_dict())
    source = [folders.index(folder) for folder in order]
    with torch.no_grad():
        net.fc.weight.copy_(scene.net.fc.weight[source])
        net.fc.bias.copy_(scene.net.fc.bias[source])
    content = {
        "state_dict": net.state_dict(),
        "class_to_idx": {folder: index for index, folder in enumerate(order)},
    }
    path = scene.saved(content)
    names = scene.folder / "cat_to_name.json"
    names.write_text(json.dumps(dict(zip(folders, NAMES, strict=True))), encoding="utf-8")

    def thirty_lines() -> list[str]:
        by_position = list(json.loads(names.read_text(encoding="utf-8")).values())
        return list(scene.thirty_lines(net, names=by_position)())

    return Trial(
        expected=scene.labels,
        tools={"toplabel": scene.ours(path, labels=names), "torchvision": thirty_lines},
    )


@kind("pairs of synset and name by index", "fchollet/deep-learning-models#44")
def _(scene: Scene) -> Trial:
    text = json.dumps(
        {str(i): [f"n{10_000_000 + i}", NAMES[i]] for i in sorted(range(4), key=lambda i: -i)}
    )

    def read(path: Path) -> list[str]:
        return [pair[1] for pair in json.loads(path.read_text(encoding="utf-8")).values()]

    return _file(scene, "class_index.json", text, read=read)


@kind("integer classes that became text", "fastai/fastai#3945")
def _(scene: Scene) -> Trial:
    """A dict from index to name, keys as text, in textual order: 0, 1, 10, 11, 2."""
    net = _wide(scene, (1, 4, 6, 11))
    path = scene.saved(net.state_dict())
    file = scene.folder / "classes.json"
    by_index = {str(index): f"kind {index}" for index in range(WIDE)}
    file.write_text(json.dumps(by_index, sort_keys=True), encoding="utf-8")
    expected = [f"kind {i}" for i in net(scene.batch).argmax(1).tolist()]

    def thirty_lines() -> list[str]:
        names = list(json.loads(file.read_text(encoding="utf-8")).values())
        return list(scene.thirty_lines(net, names=names)())

    return Trial(
        expected=expected,
        tools={"toplabel": scene.ours(path, arch=Wide, labels=file), "torchvision": thirty_lines},
    )


@kind("a folder of timm's without names", "huggingface/huggingface_hub#301")
def _(scene: Scene) -> Trial:
    """Names of nothing else are borrowed; the index is said."""
    import timm
    from safetensors.torch import save_file
    from timm.data import create_transform, resolve_data_config

    torch.manual_seed(0)
    made = timm.create_model("test_vit", num_classes=4).eval()
    folder = scene.folder / "timm"
    folder.mkdir(exist_ok=True)
    save_file(made.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_vit", "num_classes": 4, "pretrained_cfg": made.pretrained_cfg}
    (folder / "config.json").write_text(json.dumps(config, default=str), encoding="utf-8")
    transform = create_transform(**resolve_data_config({}, model=made))
    images = torch.stack([transform(image) for image in scene.images])
    expected = [str(i) for i in made(images).argmax(1).tolist()]
    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(folder, arch=None, labels=None, preprocess=None),
            "timm": lambda: [
                str(i)
                for i in timm.create_model(f"local-dir:{folder}", pretrained=True)
                .eval()(images).argmax(1).tolist()
            ],
        },
    )  # fmt: skip


@kind("keys of id2label that are no indices", "huggingface/transformers#38219")
def _(scene: Scene) -> Trial:
    folder, _ = folder_of(scene, "keys")
    change_config(folder, id2label={str(i + 1): name for i, name in enumerate(NAMES)})
    return of_folder(scene, folder, None)


@kind(
    "scores of one dimension, softmax over the wrong one",
    "falloutdurham/beginners-pytorch-deep-learning#7",
)
def _(scene: Scene) -> Trial:
    """The output has the shape (N, 1, 4)."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = scene.net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Logits (N, 1, 4)."""
            return self.net(x)[:, None]

    def thirty_lines() -> list[str]:
        scores = [torch.softmax(Deep()(image[None]), dim=1)[0] for image in scene.batch]
        return [NAMES[int(np.argmax(score[0].numpy()))] for score in scores]

    return Trial(
        expected=scene.labels,
        tools={"toplabel": scene.wrapped(Deep()), "torchvision": thirty_lines},
    )
