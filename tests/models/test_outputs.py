"""Networks are asked what they give, and watched while they compute it."""

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from toplabel.bundle.bounds import FREE, Bounds  # noqa: E402
from toplabel.bundle.conversion import Conversion  # noqa: E402
from toplabel.errors import ModelError  # noqa: E402
from toplabel.models.outputs import Scores, choose_output, leaves_of, watch  # noqa: E402

BATCH = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
Named = namedtuple("Named", "logits features")


class Ending(nn.Module):
    """A network of four outputs with an end of one's own."""

    def __init__(self, end: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(8, 4)
        self.end = end

    def forward(self, x: torch.Tensor) -> Any:
        return self.end(self.head(self.body(x).flatten(1)))


class Written(nn.Module):
    """Its outputs are written into a tensor, one after the other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = torch.zeros(len(x), 2)
        made[:, 0] = x.mean((1, 2, 3)).sigmoid()
        return made + x[:, :2, 0, 0] * 0


def bounds_of(network: nn.Module) -> Bounds | None:
    with torch.no_grad():
        given, bounds = watch(network.eval(), BATCH)
    assert set(bounds) == {name for name, _ in leaves_of(given)}
    return bounds["output"]


@pytest.mark.parametrize(
    ("end", "bounds"),
    [
        pytest.param(lambda z: z, FREE, id="logits"),
        pytest.param(torch.sigmoid, Bounds(0, 1), id="sigmoid"),
        pytest.param(lambda z: z.sigmoid_(), Bounds(0, 1), id="in place"),
        pytest.param(functional.hardsigmoid, Bounds(0, 1), id="hard sigmoid"),
        pytest.param(nn.Softmax(1), Bounds(0, 1), id="softmax"),
        pytest.param(nn.LogSoftmax(1), Bounds(high=0), id="log-softmax"),
        pytest.param(functional.logsigmoid, Bounds(high=0), id="log-sigmoid"),
        pytest.param(lambda z: 1 / (1 + torch.exp(-z)), Bounds(0, 1), id="in its parts"),
        pytest.param(lambda z: (torch.tanh(z) + 1) / 2, Bounds(0, 1), id="half a tanh"),
        pytest.param(lambda z: z.sigmoid().clamp(0.1, 0.9), Bounds(0.1, 0.9), id="clamped"),
        pytest.param(lambda z: 100 * z.softmax(1), Bounds(0, 100), id="percent"),
        pytest.param(lambda z: z.sigmoid().half()[:, :, None, None], Bounds(0, 1), id="half"),
        pytest.param(
            lambda z: torch.cat([z[:, :1].sigmoid(), 1 - z[:, 1:].sigmoid()], 1),
            Bounds(0, 1),
            id="concatenated",
        ),
        pytest.param(lambda z: (z.sigmoid() * 100).round() / 100, Bounds(0, 1), id="rounded"),
        pytest.param(functional.relu, Bounds(low=0), id="relu"),
        pytest.param(lambda z: z.sigmoid() @ z.sigmoid().T, None, id="a product"),
        pytest.param(lambda z: torch.erfinv(z), None, id="an unknown operator"),
        pytest.param(lambda z: torch.erfinv(z).sigmoid(), Bounds(0, 1), id="behind an unknown one"),
        pytest.param(
            lambda z: z + torch.tensor([0, 0, float("-inf"), 0]), FREE, id="a masked class"
        ),
    ],
)
def test_the_end_of_a_network_shows_between_what_its_outputs_lie(
    end: Callable[[torch.Tensor], Any], bounds: Bounds | None
) -> None:
    assert bounds_of(Ending(end)) == bounds


def test_a_sort_is_seen() -> None:
    found = bounds_of(Ending(lambda z: z.sort(1, descending=True).values))
    assert found is not None
    assert found.sorted


def test_a_tensor_that_is_written_piece_by_piece_is_not_known() -> None:
    assert bounds_of(Written()) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_scripted_traced_frozen_and_exported_networks_are_seen_through() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), nn.Sigmoid()
    ).eval()
    scripted = torch.jit.script(network)
    traced = torch.jit.trace(network, BATCH)
    exported = torch.export.export(network, (BATCH,)).module()
    for _ in range(3):  # the first runs are profiled, later ones optimised
        for one in (scripted, traced, torch.jit.freeze(traced)):
            assert bounds_of(one) == Bounds(0, 1)
    with torch.no_grad():
        assert watch(exported, BATCH)[1] == {"output": Bounds(0, 1)}
        assert watch(torch.compile(network), BATCH)[1] == {"output": Bounds(0, 1)}


@pytest.mark.parametrize(
    ("end", "names"),
    [
        (lambda z: z, ["output"]),
        (lambda z: (z, None, [z, z]), ["0", "2.0", "2.1"]),
        (lambda z: {"a": z, "b": (z,)}, ["a", "b.0"]),
        (lambda z: Named(z, z), ["logits", "features"]),
        (lambda z: "cat", []),
    ],
)
def test_every_tensor_has_a_name(end: Callable[[torch.Tensor], Any], names: list[str]) -> None:
    assert [name for name, _ in leaves_of(Ending(end)(BATCH))] == names


def test_the_chosen_output_is_the_networks_only_one() -> None:
    network = Ending(lambda z: {"features": z.relu(), "kind": z}).eval()
    name = choose_output(network(BATCH[:1]), output="kind", model="net")
    with torch.no_grad():
        assert torch.equal(Scores(network, name)(BATCH), network(BATCH)["kind"])


def test_a_network_without_tensors_is_refused_by_what_it_gives() -> None:
    with pytest.raises(ModelError, match=r"gives a str \('cat'\) without a tensor"):
        choose_output("cat", model="net")


def test_outputs_are_converted_and_brought_into_rows() -> None:
    network = Ending(lambda z: z[:, :1].sigmoid().squeeze()).eval()
    pair = Scores(network, "output", Conversion(pair="scores"))
    with torch.no_grad():
        together = pair(BATCH)
        alone = torch.cat([pair(one[None]) for one in BATCH])
    assert together.shape == (2, 2)
    torch.testing.assert_close(alone, together)
    torch.testing.assert_close(together[:, 1], network(BATCH).detach())
