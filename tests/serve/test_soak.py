"""The rules of scripts/soak.py, on samples and answers that are made up."""

import random
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from serving import ROOT


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    names = ("soak", "soak_clients", "fuzz_requests")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "scripts"))
        yield {name: __import__(name) for name in names}
        for name in names:
            sys.modules.pop(name, None)


def noisy(grows_by: float, *, seed: int = 0) -> list[tuple[float, float]]:
    """Half an hour of samples: a warm-up of 60 MB, images of up to 150 MB that come and go."""
    chance = random.Random(seed)
    samples = []
    for second in range(1800):
        warm = 60 * min(1.0, second / 300)
        image = chance.choice([0, 0, 0, 20, 150])
        samples.append((float(second), 150 + warm + image + grows_by * second / 1200))
    return samples


def test_memory_that_comes_and_goes_is_flat(scripts):
    for seed in range(5):
        assert abs(scripts["soak"].growth_mb(noisy(0, seed=seed))) < 1


def test_a_slow_growth_below_what_comes_and_goes_is_found_in_its_size(scripts):
    assert scripts["soak"].growth_mb(noisy(30)) == pytest.approx(30, abs=2)


@pytest.mark.parametrize("samples", [[(0.0, 1.0)], [(0.0, 1.0), (1.0, 2.0)]])
def test_few_samples_are_no_growth(scripts, samples):
    assert scripts["soak"].growth_mb(samples) == 0


def test_a_fuzzed_request_is_the_same_each_time_and_others_differ(scripts):
    fuzzed, images = scripts["fuzz_requests"].fuzzed, scripts["soak_clients"].small_images()
    first = [fuzzed(7, number, images) for number in range(300)]
    assert first == [fuzzed(7, number, images) for number in range(300)]
    assert len({*first}) > 290
    assert fuzzed(8, 0, images) != first[0]


def test_a_good_request_with_another_label_is_wrong(scripts):
    clients = scripts["soak_clients"]
    body = b'{"predictions": [{"label": "tabby"}]}'
    clients._must_be(["tabby"], 200, body)
    with pytest.raises(clients.Wrong, match="got \\['tabby'\\]; expected \\['tiger cat'\\]"):
        clients._must_be(["tiger cat"], 200, body)
    with pytest.raises(clients.Wrong, match="got 503"):
        clients._must_be(["tabby"], 503, b"{}")


@pytest.mark.parametrize("status", [200, 302, 500, 503])
def test_a_bad_request_that_is_not_refused_is_wrong(scripts, status):
    clients = scripts["soak_clients"]
    clients._must_fail(422, b'{"error": {"code": "corrupt"}}')
    with pytest.raises(clients.Wrong, match=f"got {status}"):
        clients._must_fail(status, b"{}")


def verdict(scripts: dict[str, Any], **seen: Any) -> list[str]:
    soak = scripts["soak"]
    facts = {"counts": {}, "wrong": [], "samples": noisy(0), "health": [1.0], "steady": [9.0]}
    facts |= {"left": {"descriptors": 0, "threads": 0}, "status": 0, **seen}
    asked = type("Asked", (), {"allow_mb": 20, "health_ms": 1000, "steady_ms": 5000})
    return soak.verdict(soak.Watched(**facts), (), asked)["failed"]


@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        ({}, []),
        ({"wrong": ["good_raw: got 500"]}, ["wrong"]),
        ({"samples": noisy(25)}, ["memory"]),
        ({"left": {"descriptors": 9, "threads": 0}}, ["descriptors"]),
        ({"left": {"descriptors": 0, "threads": 9}}, ["threads"]),
        ({"health": [1.0] * 90 + [2000.0] * 10}, ["health"]),
        ({"steady": [1.0] * 90 + [6000.0] * 10}, ["steady"]),
        ({"status": 1}, ["end"]),
        ({"status": None, "left": {}}, ["end"]),
    ],
    ids=["none", "wrong", "memory", "descriptors", "threads", "health", "steady", "end", "ended"],
)
def test_each_rule_alone_makes_it_fail(scripts, seen, rule):
    assert verdict(scripts, **seen) == rule
