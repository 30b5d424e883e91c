"""Reported kinds: networks whose outputs, or whose code, are not what a reader of logits thinks."""

from __future__ import annotations

import numpy as np
import torch
from scene import NAMES, TRANSFORM, Body, Net, Scene, Trial, kind
from torch import nn
from torch.nn import functional

import toplabel


def _of(net: nn.Module, forward) -> nn.Module:
    """A module around a network that answers by this function of it and the batch."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor):
            """As the case has it."""
            return forward(self.net, x)

    return Around()


def _both(scene: Scene, module: nn.Module, expected=None, **options) -> Trial:
    """A live module, by us and by the thirty lines."""
    tools = {
        "toplabel": scene.wrapped(module, **options),
        "torchvision": scene.thirty_lines(module),
    }
    return Trial(expected=expected, tools=tools)


def _scores(net: nn.Module, scene: Scene) -> list[tuple[str, float]]:
    best = net(scene.batch).max(1)
    return [
        (NAMES[i], round(s, 2))
        for i, s in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


@kind("the network ends in its own softmax", "aleximmer/Laplace#31", "tensorflow/swift-models#491")
def _(scene: Scene) -> Trial:
    net = nn.Sequential(scene.net, nn.Softmax(1))

    def ours() -> list:
        model = toplabel.wrap(net, labels=NAMES, preprocess=TRANSFORM)
        return [(one.label, round(one.score, 2)) for one in model(scene.images)]

    def thirty_lines() -> list:
        return _scores(nn.Sequential(net, nn.Softmax(1)), scene)

    return Trial(
        expected=_scores(net, scene), tools={"toplabel": ours, "torchvision": thirty_lines}
    )


@kind("one output, yes or no", "vllm-project/vllm#18313", "open-mmlab/mmpretrain#714")
def _(scene: Scene) -> Trial:
    net = _of(scene.net, lambda net, x: net(x)[:, 1:2] - net(x)[:, [0, 2, 3]].amax(1, True))
    names = ("other", "apple")
    expected = [names[int(value > 0)] for value in net(scene.batch)[:, 0]]
    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.wrapped(net, labels=names),
            "torchvision": scene.thirty_lines(net, names=names),
        },
    )


@kind(
    "several labels, and the network's own sigmoid",
    "pytorch/vision#9325",
    "facebookresearch/fastText#92",
)
def _(scene: Scene) -> Trial:
    """Nothing applies where every score is below one half."""
    net = _of(scene.net, lambda net, x: torch.sigmoid(torch.log_softmax(net(x), 1) + 0.1))
    expected = [[NAMES[i] for i in np.flatnonzero(row > 0.5)] for row in net(scene.batch).numpy()]

    def ours() -> list:
        model = toplabel.wrap(net, labels=NAMES, preprocess=TRANSFORM, multi_label=True)
        return [[one.label for one in said.top] for said in model(scene.images)]

    def thirty_lines() -> list:
        scores = torch.sigmoid(net(scene.batch)).numpy()
        return [[NAMES[i] for i in np.flatnonzero(row > 0.5)] for row in scores]

    return Trial(expected=expected, tools={"toplabel": ours, "torchvision": thirty_lines})


@kind("batch statistics that eval() does not stop", "pytorch/pytorch#156051")
def _(scene: Scene) -> Trial:
    """The answer for an image depends on its neighbours: alone it is another than in a batch."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(32, track_running_stats=False)
    net = nn.Sequential(scene.net.body, norm, nn.Linear(32, 4))
    tools = {"toplabel": scene.wrapped(net)}
    tools["torchvision"] = lambda: [NAMES[i] for i in net.eval()(scene.batch).argmax(1)]
    return Trial(expected=None, tools=tools)


@kind("running statistics that were never gathered", "pytorch/pytorch#4741")
def _(scene: Scene) -> Trial:
    """A momentum of 0 in training: eval() uses mean 0 and variance 1."""
    norm = nn.BatchNorm1d(32)
    features = scene.net.body(scene.batch)
    net = nn.Sequential(scene.net.body, norm, nn.Linear(32, 4))
    with torch.no_grad():  # what training made of it, by the batch's own statistics
        scale = (features.var(0, unbiased=False) + norm.eps).sqrt()
        net[2].weight.copy_(scene.net.fc.weight * scale)
        net[2].bias.copy_(scene.net.fc.bias + scene.net.fc.weight @ features.mean(0))
    return _both(scene, net, scene.labels)


