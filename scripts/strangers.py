"""Try toplabel on checkpoints and scripts of strangers, against their authors' own code.

    python scripts/strangers.py FOLDER [--half A] [--only NAME ...] [--images FOLDER]
        [--references FILE] [--details] [--json FILE] [--extra-path FOLDER] [-- FLAG ...]

FOLDER holds clones of repositories, each with a `note.json`, made by hand:

    checkpoint      the file, from the repository's root
    script          what --script is given: a .py, .ipynb or .md file
    class           {"name": "Net", "at": "train.py:31" or "train.ipynb cell 4 line 1"}
    constructor     the call that makes it, "Net(num_classes=10)"; perhaps "Net(n, m) with 784, 10"
    preprocessing   a list of operations in words, in order: "convert L", "Resize (28,28)",
                    "ToTensor", "Normalize 0.5/0.5"; where the author has several ways, a line each
                    as "app.py: PIL convert RGB, Resize (224,224), ToTensor"
    names           "index", or where they stand: "classes list test.py:25"
    input           "3x32x32"
    inverts         true where images are dark on light
    half            A to develop with, B kept back
    not_counted     why no label is due: a named error is right
    reference       where the words do not suffice: {"at", "name", "network": statements that bind
                    `network`, "preprocessing": [...], "preprocess": statements that bind a
                    function of a PIL image, "names": [...]}; or in --references, a JSON object of
                    such by folder

For each, the author's class and transform answer a few images in eager PyTorch
(scripts/strangers_reference.py: their code runs there, in a temporary copy, limited in time,
without a network), then `toplabel IMAGE ... -m CHECKPOINT --script SCRIPT` does at the first try,
and, where that ends in an error, with the options that the error proposes. Verdicts:

    right           every index, and every name where the author has names, is the author's
    right after     the same with one of the options that the error itself proposes
    warned          some are not, and a warning says what was assumed
    silent          some are not, and nothing says so
    error           a named error
    crash           a traceback, or no end within the limit
    no reference    the author's code does not run here

The checkpoint's hash and all files of the copy are compared before and after.
"""

import argparse
import ast
import atexit
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageFont

import strangers_reference
import toplabel.cli
import toplabel.models.sources.checkpoint  # torch, once for all children

SECONDS = 240
VERDICTS = ("right", "right after", "warned", "silent", "error", "crash", "no reference")
SCORE_TOLERANCE = 0.02
PROPOSED = re.compile(r"--(?:preprocess|model-output|arch|labels)(?: [^\s;,()]+)+")


@dataclass(kw_only=True)
class Outcome:
    """What happened with one repository.

    Args:
        name: Of its folder.
        counted: A label is due.
        verdict: One of `VERDICTS`.
        said: What toplabel said: the error, or warnings.
        detail: What differs, or why there is no reference.
        changed: Files that were written or changed.
        scores_differ: Indices are right, scores are not.
    """

    name: str
    counted: bool
    verdict: str
    said: list[str] = field(default_factory=list)
    detail: str = ""
    changed: list[str] = field(default_factory=list)
    scores_differ: bool = False


def main() -> int:
    """Try all that are asked for, and print the table."""
    options = _options()
    sys.path += map(str, options.extra_path)  # the environment's own packages come first
    references = json.loads(options.references.read_text()) if options.references else {}
    outcomes = []
    for folder in sorted(options.folder.iterdir()):
        note_path = folder / "note.json"
        if not note_path.is_file() or (options.only and folder.name not in options.only):
            continue
        note = json.loads(note_path.read_text())
        note["reference"] = {**note.get("reference", {}), **references.get(folder.name, {})}
        if options.half and note["half"] != options.half:
            continue
        outcome = attempt(folder, note, options)
        outcomes.append(outcome)
        if options.details:
            print(_detail(outcome), flush=True)
    print(table(outcomes))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=["A", "B"])
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--images", type=Path, help="real images to try beside the drawn ones")
    parser.add_argument("--references", type=Path)
    parser.add_argument("--details", action="store_true", help="a line for each repository")
    parser.add_argument("--json", type=Path, help="where to save the outcomes")
    parser.add_argument(
        "--extra-path",
        type=Path,
        action="append",
        default=[],
        help="packages that the authors' code imports",
    )
    own, _, flags = (list(part) for part in _cut(sys.argv[1:], "--"))
    return parser.parse_args(own, argparse.Namespace(flags=flags))


