"""Reported kinds: files of ONNX and TorchScript that were exported in another way than one thinks.

The thirty lines are here those of ONNX Runtime's and TorchScript's documentation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from scene import NAMES, TRANSFORM, Scene, Tool, Trial, kind
from torch import nn


def _exported(scene: Scene, module: nn.Module, name: str, **options) -> Path:
    """An ONNX file, by the exporter that most files in the world are from."""
    path = scene.folder / f"{name}.onnx"
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (scene.batch[:2],), path, input_names=["x"], output_names=["y"],
            **({"dynamo": False, "dynamic_axes": axes} | options),
        )  # fmt: skip
    return path


def _session(scene: Scene, path: Path, *, batched: bool = False) -> Tool:
    """What ONNX Runtime's documentation shows."""

    def label() -> list[str]:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        taken = session.get_inputs()[0].name
        images = scene.batch.numpy()
        if batched:
            outputs = session.run(None, {taken: images})[0]
        else:
            outputs = np.concatenate(
                [session.run(None, {taken: image[None]})[0] for image in images]
            )
        return [NAMES[int(index)] for index in outputs.argmax(1)]

    return label


def _both(scene: Scene, path: Path, *, expected, batched: bool = False, **options) -> Trial:
    given = {"arch": None} | options
    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(path, **given),
            "torchvision": _session(scene, path, batched=batched),
        },
    )


class Fixed(nn.Module):
    """Its batch is a number in the graph."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.net.fc(self.net.body(x).reshape(int(x.shape[0]), -1))


@kind("ONNX exported with a batch that does not change", "open-mmlab/mmpretrain#1273")
def _(scene: Scene) -> Trial:
    path = _exported(scene, Fixed(scene.net), "fixed")
    return _both(scene, path, expected=scene.labels, batched=True)


@kind("ONNX exported in training mode", "microsoft/onnxruntime#4589", "pytorch/pytorch#52867")
def _(scene: Scene) -> Trial:
    net = nn.Sequential(scene.net.body, nn.Dropout(0.95), scene.net.fc).train()
    mode = torch.onnx.TrainingMode.TRAINING
    path = _exported(scene, net, "training", training=mode, do_constant_folding=False)
    return _both(scene, path, expected=None)


@kind("TorchScript traced in training mode", "pytorch/pytorch#24824", "pytorch/pytorch#71929")
def _(scene: Scene) -> Trial:
    net = nn.Sequential(scene.net.body, nn.Dropout(0.95), scene.net.fc).train()
    path = scene.folder / "traced.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, scene.batch, check_trace=False).save(str(path))
    return Trial(
        expected=None,
        tools={
            "toplabel": scene.ours(path, arch=None),
            "torchvision": scene.thirty_lines(lambda: torch.jit.load(str(path))),
        },
    )


@kind("TorchScript saved in training mode", "pytorch/pytorch#26884")
def _(scene: Scene) -> Trial:
    net = nn.Sequential(scene.net.body, nn.Dropout(0.95), scene.net.fc).train()
    path = scene.folder / "scripted.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net).save(str(path))
    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": scene.ours(path, arch=None),
            "torchvision": scene.thirty_lines(lambda: torch.jit.load(str(path))),
        },
    )


@kind("a trace that follows one branch", "pytorch/pytorch#113945")
def _(scene: Scene) -> Trial:
    """Bright images take another way, the traced one was dark; nothing can tell from the file."""

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = scene.net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Logits."""
            return self.net(x) if x.mean() > -0.2 else self.net(-x)

    path = scene.folder / "branch.pt"
    expected = [NAMES[Branch()(one[None]).argmax(1)] for one in scene.batch]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Branch(), scene.batch[:1] * 0 - 1, check_trace=False).save(str(path))
    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(path, arch=None),
            "torchvision": scene.thirty_lines(lambda: torch.jit.load(str(path))),
        },
    )


