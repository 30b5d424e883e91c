"""The load generator of the benchmarks, and that a rival's server does the same job."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.bench import Bench
from benchmarks.materials import checkpoints
from benchmarks.served import fastapi, load, started

import toplabel
from serving import ROOT, Server, serving

PHOTOS = sorted((ROOT / "examples").glob("*.jpg"))
LOAD = ROOT / "benchmarks" / "subjects" / "load.py"


def answers(server: Server, *arguments: object) -> Any:
    command = [sys.executable, LOAD, f"{server.url}/v1/classify", *map(str, arguments), *PHOTOS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_closed_and_open_loops_count_every_answer():
    with serving("--no-access-log") as server:
        before = server.metric("toplabel_images_total")
        for kind in ("raw", "form", "json"):
            said = answers(server, kind, 0.5, "closed", 2)
            assert said["statuses"] == {"200": len(said["latencies"])}
            assert said["latencies"] == sorted(said["latencies"])
            labels = [json.loads(b)["predictions"][0]["label"] for b in said["bodies"].values()]
            expected = [p.label for p in toplabel.load()(PHOTOS)]
            assert labels == expected[: len(labels)]
            before += len(said["latencies"])
        said = answers(server, "raw", 1, "open", 10)
        assert sum(said["statuses"].values()) == 10
        assert server.metric("toplabel_images_total") == before + 10
        assert said["seconds"] >= 0.9


def test_it_sends_nothing_to_another_machine():
    command = [sys.executable, LOAD, "http://192.0.2.1/", "raw", "1", "closed", "1", *PHOTOS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "this machine only" in done.stderr


@pytest.mark.slow
def test_the_tutorials_server_gives_the_same_labels(tmp_path: Path):
    bench = Bench(tmp_path)
    subject = fastapi(bench, checkpoints(bench) / "lite0.pth")
    with started(subject, PHOTOS[0]) as running:
        assert running.ready_seconds > 0
        said = load(subject, 2, "closed", 2, PHOTOS)
    found = [json.loads(said.bodies[place])["index"] for place in range(len(PHOTOS))]
    assert found == [p.index for p in toplabel.load()(PHOTOS)]