@kind("dropout without training=", "pytorch/pytorch#26338", "Coderx7/SimpleNet#2")
def _(scene: Scene) -> Trial:
    net = _of(scene.net, lambda net, x: net.fc(functional.dropout(net.body(x), 0.95)))
    return _both(scene, net)


@kind("a layer made anew in forward, always in training mode", "yangze0930/NTS-Net#14")
def _(scene: Scene) -> Trial:
    net = _of(scene.net, lambda net, x: net.fc(nn.Dropout(0.95)(net.body(x))))
    return _both(scene, net)


@kind("attention whose dropout eval() does not stop", "meta-pytorch/torchtune#1049")
def _(scene: Scene) -> Trial:
    def forward(net: Net, x: torch.Tensor) -> torch.Tensor:
        tokens = net.body(x)[:, None]
        mixed = functional.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=0.9)
        return net.fc(mixed[:, 0])

    return _both(scene, _of(scene.net, forward))


@kind("an auxiliary head first", "pytorch/vision#302", "pytorch/examples#560")
def _(scene: Scene) -> Trial:
    net = _of(scene.net, lambda net, x: (scene.other(x), net(x)))
    trial = _both(scene, net, scene.labels)
    first = scene.thirty_lines(_of(net, lambda net, x: net(x)[0]))  # TypeError, so people add [0]
    return Trial(expected=scene.labels, tools=trial.tools | {"torchvision": first})


@kind("logits and features", "cavalleria/cavaface#8")
def _(scene: Scene) -> Trial:
    net = _of(scene.net, lambda net, x: (net(x), net.body(x)))
    return _both(scene, net, scene.labels)


@kind("logits under a key", "PaddlePaddle/PaddleClas#1761")
def _(scene: Scene) -> Trial:
    net = _of(scene.net, lambda net, x: {"output": net(x), "loss": None})
    return _both(scene, net, scene.labels)


@kind("softmax over the batch", "MicrosoftDocs/pytorchfundamentals#4", "d2l-ai/d2l-en#2274")
def _(scene: Scene) -> Trial:
    return _both(scene, nn.Sequential(scene.net, nn.Softmax(dim=0)))


@kind("squeeze() of a batch of one", "layumi/Person_reID_baseline_pytorch#77")
def _(scene: Scene) -> Trial:
    net = _of(scene.net, lambda net, x: net.fc(net.body(x)[..., None, None].squeeze()))
    return _both(scene, net, scene.labels)


@kind("a batch that forward sorts", "castorini/castor#176", "FutureComputing4AI/MalConv2#6")
def _(scene: Scene) -> Trial:
    """By brightness, and not back: the answers belong to other images."""
    net = _of(scene.net, lambda net, x: net(x[x.mean((1, 2, 3)).argsort()]))
    tools = {"toplabel": scene.wrapped(net)}
    tools["torchvision"] = lambda: [NAMES[i] for i in net(scene.batch).argmax(1)]
    return Trial(expected=scene.labels, tools=tools)


@kind("several heads", "open-mmlab/mmpretrain#628", "ContinualAI/avalanche#203")
def _(scene: Scene) -> Trial:
    """The names say which is meant."""
    torch.manual_seed(1)
    shade = nn.Linear(32, 3)
    net = _of(scene.net, lambda net, x: [shade(net.body(x)), net(x)])
    trial = _both(scene, net, scene.labels)
    first = scene.thirty_lines(_of(net, lambda net, x: net(x)[0]))
    return Trial(expected=scene.labels, tools=trial.tools | {"torchvision": first})


@kind("ordinal outputs", "Raschka-research-group/coral-cnn#28", "ck37/coral-ordinal#24")
def _(scene: Scene) -> Trial:
    """K - 1 outputs that fall; the class is how many are above 0."""
    net = _of(
        scene.net,
        lambda net, x: net(x).argmax(1, True).float() - torch.tensor([0.5, 1.5, 2.5]),
    )
    return _both(scene, net, scene.labels)


@kind("forward(x, label) of a margin head", "ronghuaiyang/arcface-pytorch#51")
def _(scene: Scene) -> Trial:
    class Margin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = scene.net

        def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
            """Scaled logits; the right class gets less in training."""
            logits = self.net(x)
            return logits if label is None else logits - functional.one_hot(label, 4) * 8

    net = Margin()
    return _both(scene, net, scene.labels)


