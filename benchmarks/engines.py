"""Engines: ONNX Runtime and OpenVINO on the same programs, in each precision they have here."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.bench import SUBJECTS, Bench
from benchmarks.materials import checkpoints
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section, Table

_NETWORKS = ("lite0", "resnet50", "convnext_tiny", "vit_b_16")
_EXACT, _AGREEING = "onnxruntime float32", "openvino float32"
_TOLERANCE = 1e-4


def measure(bench: Bench) -> Section:
    """Processor time for an image, and agreement with ONNX Runtime in float32."""
    photos, weights = find_photos(bench).small, checkpoints(bench) / "lite0.pth"
    found: dict[str, dict[str, Any]] = {
        network: bench.ask_script(
            SUBJECTS / "engines.py",
            network,
            weights,
            str(bench.repeats(5)),
            *(photos if network == "lite0" else photos[:16]),
        )
        for network in _NETWORKS
    }
    return Section(
        title="Engines of programs",
        rows=tuple(_agreement(network, ways[_AGREEING]) for network, ways in found.items()),
        tables=(
            Table(
                title="Processor time for an image, two in a call, one thread",
                header=("network", "way", "ms", "times as fast", "logits off by", "labels changed"),
                rows=tuple(
                    _line(network, name, ways) for network, ways in found.items() for name in ways
                ),
            ),
        ),
        notes=(
            "In one process, in turn; EfficientNet-Lite0 with its weights, the others with random"
            " ones, whose labels say nothing. A label that int8 or bfloat16 changes here is one"
            " that the margin of a reduced program has to catch.",
        ),
        raw=found,
    )


def _agreement(network: str, way: dict[str, Any]) -> Row:
    relative = way["difference"] / max(1.0, way["spread"])
    return Row(
        what=f"{network}: largest difference of OpenVINO in float32, of the logits' spread",
        figure=f"{relative:.1e}",
        goal=f"<= {_TOLERANCE:.0e}",
        met=relative <= _TOLERANCE,
    )


def _line(network: str, name: str, ways: dict[str, Any]) -> tuple[str, ...]:
    way = ways[name]
    exact, own = (median(ways[one]["milliseconds"]) for one in (_EXACT, name))
    changed = f"{way['changed']} of {way['images']}" if network == "lite0" else "-"
    return (
        network,
        name,
        f"{own:.2f}",
        f"{exact / own:.2f}",
        f"{way['difference']:.1e}",
        changed,
    )
