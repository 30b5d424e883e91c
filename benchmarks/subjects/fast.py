"""Make the built-in model's reduced program, and count what it changes on photos it never saw.

python fast.py KNOWN PHOTO...: the first KNOWN of the photos are of classes that it knows.
"""

import json
import sys

import toplabel
from toplabel.inference.cascade import ReducedCounts

known, photos = int(sys.argv[1]), sys.argv[2:]
made_with, held_out = photos[::3], [p for place, p in enumerate(photos) if place % 3]
of_known = set(photos[:known])
toplabel.optimize(None, made_with)
exact, fast = toplabel.load(), toplabel.load(fast=True)
program = fast.reduced
counts, counts_of_known, changed = ReducedCounts(), ReducedCounts(), 0
for one, other in zip(exact.stream(held_out), fast.stream(held_out), strict=True):
    counts = counts.add(other)
    if other.source in of_known:
        counts_of_known = counts_of_known.add(other)
    changed += one.label != other.label
found = {"made_with": len(made_with), "images": counts.images}
if program is not None:
    found |= {
        "changed": changed,
        "again": counts.again,
        "images_of_known": counts_of_known.images,
        "again_of_known": counts_of_known.again,
        "audited": counts.audited,
        "margin": program.margin.to_dict(),
        "said": str(program.margin),
        "precision": program.precision,
        "speedup": program.speedup,
    }
print(json.dumps(found))
