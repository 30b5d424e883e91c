"""Network cases: what one tool makes of a mistake with weights, labels or arrays.

python network_cases.py CASE TOOL CHECKPOINTS PHOTO...

Prints a line of JSON: `outcome` and `detail`. Each case is the tool's documented use, with one
thing wrong that people get wrong; the right answer is known, because the case was made so.
"""

import json
import sys
from pathlib import Path

import array_cases  # noqa: F401  (each registers its cases)
import drift_cases  # noqa: F401
import label_cases  # noqa: F401
import preprocessing_cases  # noqa: F401
import weight_cases  # noqa: F401
from cells import CASES, SILENT, WARNED
from input_tools import Logged


def main() -> None:
    """One cell."""
    name, tool, checkpoints, *photos = sys.argv[1:]
    logged = Logged()
    with logged:
        outcome, detail = CASES[name, tool](Path(checkpoints), photos)
    if outcome == SILENT and logged.said:  # people see that on standard error
        outcome, detail = WARNED, f"{detail}; logged: {logged.said[0][:120]}"
    print(json.dumps({"outcome": outcome, "detail": detail}))


if __name__ == "__main__":
    main()
