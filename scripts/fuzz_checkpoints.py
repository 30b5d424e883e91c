"""Fuzz the reading of checkpoints: damaged files of every format in, a table of outcomes out.

    python scripts/fuzz_checkpoints.py --files 10000 --seed 0

Every file is a seed (made by `tests/checkpoints.py`) with bytes flipped, cut, inserted, swapped or
spliced; of zip files, half are packed again with right checksums, so that their pickles reach
torch. The header of each is read and, where that succeeds, its tensors, in a child process that
ends at 20 seconds or 6 GB. Exit status 1: a crash, a hang, a foreign exception, or more than 1 s or
50 MB for one header. The same seed makes the same files.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

_BATCH = 1000
_SECONDS, _BYTES = 20, 6 << 30
_HEADER_SECONDS, _HEADER_KILOBYTES = 1.0, 50_000
_FINE = ("refused by its header", "refused when read", "read as it was", "read as something else")


def make_seeds(folder: Path) -> dict[str, bytes]:
    """One small file of each format, by name."""
    import torch

    import checkpoints as made

    torch.set_num_threads(1)
    content, network = made.training_content(), made.small_network()
    gadget = made.whole(made.gadgets(folder / "marker")["nested"][1])
    made.save_zip(folder / "zip", content)
    made.save_zip(folder / "zip module", network)
    torch.save(content, folder / "zip protocol 4", pickle_protocol=4)
    made.save_legacy(folder / "legacy", content)
    made.save_legacy(folder / "legacy module", network)
    made.save_safetensors(folder / "safetensors", network.state_dict())
    made.save_tar(folder / "tar", gadget)
    made.zip_around(folder / "zip gadget", gadget)
    made.legacy_around(folder / "legacy gadget", gadget)
    (folder / "pickle").write_bytes(pickle.dumps(content["state_dict"]))
    (folder / "arrays").write_bytes(
        pickle.dumps({name: t.numpy() for name, t in content["state_dict"].items()})
    )
    (folder / "index").write_bytes(made.save_sharded(folder, network.state_dict()).read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(network.eval(), torch.ones(1, 3, 8, 8))
        script.save(folder / "torchscript")
    names = [path.name for path in sorted(folder.iterdir()) if not path.suffix]
    return {name: (folder / name).read_bytes() for name in names}


def mutate(body: bytes, other: bytes, chance: random.Random) -> bytes:
    """`body` with one to four kinds of damage, mostly one and small."""
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(changed) + 1)
        length = chance.choice((1, 1, 2, 4, 4, 40))
        damage = chance.choice(("flip", "flip", "set", "cut", "end", "insert", "swap", "splice"))
        if damage == "flip" and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif damage == "set":
            changed[at : at + length] = chance.choice((b"\0", b"\xff", b"\x80")) * length
        elif damage == "cut":
            del changed[at : at + length]
        elif damage == "end":
            del changed[at:]
        elif damage == "insert":
            changed[at:at] = chance.randbytes(length)
        elif damage == "swap":
            to = chance.randrange(len(changed) + 1)
            changed[at : at + length], changed[to : to + length] = (
                changed[to : to + length],
                changed[at : at + length],
            )
        elif damage == "splice" and other:
            start = chance.randrange(len(other))
            changed[at : at + length] = other[start : start + 4 * length]
    return bytes(changed)


def repack(path: Path, target: Path, other: bytes, chance: random.Random) -> None:
    """The zip file at `path` with its pickle damaged, and checksums that are right."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            body = old.read(entry)
            if entry.filename.endswith("data.pkl") or chance.random() < 0.05:
                body = mutate(body, other, chance)
            new.writestr(entry.filename, body)


def write_mutant(
    number: int, seeds: dict[str, bytes], folder: Path, *, seed: int
) -> tuple[str, Path]:
    """The damaged file of that number, and the name of what it was."""
    chance = random.Random(f"{seed} {number}")
    name = sorted(seeds)[number % len(seeds)]
    other = seeds[chance.choice(sorted(seeds))]
    path = folder / "mutant"
    if name.startswith("zip") and chance.random() < 0.5:
        repack(folder / name, path, other, chance)
    else:
        path.write_bytes(mutate(seeds[name], other, chance))
    return name, path