@kind("the batch indexed for the channel", "pytorch/vision#101")
def _(scene: Scene) -> Trial:
    """x[0] for x[:, 0]: only the first image of a batch is changed."""

    def forward(net: Net, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[0] = x[0] * 0.2 - 0.7
        return net(x)

    net = _of(scene.net, forward)
    alone = [NAMES[net(one[None]).argmax(1)] for one in scene.batch]
    tools = {"toplabel": scene.wrapped(net)}
    tools["torchvision"] = lambda: [NAMES[i] for i in net(scene.batch).argmax(1)]
    return Trial(expected=alone, tools=tools)


class Shuffled(nn.Module):
    """Part of it is drawn by the constructor and in no file."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = Body(), nn.Linear(32, 4)
        self.order = torch.randperm(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.body(x)[:, self.order])


@kind("a random tensor that is not in the file", "ligerlac/torchlogix#22", "pytorch/pytorch#105233")
def _(scene: Scene) -> Trial:
    torch.manual_seed(3)
    net = Shuffled().eval()
    inverse = net.order.argsort()
    net.body.load_state_dict(scene.net.body.state_dict())
    with torch.no_grad():
        net.fc.weight.copy_(scene.net.fc.weight[:, net.order])
        net.fc.bias.copy_(scene.net.fc.bias)
    assert inverse.numel() == 32
    path = scene.saved(net.state_dict(), "shuffled.pth")

    def loaded() -> nn.Module:
        made = Shuffled()
        made.load_state_dict(torch.load(path, weights_only=True))
        return made

    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": scene.ours(path, arch=Shuffled),
            "torchvision": scene.thirty_lines(loaded),
        },
    )


@kind("state kept between calls", "pytorch/pytorch#10841")
def _(scene: Scene) -> Trial:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.before = scene.net, None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Logits of the images so far."""
            logits = self.net(x)
            mean = logits.mean(0, keepdim=True)
            self.before = mean if self.before is None else 0.9 * self.before + mean
            return self.before.expand_as(logits)

    return _both(scene, Remembers(), scene.labels)


@kind("the first answer for every image", "pytorch/pytorch#21774")
def _(scene: Scene) -> Trial:
    class Memo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = scene.net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """What it said at first."""
            if not hasattr(self, "said"):
                self.said = self.net(x)[:1]
            return self.said.expand(len(x), -1)

    return _both(scene, Memo(), scene.labels)


@kind("an eval() of its own", "ultralytics/ultralytics#17751")
def _(scene: Scene) -> Trial:
    """It says how good the network is, and leaves it in training mode."""

    class Evaluates(nn.Sequential):
        def eval(self) -> str:
            """Nothing is switched."""
            return "accuracy 0.98"

    net = Evaluates(scene.net.body, nn.Dropout(0.95), scene.net.fc)
    net.train()
    return _both(scene, net, scene.labels)


@kind("train() is the training loop", "KindXiaoming/pykan#108", "seungeunrho/minimalRL#2")
def _(scene: Scene) -> Trial:
    class Trains(nn.Sequential):
        def train(self, loader, epochs: int = 10) -> None:  # type: ignore[override]
            """Goes through the loader."""
            for _ in range(epochs):
                for _ in loader:
                    pass

    return _both(scene, Trains(scene.net.body, scene.net.fc), scene.labels)


@kind("spectral norm, first called in eval mode", "pytorch/pytorch#51800")
def _(scene: Scene) -> Trial:
    torch.manual_seed(2)
    head = nn.utils.parametrizations.spectral_norm(nn.Linear(32, 4))
    net = nn.Sequential(scene.net.body, head).eval()
    expected = [NAMES[i] for i in net(scene.batch).argmax(1)]
    return _both(scene, net, expected)


@kind("an exported program", "pytorch/pytorch#151726")
def _(scene: Scene) -> Trial:
    path = scene.folder / "model.pt2"
    torch.export.save(torch.export.export(scene.net, (scene.batch,)), path)
    module = torch.export.load(path).module
    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": scene.ours(path, arch=None),
            "torchvision": scene.thirty_lines(lambda: module()),
        },
    )
