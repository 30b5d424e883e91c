"""Every reported kind by one tool: TOOL [KIND...] in; a line of JSON, the outcomes, out."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # nothing is timed here
sys.path.insert(0, str(Path(__file__).parent))

import modules  # noqa: F401
import names  # noqa: F401
import preparing  # noqa: F401
import torch
from scene import KINDS, Scene, outcome

import checkpoints  # noqa: F401  (each registers its kinds)
import engines  # noqa: F401


def main() -> None:
    """The kinds that are named, or all."""
    tool, *asked = sys.argv[1:]
    found = {}
    for name in asked or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            scene = Scene(Path(folder))
            with torch.no_grad():
                trial = KINDS[name][1](scene)
            word, detail = outcome(trial, tool)
        found[name] = {"outcome": word, "detail": re.sub(r"/\S*/(?=\w)", "", detail)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