def outcome_of(path: Path, original: object) -> tuple[str, float, int]:
    """What became of a file, and the seconds and kilobytes that reading its header took."""
    from toplabel.errors import CheckpointError
    from toplabel.models.checkpoint.header import read_checkpoint_info
    from toplabel.models.checkpoint.reading import read_checkpoint

    Path("/proc/self/clear_refs").write_text("5")
    before, start = _peak(), time.process_time()
    seconds, growth = 0.0, 0
    stage = "refused by its header"
    try:
        try:
            info = read_checkpoint_info(path)
        finally:
            seconds, growth = time.process_time() - start, _peak() - before
        stage = "refused when read"
        content = read_checkpoint(info)
        same = original is not None and are_equal(content, original)
        return ("read as it was" if same else "read as something else"), seconds, growth
    except CheckpointError as error:
        fine = "\n" not in str(error) and len(str(error)) < 2000
        return (stage if fine else f"an error that is no line: {error!r}"[:200]), seconds, growth
    except Exception as error:
        return f"foreign {type(error).__name__}: {error}"[:200], seconds, growth


def are_equal(one: object, other: object) -> bool:
    """Whether two contents hold the same values and tensors, bit by bit."""
    import torch

    from toplabel.models.checkpoint.info import UnknownObject

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = (one.dtype, one.shape) == (other.dtype, other.shape)
        return same and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(are_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    if isinstance(one, UnknownObject) and isinstance(other, UnknownObject):
        return one.kind == other.kind and are_equal(one.state, other.state)
    return type(one) is type(other) and one == other


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def run_child(first: int, last: int, *, seed: int) -> None:
    """Write a line of JSON for each file: its number before, its outcome after."""
    resource.setrlimit(resource.RLIMIT_DATA, (_BYTES, _BYTES))
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        seeds = make_seeds(folder)
        originals = {name: _read_seed(folder / name) for name in seeds}
        for number in range(first, last):
            print(json.dumps([number]), flush=True)
            name, path = write_mutant(number, seeds, folder, seed=seed)
            signal.alarm(_SECONDS)
            outcome, seconds, growth = outcome_of(path, originals[name])
            signal.alarm(0)
            if (folder / "marker").exists():
                outcome = "CODE WAS RUN"
            print(json.dumps([number, name, outcome, seconds, growth]), flush=True)


def _read_seed(path: Path) -> object:
    from toplabel.errors import CheckpointError
    from toplabel.models.checkpoint.header import read_checkpoint_info
    from toplabel.models.checkpoint.reading import read_checkpoint

    try:
        return read_checkpoint(read_checkpoint_info(path))
    except CheckpointError:
        return None


def run_children(files: int, *, seed: int) -> Iterator[tuple[int, str, str, float, int]]:
    """Number, format, outcome, seconds and kilobytes of each file."""
    first = 0
    while first < files:
        last = min(first + _BATCH, files)
        command = [sys.executable, __file__, "--child", str(first), str(last), "--seed", str(seed)]
        answer = subprocess.run(command, capture_output=True, text=True)
        rows = [json.loads(line) for line in answer.stdout.splitlines()]
        yield from (tuple(row) for row in rows if len(row) > 1)
        if answer.returncode and not rows:
            raise SystemExit(answer.stderr)
        if answer.returncode:
            reason = "hang" if answer.returncode == -signal.SIGALRM else "crash"
            yield rows[-1][0], "?", f"{reason} ({answer.returncode}): {answer.stderr[-300:]}", 0, 0
        first = rows[-1][0] + 1


def main() -> int:
    """Fuzz, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(*options.child, seed=options.seed)
        return 0
    counts: Counter[tuple[str, str]] = Counter()
    bad, slowest, largest = [], 0.0, 0
    for number, name, outcome, seconds, growth in run_children(options.files, seed=options.seed):
        counts[name, outcome if outcome in _FINE else "BAD"] += 1
        slowest, largest = max(slowest, seconds), max(largest, growth)
        costly = seconds > _HEADER_SECONDS or growth > _HEADER_KILOBYTES
        if outcome not in _FINE or costly:
            bad.append(f"file {number} ({name}): {outcome}, {seconds:.2f} s, {growth} kB")
    print_table(counts)
    print(f"slowest header {slowest:.2f} s, largest growth {largest / 1000:.1f} MB")
    print("\n".join(bad[:50]) or f"{counts.total()} files: no crash, no hang, no foreign exception")
    return 1 if bad or counts.total() != options.files else 0


def print_table(counts: Counter[tuple[str, str]]) -> None:
    """Files by format and outcome."""
    print("| format |", " | ".join((*_FINE, "BAD")), "|")
    print("|---|" + "---:|" * (len(_FINE) + 1))
    for name in sorted({name for name, _ in counts}):
        print(f"| {name} |", " | ".join(str(counts[name, o]) for o in (*_FINE, "BAD")), "|")


if __name__ == "__main__":
    raise SystemExit(main())
