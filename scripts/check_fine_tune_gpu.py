"""Fine-tune on a GPU, as a user would, and check what a machine without one cannot.

That a bundle and its weights come of it which label alike on the CPU; that the network is no worse
than its frozen head; that a killed training goes on; and how fast it is, with how much memory.

    python scripts/check_fine_tune_gpu.py DATA [MODEL] [--epochs N] [--device cuda]

DATA is a folder with one sub-folder per class, MODEL a name or checkpoint that toplabel opens.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import toplabel
from toplabel.training.result import TrainingResult

KILLED = """
import os, signal, sys, toplabel
import toplabel.training.fine_tune as fine_tune
from toplabel.training import fine_tune_progress
fine_tune_progress._EVERY_SECONDS = fine_tune_progress._SHARE = 0  # saved after each step
learn, count = fine_tune._Training._learn, 0
def learn_a_little(self, *batch):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    learn(self, *batch)
fine_tune._Training._learn = learn_a_little
data, model, epochs, device = sys.argv[1:]
toplabel.train(data, model=model, fine_tune=True, epochs=int(epochs), device=device)
"""


def main() -> int:
    """Check all of it; the exit status is 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", nargs="?", default="timm/tf_efficientnet_lite0.in1k")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="toplabel-gpu-") as folder:
        os.environ["TOPLABEL_CACHE"] = str(Path(folder) / "cache")
        command = [asked.data, asked.model, asked.epochs, asked.device]
        killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, command)], check=False)
        kept = [*(Path(folder) / "cache" / "training").glob("*.pt")]
        result = toplabel.train(
            asked.data,
            model=asked.model,
            fine_tune=True,
            epochs=asked.epochs,
            device=asked.device,
        )
        checks = {
            "it was killed in the middle": killed.returncode == -signal.SIGKILL,
            "how far it was is kept": len(kept) == 1,
            **_checks(result, Path(folder)),
        }
    _tell(result, checks)
    return 0 if all(checks.values()) else 1


def _checks(result: TrainingResult, folder: Path) -> dict[str, bool]:
    facts = result.fine_tuning
    assert facts is not None
    checks = {"it is no worse than the frozen head": facts.accuracy >= facts.frozen_accuracy}
    if facts.kept:
        result.save(folder / "mine.toplabel")
        bundle = toplabel.load(folder / "mine.toplabel")
        weights = toplabel.load(folder / "mine.safetensors")
        some = list(result.sources[:20])
        pairs = zip(bundle(some), weights(some), strict=True)
        alike = [a.label == b.label and abs(a.score - b.score) < 1e-3 for a, b in pairs]
        checks["bundle and weights label alike on the CPU"] = all(alike)
    return checks


def _tell(result: TrainingResult, checks: dict[str, bool]) -> None:
    facts = result.fine_tuning
    assert facts is not None
    seen = facts.epochs * (facts.learned + facts.held_out)
    print(result, facts, sep="\n")
    print(f"{seen / facts.seconds:.0f} images/s on {facts.device}, in training and validation")
    if torch.cuda.is_available():
        print(f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB of its memory at most")
    for what, holds in checks.items():
        print(f"{'ok' if holds else 'WRONG'}: {what}")


if __name__ == "__main__":
    sys.exit(main())