def _cut(arguments: Sequence[str], mark: str) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """What stands before a mark, the mark, and what stands after it: flags for toplabel."""
    at = arguments.index(mark) if mark in arguments else len(arguments)
    return arguments[:at], arguments[at : at + 1], arguments[at + 1 :]


def attempt(folder: Path, note: Mapping[str, Any], options: argparse.Namespace) -> Outcome:
    """The verdict on one repository."""
    with tempfile.TemporaryDirectory(prefix="strangers-") as temporary:
        place = Path(temporary)
        drawn = draw_images(place / "images", note, options.images)
        copy = place / "reference"
        shutil.copytree(folder, copy)
        answers = ask_author(copy, note, drawn, place, options)
        copy = place / folder.name
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("note.json", ".src.json"))
        before = fingerprints(copy)
        outcome = ask_toplabel(copy, note, drawn, answers, place, options)
        after = fingerprints(copy)
        outcome.changed = sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        )
    return outcome


def fingerprints(folder: Path) -> dict[str, str]:
    """Each file's SHA-256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- images ------------------------------------------------------------------------------------


def draw_images(folder: Path, note: Mapping[str, Any], real: Path | None) -> list[Path]:
    """Images of the kind that the network is for, of its size, and larger where that is resized."""
    folder.mkdir()
    channels, side = _input(note)
    chance = random.Random(str(note["repo"]))
    words = " ".join(note.get("reference", {}).get("preprocessing") or note["preprocessing"])
    resizes = re.search(r"resize", re.sub(r"no resiz\w+", "", words), re.IGNORECASE) is not None
    made: list[Image.Image] = []
    for number in range(6):
        size = 4 * side + 40 if resizes and number % 2 and side < 100 else side
        drawn = _strokes(size, str(chance.randrange(10)), chance)
        made.append(drawn if channels == 1 else _coloured(drawn, chance))
    photos = sorted(real.rglob("*.[jJp][pPn][eEg]*")) if real else []
    for path in chance.sample(photos, min(6, len(photos))):
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        photo = photo if resizes else photo.resize((side, side))
        made.append(photo.convert("L") if channels == 1 else photo)
    paths = []
    for number, image in enumerate(made):
        image = Image.eval(image, lambda value: 255 - value) if note.get("inverts") else image
        paths.append(folder / f"{number}.png")
        image.save(paths[-1])
    return paths


def _input(note: Mapping[str, Any]) -> tuple[int, int]:
    """The channels and the side of a network's input."""
    match = re.match(r"(\d)x(\d+)x(\d+)", note["input"])
    if match:
        return int(match[1]), int(match[2])
    return 1, 28


def _strokes(side: int, text: str, chance: random.Random) -> Image.Image:
    """A digit, bright on dark, a little blurred: grey."""
    image = Image.new("L", (side, side))
    font = ImageFont.load_default(size=0.8 * side)
    offset = side * (0.25 + chance.uniform(-0.08, 0.08)), side * chance.uniform(-0.05, 0.1)
    ImageDraw.Draw(image).text(offset, text, fill=chance.randrange(200, 256), font=font)
    return image.filter(ImageFilter.GaussianBlur(side / 60))


def _coloured(shape: Image.Image, chance: random.Random) -> Image.Image:
    """A shape of one colour on a shaded ground of another."""
    size = shape.size
    colours = [tuple(chance.randrange(256) for _ in range(3)) for _ in range(3)]
    ground = Image.composite(
        Image.new("RGB", size, colours[0]),
        Image.new("RGB", size, colours[1]),
        Image.linear_gradient("L").resize(size),
    )
    return Image.composite(Image.new("RGB", size, colours[2]), ground, shape)


# --- the author's answers ----------------------------------------------------------------------


