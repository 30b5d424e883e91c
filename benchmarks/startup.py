"""Start-up: `toplabel --help` and `import toplabel`, against an interpreter that does nothing."""

from __future__ import annotations

from functools import partial
from statistics import median

from benchmarks.bench import Bench
from benchmarks.materials import base_install
from benchmarks.measure import interleave, run, spread
from benchmarks.results import Row, Section

_TIMED_IMPORT = (
    "import time; start = time.perf_counter(); import toplabel; print(time.perf_counter() - start)"
)


def measure(bench: Bench) -> Section:
    """Seconds of both, in the environment of the base install."""
    installed = base_install(bench)
    environment = bench.environment()
    runs = interleave(
        {
            "pass": partial(run, [installed.python, "-c", "pass"], environment=environment),
            "import": partial(
                run, [installed.python, "-c", _TIMED_IMPORT], environment=environment
            ),
            "help": partial(run, [installed.command, "--help"], environment=environment),
        },
        repeats=bench.repeats(21),
    )
    seconds = {name: [one.seconds for one in repeats] for name, repeats in runs.items()}
    within = [float(one.output) for one in runs["import"]]
    return Section(
        title="Start-up",
        rows=(
            Row(what="`python -c pass`", figure=spread(seconds["pass"], "s", digits=3)),
            Row(
                what="`toplabel --help`, whole process",
                figure=spread(seconds["help"], "s", digits=3),
                goal="< 0.15 s",
                met=median(seconds["help"]) < 0.15,
            ),
            Row(
                what="`python -c 'import toplabel'`, whole process",
                figure=spread(seconds["import"], "s", digits=3),
            ),
            Row(
                what="`import toplabel`, the statement itself",
                figure=spread(within, "s", digits=4),
                goal="< 0.03 s",
                met=median(within) < 0.03,
            ),
        ),
        raw={**seconds, "import statement": within},
    )
