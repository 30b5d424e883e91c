"""Label many inputs, some of which fail, and watch the memory of this process.

python memory.py COUNT PHOTO...
"""

import itertools
import json
import os
import sys

import toplabel

count, *photos = sys.argv[1:]
EVERY = 250


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def sources() -> "itertools.islice[object]":
    """The photos over and over; now and then one that is missing, cut short or no image."""
    with open(photos[0], "rb") as file:
        cut_short = file.read()[:-2000]
    bad = ["no-such-file.jpg", cut_short, b"<html>not an image</html>", b""]
    return itertools.islice(itertools.cycle([*photos, *bad]), int(count))


model = toplabel.load()
failed = 0
samples = []
for number, prediction in enumerate(model.stream(sources()), 1):
    failed += prediction.error is not None
    if number % EVERY == 0:
        samples.append((number, round(resident_mb(), 1)))
print(json.dumps({"samples": samples, "failed": failed, "count": number}))
