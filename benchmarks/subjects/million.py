"""Run over very many tiny images with an engine that does nothing, and watch the memory.

python million.py FOLDER OUTPUT
"""

import json
import os
import sys
import time

import numpy as np

import toplabel
from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import Predictor
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess

folder, output = sys.argv[1:]
EVERY_SECONDS = 1.0


class StubEngine:
    """Answers at once."""

    name, device, normalises = "stub", "cpu", None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """One value of each channel for a logit."""
        return batch[:, :, 0, 0]


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


engine = StubEngine()
preprocess = Preprocess(
    input_size=(8, 8), resize_mode="squash", resize_size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1)
)
model = Predictor(
    Classifier(
        name="stub@00000000",
        preprocess=preprocess,
        labels=Labels(("red", "green", "blue")),
        activation="softmax",
        open_engine=lambda threads, features=False: engine,
        parallel=True,
    ),
    batch_size=32,
)
samples: list[tuple[int, float]] = []
last = 0.0


def watch(progress: object) -> None:
    global last
    now = time.perf_counter()
    if now - last > EVERY_SECONDS:
        last = now
        samples.append((progress.done, round(resident_mb(), 1)))


started = time.perf_counter()
summary = toplabel.run(folder, output, model=model, progress=watch)
seconds = time.perf_counter() - started
samples.append((summary.inputs, round(resident_mb(), 1)))
with open("/proc/self/status") as status:  # what wait4 tells includes the parent's at the start
    (peak_kb,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
print(
    json.dumps(
        {
            "seconds": seconds,
            "new": summary.new,
            "failed": summary.failed,
            "samples": samples,
            "peak_mb": int(peak_kb) * 1024 / 1e6,
        }
    )
)