def ask_author(
    copy: Path,
    note: Mapping[str, Any],
    images: Sequence[Path],
    place: Path,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What the child process finds: {"pipelines": ...} or {"problem": ...}."""
    if note.get("not_counted"):
        return {"problem": "no label is due"}
    files = {"note": note, "images": [str(path) for path in images]}
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    answers = place / "answers.json"
    arguments = [str(place / "note.json"), str(place / "images.json"), str(answers)]
    environment = {"HOME": str(place), "MPLBACKEND": "Agg"}

    def answer() -> None:
        strangers_reference.main(*arguments)

    done = in_child(answer, copy, environment, place)
    if done.status is None:
        return {"problem": f"longer than {SECONDS} s"}
    if not answers.is_file():
        return {"problem": done.errors.strip().split("\n")[-1][:300]}
    found: dict[str, Any] = json.loads(answers.read_text())
    return found


def author_names(folder: Path, note: Mapping[str, Any]) -> list[str] | None:
    """The class names, where the note says in which variable they stand; None where not."""
    stated = note.get("reference", {}).get("names")
    if stated:
        return [str(name) for name in stated]
    match = re.match(r"(?P<name>[A-Za-z_]\w*) (?:list|tuple|dict)\b", str(note["names"]))
    if match is None:
        return None
    stands = re.search(r"([\w./-]+\.py)", str(note["names"]))
    first = [folder / name for name in (stands and stands[1], note["script"]) if name]
    for path in [*filter(Path.is_file, first), *sorted(folder.rglob("*.py"))]:
        for value in _assigned(path, match["name"]):
            if isinstance(value, dict):
                keyed = all(isinstance(key, int) for key in value)
                value = [v for _, v in sorted(value.items())] if keyed else list(value)
            return [str(one) for one in value]
    return None


def _assigned(path: Path, name: str) -> Iterator[Any]:
    """The literal values that a file gives a variable."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(
            getattr(target, "id", None) == name for target in node.targets
        ):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            if isinstance(value, list | tuple | dict):
                yield value


# --- toplabel's answers ------------------------------------------------------------------------


def ask_toplabel(
    copy: Path,
    note: Mapping[str, Any],
    images: Sequence[Path],
    answers: Mapping[str, Any],
    place: Path,
    options: argparse.Namespace,
) -> Outcome:
    """The verdict of the first try, and of what its error proposes."""
    counted = not note.get("not_counted")
    outcome = Outcome(
        name=copy.name, counted=counted, verdict="", detail=answers.get("problem", "")
    )
    arguments = [*map(str, images), "-m", note["checkpoint"], "--script", note["script"]]
    records, error, outcome.said = run_toplabel([*arguments, *options.flags], copy, place)
    if error == "crash":
        outcome.verdict = "crash"
    elif not records:
        outcome.verdict = "error"
        if counted and "problem" not in answers:
            for flags in proposals(outcome.said):
                records, _, _ = run_toplabel([*arguments, *options.flags, *flags], copy, place)
                if records and not differences(records, answers, None):
                    outcome.verdict, outcome.detail = "right after", " ".join(flags)
                    break
    elif "problem" in answers:
        outcome.verdict = "no reference" if counted else "silent"
    else:
        names = author_names(copy, note)
        wrong = differences(records, answers, names)
        outcome.detail = "; ".join(wrong)
        outcome.scores_differ = not wrong and scores_differ(records, answers)
        said = any(record["warnings"] for record in records)
        outcome.verdict = "right" if not wrong else "warned" if said else "silent"
    return outcome


def run_toplabel(
    arguments: list[str], copy: Path, place: Path
) -> tuple[list[dict[str, Any]], str, list[str]]:
    """The records, "crash" where it crashed, and what it said."""

    def label() -> None:
        sys.argv = ["toplabel", *arguments, "--json"]
        toplabel.cli.main()

    done = in_child(label, copy, {"TOPLABEL_CACHE": str(place / "cache")}, place)
    said = done.errors.strip().split("\n")
    if done.status is None:
        return [], "crash", [f"longer than {SECONDS} s"]
    if done.status not in (0, 1, 2) or "internal error" in done.errors:
        return [], "crash", said
    records = [json.loads(line) for line in done.output.splitlines()]
    failed = [record["error"]["message"] for record in records if record["error"]]
    if failed:
        internal = any((r["error"] or {}).get("code") == "internal" for r in records)
        return [], "crash" if internal else "error", failed
    warned = [warning for record in records[:1] for warning in record["warnings"]]
    return records, "", [*said, *warned]