@kind("ONNX that takes (N, H, W, C)", "onnx/tensorflow-onnx#993", "dusty-nv/jetson-inference#1474")
def _(scene: Scene) -> Trial:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = scene.net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Logits of a batch as TensorFlow has it."""
            return self.net(x.permute(0, 3, 1, 2))

    path = scene.folder / "last.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Last(), (scene.batch.permute(0, 2, 3, 1),), path, dynamo=False,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )  # fmt: skip
    return _both(scene, path, expected=scene.labels)


def _with_node(scene: Scene, name: str, change: Callable[[onnx.GraphProto], None]) -> Path:
    model = onnx.load(_exported(scene, scene.net, name))
    change(model.graph)
    onnx.save(model, scene.folder / f"{name}.onnx")
    return scene.folder / f"{name}.onnx"


@kind("ONNX whose output is the index", "microsoft/onnxruntime#22505", "onnx/sklearn-onnx#202")
def _(scene: Scene) -> Trial:
    """int64 (N, 1); people read position 0 of it as they read logits."""

    def change(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("ArgMax", ["y"], ["index"], axis=1, keepdims=1))
        graph.output[0].CopyFrom(
            helper.make_tensor_value_info("index", TensorProto.INT64, ["n", 1])
        )

    return _both(scene, _with_node(scene, "index", change), expected=scene.labels)


@kind("ONNX whose first output is the index", "onnx/sklearn-onnx#506")
def _(scene: Scene) -> Trial:
    def change(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=1))
        scores = onnx.ValueInfoProto()
        scores.CopyFrom(graph.output[0])
        graph.output[0].CopyFrom(
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n", 1])
        )
        graph.output.append(scores)

    return _both(scene, _with_node(scene, "two", change), expected=scene.labels)


@kind("ONNX with the names in its metadata", "open-edge-platform/geti#2640")
def _(scene: Scene) -> Trial:
    path = _exported(scene, scene.net, "named")
    model = onnx.load(path)
    written = model.metadata_props.add()
    written.key, written.value = "names", str(dict(enumerate(NAMES)))
    onnx.save(model, path)

    def session() -> list[str]:
        _session(scene, path)()
        return [str(index) for index in scene.net(scene.batch).argmax(1).tolist()]

    ours = scene.ours(path, arch=None, labels=None)
    return Trial(expected=scene.labels, tools={"toplabel": ours, "torchvision": session})


@kind("ONNX of one output", "ReX-XAI/ReX#3")
def _(scene: Scene) -> Trial:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = scene.net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Above 0 for an apple."""
            logits = self.net(x)
            return logits[:, 1:2] - logits[:, [0, 2, 3]].amax(1, True)

    names = ("other", "apple")
    expected = [names[int(value > 0)] for value in One()(scene.batch)[:, 0]]
    path = _exported(scene, One(), "one")
    trial = _both(scene, path, expected=expected, labels=names)
    said = trial.tools["torchvision"]
    return Trial(
        expected=expected,
        tools=trial.tools | {"torchvision": lambda: [names[NAMES.index(n)] for n in said()]},
    )


@kind("weights in float16 whose values overflow", "facebookresearch/ConvNeXt#80")
def _(scene: Scene) -> Trial:
    """Activations beyond 65,504 in float16; in float32 nothing is amiss."""
    from scene import Net

    scaled = Net().eval()
    scaled.load_state_dict(scene.net.state_dict())
    with torch.no_grad():
        for part in (scaled.body[0].weight, scaled.body[0].bias):
            part.mul_(3e4)
        scaled.body[2].bias.mul_(3e4)
        scaled.fc.weight.div_(3e4)
    state = {name: tensor.half() for name, tensor in scaled.state_dict().items()}
    again = Net().eval()
    again.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    expected = [NAMES[i] for i in again(scene.batch).argmax(1)]

    def half() -> list[str]:
        net = Net().eval()
        net.load_state_dict(state)
        net.half()
        images = [TRANSFORM(image).half()[None] for image in scene.images]
        return [NAMES[net(image).argmax(1)] for image in images]

    path = scene.saved(state, "half.pth")
    return Trial(expected=expected, tools={"toplabel": scene.ours(path), "torchvision": half})


@kind("a network changed after it was compiled", "pytorch/pytorch#37748")
def _(scene: Scene) -> Trial:
    """The class's file is edited between two runs; what was compiled before must not answer."""
    source = (
        "import torch\nfrom torch import nn\n\n\nclass Edited(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.body = nn.Sequential(\n"
        "            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(),\n"
        "            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),\n"
        "            nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "        self.fc = nn.Linear(32, 4)\n\n"
        "    def forward(self, x):\n        return self.fc(self.body(x)){end}\n"
    )
    file = scene.folder / "edited.py"
    path = scene.saved(scene.net.state_dict(), "edited.pth")
    expected = [NAMES[i] for i in (-scene.net(scene.batch)).argmax(1)]

    def ours() -> list[str]:
        label = scene.ours(path, arch=f"{file}:Edited")
        file.write_text(source.format(end=""), encoding="utf-8")
        label()
        file.write_text(source.format(end=".neg()"), encoding="utf-8")
        return list(label())

    return Trial(expected=expected, tools={"toplabel": ours})
