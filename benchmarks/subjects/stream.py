"""Label many photos with toplabel.

python stream.py NETWORK WEIGHTS guarded|exact|fast PHOTO...
"""

import json
import sys
import time
from pathlib import Path

import toplabel

network, weights, mode, *photos = sys.argv[1:]
if network == "lite0":
    model = toplabel.load(exact=mode == "exact", fast=mode == "fast")
else:
    sys.path.append(str(Path(__file__).parents[1] / "rivals"))
    from networks import build

    module, transform = build(network, weights=weights)
    model = toplabel.wrap(module, preprocess=transform, exact=mode == "exact")

list(model.stream(photos[:4]))
started = time.perf_counter()
indices = [prediction.index for prediction in model.stream(photos)]
seconds = time.perf_counter() - started
threads = model.threads
print(
    json.dumps({"seconds": seconds, "indices": indices, "threads": threads, "engine": model.engine})
)
