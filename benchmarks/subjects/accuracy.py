"""Compare toplabel with what eager PyTorch gave: top five and scores.

python accuracy.py REFERENCE PHOTO...
"""

import json
import sys
from pathlib import Path

import toplabel

reference, *photos = sys.argv[1:]
expected = json.loads(Path(reference).read_text())["top5"]
result = {"photos": 0, "equal_top5": 0, "score_difference": 0.0, "guarded_equal_top1": 0}
exact = toplabel.load(exact=True).stream(photos, top_k=5)
guarded = toplabel.load().stream(photos, top_k=1)
for photo, full, fast in zip(photos, exact, guarded, strict=True):
    wanted = expected[Path(photo).name]
    differences = [
        abs(candidate.score - score)
        for candidate, score in zip(full.top, wanted["score"], strict=True)
    ]
    result["photos"] += 1
    result["equal_top5"] += [candidate.index for candidate in full.top] == wanted["index"]
    result["guarded_equal_top1"] += fast.index == wanted["index"][0]
    result["score_difference"] = max(result["score_difference"], *differences)
print(json.dumps(result))