def proposals(said: Sequence[str]) -> list[list[str]]:
    """The options that a message proposes, each alone; those with placeholders are left out."""
    found = [match.split(" ") for line in said for match in PROPOSED.findall(line)]
    kept = [
        [f[0], f[1]] for f in found if not re.match(r"PRESET|classes\.txt|nets\.py|\.\.\.", f[1])
    ]
    return [list(one) for one in dict.fromkeys(map(tuple, kept))][:6]


def differences(
    records: Sequence[Mapping[str, Any]], answers: Mapping[str, Any], names: list[str] | None
) -> list[str]:
    """How records differ from the nearest of the author's ways; nothing where they do not."""
    found = []
    for way, rows in answers["pipelines"].items():
        wrong = []
        for record, row in zip(records, rows, strict=True):
            if not row:  # the author's own code fails on this image
                continue
            index = max(range(len(row)), key=row.__getitem__)
            label, expected = (
                record["label"],
                names[index] if names and index < len(names) else None,
            )
            if record["index"] != index:
                close = sorted(row)[-1] - sorted(row)[-2]
                wrong.append(f"{way}: {record['index']} for {index} (lead {close:.3f})")
            elif expected and label not in (expected, str(index)):
                wrong.append(f"{way}: {label!r} for {expected!r}")
        found.append(wrong)
    return min(found, key=len)


def scores_differ(records: Sequence[Mapping[str, Any]], answers: Mapping[str, Any]) -> bool:
    """Whether scores of the nearest way are not the author's."""
    return not any(
        all(
            abs(record["score"] - row[record["index"]]) < SCORE_TOLERANCE
            for record, row in zip(records, rows, strict=True)
            if row
        )
        for rows in answers["pipelines"].values()
    )


# --- child processes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """What a child process left: its exit status, None where it took too long, and its output."""

    status: int | None
    output: str
    errors: str


def in_child(
    work: Callable[[], None], folder: Path, environment: Mapping[str, str], place: Path
) -> Done:
    """Do some work in a fork of this process, which has imported the libraries already.

    Args:
        work: What to do there.
        folder: Its current folder.
        environment: Variables that differ there.
        place: For files with what it prints.
    """
    paths = place / "output", place / "errors"
    child = os.fork()
    if child == 0:
        try:
            for stream, path in zip((1, 2), paths, strict=True):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdout, sys.stderr = io.open(1, "w"), io.open(2, "w")  # noqa: SIM115, UP020
            os.chdir(folder)
            os.environ.update(environment, TMPDIR=str(place))
            atexit._clear()  # or it removes this process's temporary folder
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(70)
    status = _wait(child)
    output, errors = (path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return Done(status, output, errors)


def _wait(child: int) -> int | None:
    """Its exit status; None, and its end, where it takes too long."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


# --- the table ---------------------------------------------------------------------------------


def table(outcomes: Sequence[Outcome]) -> str:
    """How many got which verdict."""
    counted = [one for one in outcomes if one.counted]
    verdicts = Counter(one.verdict for one in counted)
    lines = [f"of {len(counted)} networks", ""]
    lines += [f"  {verdict:<14}{verdicts[verdict]:>4}" for verdict in VERDICTS]
    others = Counter(one.verdict for one in outcomes if not one.counted)
    lines += ["", f"  where no label is due: {dict(others)}"]
    lines += [f"  right, with other scores: {sum(one.scores_differ for one in counted)}"]
    lines += [f"  files changed: {sum(bool(one.changed) for one in outcomes)} repositories"]
    return "\n".join(lines)


def _detail(one: Outcome) -> str:
    said = " | ".join(one.said)[:700] if one.verdict != "right" else ""
    parts = [one.verdict.upper(), one.name, one.detail, said]
    parts += ["SCORES"] * one.scores_differ + [f"CHANGED {one.changed}"] * bool(one.changed)
    return "  ".join(part for part in parts if part)


if __name__ == "__main__":
    sys.exit(main())
