"""Train on draws of labelled photos with toplabel's own code, and print what came out as JSON.

    python training.py FOLDER SIZES DRAWS

Of each class so many photos are drawn, the others are held out. Features are computed once.
"""

import json
import sys

import numpy as np

import toplabel
from toplabel.analysis.data.dataset import read_dataset
from toplabel.analysis.evaluate.metrics import calibration_error
from toplabel.inference.scoring import probabilities
from toplabel.training.copies import find_groups
from toplabel.training.folds import count_folds, divide
from toplabel.training.out_of_fold import Examples, accuracy_interval, predict_out_of_fold

folder, sizes, draws = sys.argv[1], [int(n) for n in sys.argv[2].split(",")], int(sys.argv[3])
dataset = read_dataset(folder)
features = toplabel.load().embed(list(dataset.sources))
targets = np.array([dataset.classes.index(name) for name in dataset.names])
count = len(dataset.classes)


def one(chosen: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """The accuracy on held-out photos, beside what the training says of it."""
    own, known = features[chosen], targets[chosen]
    groups = find_groups(own)
    folds = divide(known, groups, folds=count_folds(known, groups))
    examples = Examples(own, known, groups, folds, count)
    found = predict_out_of_fold(examples)
    interval = accuracy_interval(found.logits.argmax(axis=1) == known, groups)
    logits = examples.fit(found.strength).logits(features[held_out])
    right = logits.argmax(axis=1) == targets[held_out]
    scores = probabilities(logits / np.float32(found.temperature), "softmax")
    return {
        "said": interval.value,
        "low": interval.low,
        "high": interval.high,
        "accuracy": float(right.mean()),
        "calibration_error": calibration_error(scores.max(axis=1), right),
    }


results: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
for size in sizes:
    for draw in range(draws):
        order = np.random.default_rng([size, draw]).permutation(len(targets))
        rank = np.zeros(len(targets), int)
        for index in range(count):
            own = order[targets[order] == index]
            rank[own] = np.arange(len(own))
        results[size].append(one(rank < size, rank >= size))
print(json.dumps(results))
