"""The rows of the scoreboard of silent errors: each is one kind, with where it was reported."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.silent.inputs import CASES
from benchmarks.silent.reported.listing import kinds
from benchmarks.silent.reports import REPORTS

CONTROL = "plain JPEG, for comparison"


def test_at_least_eighty_kinds_have_a_report_and_only_the_control_has_none():
    rows = [*REPORTS, *kinds(), *(name for name, _, _ in CASES)]
    without = {name for name in rows if not (REPORTS | kinds()).get(name)}
    assert without == {CONTROL}
    assert len(set(rows)) > 80


def test_every_report_names_a_repository_and_a_number():
    for reports in (REPORTS | kinds()).values():
        for one in reports:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", one), one


def test_every_report_of_an_odd_file_belongs_to_a_case():
    from benchmarks.silent.__main__ import NETWORK_CASES

    assert set(REPORTS) == {*NETWORK_CASES, *(name for name, _, _ in CASES)} - {CONTROL}
