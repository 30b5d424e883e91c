"""Label photos in eager PyTorch in three precisions; print the indices of each as JSON."""

import json
import runpy
import sys
from pathlib import Path

import toplabel

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_built_in_bundle.py"

model = runpy.run_path(str(SCRIPT))["build_model"]()
indices = {}
for dtype in ("float32", "bfloat16", "float16"):
    predictor = toplabel.wrap(
        model.module,
        labels=model.labels,
        preprocess=model.preprocess,
        engine="torch",
        dtype=dtype,
        exact=True,
    )
    indices[dtype] = [prediction.index for prediction in predictor.stream(sys.argv[1:])]
print(json.dumps(indices))
