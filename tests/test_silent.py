"""The scoreboard of silent errors: what toplabel itself does in every case."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.shared_data, pytest.mark.timeout(4500)]


def test_no_case_but_few_bgr_arrays_gives_us_a_silent_wrong_label(tmp_path, shared_data):
    from benchmarks.bench import Bench
    from benchmarks.silent.__main__ import NETWORK_CASES, run
    from benchmarks.silent.inputs import CASES

    cells = run(Bench(tmp_path), tool="toplabel")["cells"]
    assert len(cells) == len(NETWORK_CASES) + len(CASES)
    outcomes = {name: row["toplabel"]["outcome"] for name, row in cells.items()}
    few = outcomes.pop("BGR arrays, 4")  # too few for the warning to be sure
    assert few in ("silently wrong", "wrong, warned")
    silent = {
        name for name, outcome in outcomes.items() if outcome in ("silently wrong", "list lost")
    }
    assert silent == set()
    assert outcomes["BGR arrays, 10"] == "wrong, warned"
    assert outcomes["label order"] == "wrong, warned"
    assert outcomes["NaN weights"] == "named error"
    assert outcomes["16-bit grey PNG"] == "right"
