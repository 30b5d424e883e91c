"""A server whose model only PyTorch runs: taken in turns, and put together where asked for."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import toplabel
from own_networks import ResNet20
from serving import CAT, ROOT, Server, serving

pytestmark = [pytest.mark.torch, pytest.mark.slow]

NETS = ROOT / "tests" / "own_networks.py"


@pytest.fixture(params=["auto", "on"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    torch.manual_seed(0)
    torch.save(ResNet20().state_dict(), tmp_path / "own.pth")
    recipe = toplabel.Preprocess(
        input_size=(32, 32), resize_mode="squash", resize_size=(32, 32), mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )  # fmt: skip
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    with serving(
        *("-m", f"own={tmp_path / 'own.pth'}", "--arch", f"{NETS}:ResNet20"),
        *("--preprocess", str(tmp_path / "recipe.json"), "--engine", "torch"),
        *("--batching", request.param, "--threads", "4", "--no-access-log"),
    ) as running:
        yield running


def test_concurrent_requests_get_the_answers_they_get_alone(server: Server):
    (model,) = server.ask("GET", "/v1/models").json["models"]
    assert (model["name"], model["engine"], model["classes"]) == ("own", "torch on cpu", 10)
    coffee = (ROOT / "examples" / "coffee.jpg").read_bytes()
    contents = [CAT, coffee] * 12
    alone = [server.classify(content).json["predictions"][0] for content in contents[:2]]
    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(server.classify, contents))
    for place, reply in enumerate(replies):
        record = reply.json["predictions"][0]
        assert record["index"] == alone[place % 2]["index"]
        assert record["score"] == pytest.approx(alone[place % 2]["score"], abs=1e-5)
    assert server.classify(CAT[:900]).status == 422
