"""Sanity checks: a network, its labels and images in, findings that need no preprocessing out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from toplabel._internal.text import number_of
from toplabel.analysis.doctor.messages import Finding
from toplabel.bundle.outputs import are_shares
from toplabel.bundle.trust import measure_repeatability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from toplabel.labels.labels import Labels

BATCH_SIZE = 8


def outputs_of(network: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Its outputs, batch after batch: float32 (N, K)."""
    with torch.no_grad():
        rows = [
            network(torch.from_numpy(inputs[start : start + BATCH_SIZE])).float().numpy()
            for start in range(0, len(inputs), BATCH_SIZE)
        ]
    return np.concatenate(rows)


def check_weights(broken: Sequence[str]) -> Finding:
    """Whether there are weights that are no finite numbers, given their names."""
    if not broken:
        return Finding("weights", "fine", "all weights are finite")
    return Finding(
        "weights",
        "wrong",
        f"NaN or infinity in {number_of(len(broken), 'tensor')}: every prediction is worthless",
        ", ".join(broken[:5]),
        "use an earlier checkpoint: the training diverged, or the file is damaged",
    )


def check_labels(labels: Labels | None, outputs: int) -> Finding:
    """Whether there is one label for each output."""
    if labels is None:
        text = f"it has {number_of(outputs, 'output')}, and no class names"
        line = 'labels="classes.txt", in the order of its outputs'
        return Finding("labels", "cannot tell", text, line=line)
    if len(labels) != outputs:
        text = f"got {number_of(len(labels), 'label')} for {number_of(outputs, 'output')}"
        return Finding(
            "labels", "wrong", text, line="pass labels=... with one name for each output"
        )
    return Finding("labels", "fine", f"{outputs} labels, one for each output")


def check_outputs(network: nn.Module, inputs: NDArray[np.float32]) -> list[Finding]:
    """Whether they are finite, and logits; whether an image has one answer.

    Args:
        network: In eval mode.
        inputs: At least two different ones, float32 (N, C, h, w); a batch of them is used.
    """
    inputs = inputs[:BATCH_SIZE]
    alone = np.concatenate([outputs_of(network, one[None]) for one in inputs])
    return [_check_logits(alone), _check_repeatability(network, inputs, alone)]


def _check_logits(logits: NDArray[np.float32]) -> Finding:
    if not np.isfinite(logits).all():
        text = "its outputs for ordinary photos are not all finite"
        return Finding("outputs", "wrong", text, line="use an earlier checkpoint, or another dtype")
    if are_shares(logits):
        return Finding(
            "outputs",
            "wrong",
            "its outputs are already probabilities: another softmax would flatten them",
            f"all at least 0, each row sums to 1 ({logits.shape[1]} outputs)",
            "nothing to do: toplabel adds no second softmax where all rows sum to 1",
        )
    low, high = float(logits.min()), float(logits.max())
    text = f"its {logits.shape[1]} outputs are logits"
    return Finding("outputs", "fine", text, f"from {low:.3g} to {high:.3g}")


def _check_repeatability(
    network: nn.Module, inputs: NDArray[np.float32], alone: NDArray[np.float32]
) -> Finding:
    found = measure_repeatability(
        lambda batch: outputs_of(network, batch), inputs, alone, batch_sizes=(len(inputs),)
    )
    evidence = f"by up to {{:.3g}}, where rounding explains {found.tolerance:.1e}"
    if not found.repeats:
        return Finding(
            "repeats",
            "wrong",
            "it gives different outputs for the same image: something random, such as dropout, is"
            " active in eval mode",
            evidence.format(found.repeated),
            "in the network's forward: F.dropout(x, training=self.training)",
        )
    if not found.ignores_batch:
        return Finding(
            "repeats",
            "wrong",
            "its output for an image depends on the others of its batch: a batch normalisation"
            " still uses the batch's own statistics",
            evidence.format(found.batched),
            "call eval() on the whole network; track_running_stats=True in each BatchNorm",
        )
    text = "it gives the same answer again, alone and in a batch"
    largest = max(found.repeated, found.batched)
    return Finding("repeats", "fine", text, f"differences of at most {largest:.1e}")
