"""Runs on a real Ray cluster of several nodes on this machine, one of which is killed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import toplabel
from run_material import draw_colours, kill_with, read_jsonl, save_model
from toplabel.errors import ModelError, RunError

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SCRIPT = """
import json, sys, threading, time
import ray
import ray._private.services
from ray.cluster_utils import Cluster
import toplabel

# Ray takes the loopback address for an oversight and replaces it; these tests stay on it
ray._private.services.get_node_ip_address = lambda *given, **named: "127.0.0.1"

said = json.loads(sys.argv[1])
here = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **here})
nodes = [cluster.add_node(num_cpus=1, **here) for _ in range(2)]
cluster.wait_for_nodes(timeout=300)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
seen = []

def progress(at):
    seen.append(at.done)
    if said["kill_at"] is not None and at.done >= said["kill_at"] and len(nodes) == 2:
        cluster.remove_node(nodes.pop(), allow_graceful=False)

try:
    summary = toplabel.run(
        said["source"], said["output"], on="ray", progress=progress, shard_size=20,
        max_errors=said.get("max_errors"), embeddings=said.get("embeddings", False),
        **said["model"],
    )
    left = 1 + len(nodes)
    until = time.monotonic() + 300  # a node's death is told by its heartbeats' end
    while (alive := sum(node["Alive"] for node in ray.nodes())) > left and time.monotonic() < until:
        time.sleep(0.2)
    print(json.dumps({"summary": summary.to_dict(), "seen": seen, "alive": alive}))
except toplabel.ToplabelError as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}", "seen": seen}))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


def run_on_cluster(**said: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps({"kill_at": None, **said})],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith('{"'))
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "photos"
    draw_colours(folder, 400)
    (folder / "00033.png").write_bytes(b"?")
    return folder


def test_two_nodes_give_what_one_machine_gives_though_one_is_killed(
    photos: Path, tmp_path: Path
) -> None:
    model = save_model(tmp_path)
    found = run_on_cluster(
        source=str(photos),
        output=str(tmp_path / "ray.jsonl"),
        model=model,
        embeddings=True,
        kill_at=100,
    )
    assert found["alive"] == 2  # the head and the node that was left
    assert found["summary"]["inputs"] == 400
    assert found["summary"]["failed"] == 1
    toplabel.run(photos, tmp_path / "here.jsonl", shard_size=20, embeddings=True, **model)
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_a_run_begun_here_is_finished_there_and_the_other_way_round(
    photos: Path, tmp_path: Path
) -> None:
    model = save_model(tmp_path)
    output = tmp_path / "a.jsonl"
    with pytest.raises(RunError, match="max_errors"):
        toplabel.run(photos, output, shard_size=20, max_errors=0, **model)
    found = run_on_cluster(source=str(photos), output=str(output), model=model, max_errors=1)
    assert 0 < found["summary"]["new"] <= 400
    assert len({r["source"] for r in read_jsonl(output)}) == 400
    other = tmp_path / "b.jsonl"
    found = run_on_cluster(source=str(photos), output=str(other), model=model, max_errors=0)
    assert "max_errors" in found["error"]
    summary = toplabel.run(photos, other, shard_size=20, **model)
    assert summary.inputs == 400
    assert other.read_bytes() == output.read_bytes()


def test_an_image_that_kills_its_worker_costs_itself_on_a_cluster_too(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_with(tmp_path / "hook", "00044.png")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    output = tmp_path / "a.jsonl"
    found = run_on_cluster(source=str(photos), output=str(output), model=save_model(tmp_path))
    assert found["summary"]["errors"] == {"not_an_image": 1, "worker_crash": 1}
    assert read_jsonl(output)[44]["error"]["code"] == "worker_crash"


def test_an_address_where_nobody_answers_is_one_line(photos: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys, toplabel\n"
        "os.environ['RAY_ADDRESS'] = '127.0.0.1:1'\n"
        "try:\n"
        f"    toplabel.run({str(photos)!r}, {str(tmp_path / 'a.csv')!r}, on='ray')\n"
        "except toplabel.RunError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert "cannot reach the Ray cluster at 127.0.0.1:1" in done.stdout


@pytest.mark.torch
def test_a_model_that_only_pytorch_runs_is_refused(photos: Path, tmp_path: Path) -> None:
    from run_material import local_predictor

    with pytest.raises((RunError, ModelError), match="cannot be sent to a cluster"):
        toplabel.run(photos, tmp_path / "a.csv", model=local_predictor(), on="ray")
