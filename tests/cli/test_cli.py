"""The command line, through real processes, pipes, signals and terminals."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import toplabel
from terminals import read_terminal
from toplabel._internal.text import unescape_name
from toplabel.cli.group import COMMANDS, toplabel as group
from toplabel.preprocess.presets import PRESETS

TOPLABEL = (sys.executable, "-m", "toplabel")
COLUMNS = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"}


@pytest.fixture(autouse=True)
def importable_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes in other folders import the same toplabel as this one."""
    monkeypatch.setenv("PYTHONPATH", str(Path(toplabel.__file__).parents[1]))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn JPEG; what the model takes it for does not matter."""
    path = tmp_path_factory.mktemp("photos") / "drawn.jpg"
    Image.radial_gradient("L").resize((320, 240)).convert("RGB").save(path)
    return path


@pytest.fixture
def flamingo(shared_data: Path) -> Path:
    return shared_data / "imagenet" / "n02007558_flamingo.JPEG"


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*TOPLABEL, *map(str, arguments)], capture_output=True, **options)


def fails(*arguments: object) -> str:
    """The one line on standard error of a call that can do nothing."""
    done = run(*arguments, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("toplabel: ")
    return line.removeprefix("toplabel: ")


def at_terminal(
    *arguments: object, stdout: int | None = None, stderr: int | None = None
) -> tuple[int, str]:
    """Exit status and what the terminal shows; either stream may go elsewhere."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*TOPLABEL, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs if stderr is None else stderr,
        env=os.environ | COLUMNS,
    )
    os.close(theirs)
    shown = b"".join(read_terminal(ours))
    os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n")


# Records


@pytest.mark.shared_data
def test_a_pipe_gets_source_label_score(flamingo: Path):
    done = run(flamingo)
    source, label, score = done.stdout.decode().rstrip("\n").split("\t")
    assert (source, label) == (str(flamingo), "flamingo")
    assert float(score) > 0.9
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.shared_data
def test_the_first_word_may_be_the_command(flamingo: Path):
    assert run("predict", flamingo).stdout == run(flamingo).stdout


@pytest.mark.shared_data
def test_json_records_stand_in_order_and_hold_failures(flamingo: Path, photo: Path):
    done = run(flamingo, "nosuch.jpg", photo, flamingo, "--json", "-k", 3)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["source"] for r in records] == [*map(str, [flamingo, "nosuch.jpg", photo, flamingo])]
    assert [len(r["top"] or "") for r in records] == [3, 0, 3, 3]
    assert records[1]["error"]["code"] == "not_found"
    assert records[0] == records[3]
    assert list(records[0]) == list(records[1])
    assert done.returncode == 1
    assert done.stderr == b"toplabel: 1 of 4 inputs failed; see their records\n"


def test_json_gives_five_classes_unless_told(photo: Path):
    assert len(json.loads(run(photo, "--json").stdout)["top"]) == 5
    assert len(json.loads(run(photo, "--json", "--topk", "2000").stdout)["top"]) == 1000


@pytest.mark.shared_data
def test_quiet_keeps_a_line_for_each_input(flamingo: Path):
    done = run("-q", flamingo, "nosuch.jpg", flamingo)
    assert done.stdout == b"flamingo\n\nflamingo\n"
    assert done.stderr == b"toplabel: cannot read 'nosuch.jpg': no such file\n"
    assert done.returncode == 1


@pytest.mark.shared_data
def test_standard_input_is_a_dash(flamingo: Path):
    done = run("-", "-q", input=flamingo.read_bytes())
    assert (done.returncode, done.stdout) == (0, b"flamingo\n")


def test_csv_has_one_header(photo: Path):
    lines = run(photo, photo, "--csv").stdout.splitlines()
    assert lines[0].startswith(b"source,label,index,score,")
    assert len(lines) == 3


def test_a_failed_input_is_a_line_with_an_empty_label(photo: Path, tmp_path: Path):
    (tmp_path / "empty.jpg").touch()
    done = run(tmp_path / "empty.jpg", photo)
    first, second = done.stdout.decode().splitlines()
    assert first == f"{tmp_path}/empty.jpg\t\t"
    assert second.startswith(f"{photo}\t")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


def test_a_folder_gives_its_pictures_in_order(photo: Path, tmp_path: Path):
    for name in ("b.jpg", "a.jpg", "c.txt"):
        shutil.copy(photo, tmp_path / name)
    lines = run(tmp_path).stdout.decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]
    pattern = run(tmp_path / "[ab].*").stdout.decode().splitlines()
    assert pattern == lines


def test_names_that_are_no_utf8_keep_their_bytes_on_lines_and_are_written_out_in_json(
    photo: Path, tmp_path: Path
):
    name = os.fsencode(tmp_path) + b"/\xff\xe9\t=.jpg"
    shutil.copy(photo, name)
    lines = subprocess.run([*TOPLABEL, name], capture_output=True, check=True).stdout
    assert lines.startswith(name.replace(b"\t", b"\\t") + b"\t")
    record = subprocess.run([*TOPLABEL, name, "--json"], capture_output=True, check=True).stdout
    assert os.fsencode(unescape_name(json.loads(record.decode())["source"])) == name


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_records_are_utf8_whatever_the_locale(encoding: str, photo: Path, tmp_path: Path):
    path = shutil.copy(photo, tmp_path / "猫.jpg")
    done = run(path, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert done.stdout.startswith(os.fsencode(path) + b"\t")


def test_a_name_that_begins_with_a_dash_follows_two_dashes(photo: Path, tmp_path: Path):
    shutil.copy(photo, tmp_path / "-k.jpg")
    assert run("--", "-k.jpg", cwd=tmp_path).stdout.startswith(b"-k.jpg\t")


# What cannot be done


def test_nothing_to_do_shows_the_usage():
    done = run()
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Usage: toplabel INPUT..." in done.stderr
    assert b"Example: toplabel cat.jpg" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.jpg", "--jsn"], "--jsn"),
        (
            ["x.jpg", "--num-classes", "5"],
            "(an argument of the network's class is --arch-arg num_classes=...; ",
        ),
        (["x.jpg", "-k", "0"], "0 is not in the range x>=1"),
        (["x.jpg", "-k", "many"], "'many' is not a valid integer"),
        (["x.jpg", "--threshold", "1.5"], "1.5 is not in the range 0<=x<=1"),
        (["x.jpg", "--threshold", "nan"], "nan is not in the range"),
        (["x.jpg", "--timeout", "0"], "expected a number of seconds above 0"),
        (["x.jpg", "--json", "--csv"], "expected one of them"),
        (
            ["x.jpg", "--engine", "onnx"],
            "'onnx' is not one of 'auto', 'onnxruntime', 'openvino', 'torch'",
        ),
        (["-", "-"], "standard input can be read only once"),
        (["modles"], "did you mean 'models'?"),
        (["cach"], "did you mean 'cache'?"),
        (["lable", "a.jpg"], "did you mean 'predict'?"),
        (["segment", "photos/"], "no command and no file 'segment'; the commands are predict, run"),
        (["fine-tune", "photos/"], "no command and no file 'fine-tune'; did you mean 'train'?"),
        (["export", "a.pth"], "no command and no file 'export'; did you mean 'pack'?"),
        (["info", "a.pth"], "no command and no file 'info'; did you mean 'inspect'?"),
        (["version"], "did you mean '--version'?"),
        (["cache", "empty"], "'empty' is not one of 'list', 'clear'"),
        (["cache", "clear", "nosuchmodel"], "has a name that starts with 'nosuchmodel'"),
        (["nosuch*.jpg"], "nothing matches the pattern"),
        (["x.jpg", "--engine", "torch"], "the built-in model runs with onnxruntime"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_status_2(arguments: list[str], message: str):
    assert message in fails(*arguments)


def test_a_near_miss_that_is_a_file_is_an_input(photo: Path, tmp_path: Path):
    shutil.copy(photo, tmp_path / "model")
    assert run("model", cwd=tmp_path).stdout.startswith(b"model\t")


def test_a_folder_called_like_a_command_is_named_with_its_folder(photo: Path, tmp_path: Path):
    (tmp_path / "models").mkdir()
    shutil.copy(photo, tmp_path / "models")
    assert run("./models", cwd=tmp_path).stdout.startswith(b"./models/drawn.jpg\t")


def test_a_folder_without_pictures_loses_nothing_else(photo: Path, tmp_path: Path):
    assert "no images in the folder" in fails(tmp_path)
    done = run(photo, tmp_path, photo)
    assert done.stdout.count(b"\n") == 2
    assert done.stderr.count(b"\n") == 1
    assert b"no images in the folder" in done.stderr
    assert done.returncode == 1


def test_debug_shows_the_traceback():
    done = run("x.jpg", "--engine", "torch", "--debug")
    assert done.returncode == 2
    assert b"Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"toplabel: ")


def test_a_closed_or_full_standard_output_is_said(photo: Path):
    closed = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m toplabel '{photo}' >&-"], capture_output=True
    )
    assert (closed.returncode, closed.stderr.count(b"\n")) == (2, 1)
    if Path("/dev/full").exists():
        with open("/dev/full", "wb") as full:
            done = subprocess.run([*TOPLABEL, photo], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 2
        assert b"No space left on device" in done.stderr


def test_a_reader_that_leaves_ends_it_quietly(photo: Path):
    process = subprocess.Popen(
        [*TOPLABEL, *[photo] * 500], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().startswith(str(photo).encode())
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


# Stopping


def stop(process: subprocess.Popen[bytes], signal_number: int) -> tuple[bytes, bytes]:
    """The two outputs of a process that the signal ends, long before it ends by itself."""
    process.send_signal(signal_number)
    try:
        return process.communicate(timeout=60)
    finally:
        process.kill()  # where it did not end: it would compute for minutes beside other tests


def start_python(code: str, *, grace: float = 0.7) -> subprocess.Popen[bytes]:
    """A process that runs `code`, in which `cli` and `stopping` are the modules."""
    imports = (
        "import signal, sys, time\nfrom toplabel import cli\nfrom toplabel.cli import stopping\n"
    )
    code = f"{imports}stopping.GRACE_SECONDS = {grace}\n{code}"
    return subprocess.Popen(
        [sys.executable, "-uc", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_stops_and_loses_no_record(name: str, status: int, photo: Path):
    process = subprocess.Popen(
        [*TOPLABEL, "--json", *[photo] * 20_000], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    first = process.stdout.readline()
    rest, stderr = stop(process, getattr(signal, name))
    assert process.returncode == status
    assert stderr == b"toplabel: stopped\n"
    assert rest.endswith(b"\n") or not rest
    for line in (first, *rest.splitlines()):
        assert json.loads(line)["source"] == str(photo)


def test_a_signal_is_heard_while_it_waits_for_standard_input():
    process = subprocess.Popen(
        [*TOPLABEL, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(bytes(2**20))  # a pipe holds 64 KiB: it returns once the process reads
    process.stdin.flush()
    stdout, stderr = stop(process, signal.SIGINT)
    assert (process.returncode, stdout, stderr) == (130, b"", b"toplabel: stopped\n")


def test_a_long_call_into_a_library_cannot_hold_up_a_signal():
    process = start_python(
        "import hashlib; stopping.watch_for_stop()\n"
        "print(); hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)"
    )
    process.stdout.readline()
    stat = Path(f"/proc/{process.pid}/stat")

    def ticks() -> int:
        return int(stat.read_text().rpartition(")")[2].split()[11])  # of a hundredth of a second

    before = ticks()
    wait_until(lambda: ticks() >= before + 10)  # so it is in there
    _, stderr = stop(process, signal.SIGINT)
    assert (process.returncode, stderr) == (130, b"toplabel: stopped\n")


def test_a_second_signal_ends_at_once():
    process = start_python(
        "stopping.watch_for_stop()\n"
        "try:\n print(flush=True); time.sleep(900)\nfinally:\n print(flush=True); time.sleep(900)",
        grace=900,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stdout.readline()
    _, stderr = stop(process, signal.SIGINT)
    assert (process.returncode, stderr) == (130, b"toplabel: stopped\n")


def test_a_signal_before_the_first_step_is_told_too():
    process = start_python(
        "watch = stopping.watch_for_stop\n"
        "cli.watch_for_stop = lambda: (watch(), signal.raise_signal(signal.SIGINT))\n"
        "cli.main()"
    )
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, b"", b"toplabel: stopped\n")


def test_a_signal_after_the_last_step_changes_nothing():
    process = start_python(
        "import atexit\natexit.register(signal.raise_signal, signal.SIGTERM)\n"
        "cli.status_of = lambda arguments: 1\ncli.main()",
        grace=60,
    )
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (1, b"", b"")


def test_a_signal_in_a_callback_that_drops_what_is_raised_stops_too():
    """As in those of Python's imports, where a notice "Exception ignored" was all it did."""
    process = start_python(
        "class Dropping:\n def __del__(self):\n  signal.raise_signal(signal.SIGTERM)\n  time\n"
        "stopping.watch_for_stop(); Dropping(); print('went on')"
    )
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (143, b"", b"toplabel: stopped\n")


def test_who_ends_late_says_so_once():
    process = start_python(
        "stopping.watch_for_stop()\ntry: signal.raise_signal(signal.SIGTERM)\n"
        "except KeyboardInterrupt: stopping.say_stopped(); time.sleep(900)"
    )
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (143, b"toplabel: stopped\n")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how full a pipe is")
def test_a_signal_does_not_cut_the_record_that_is_being_written():
    process = start_python(
        "from toplabel.cli.records import Records\n"
        "stopping.watch_for_stop(); Records().write(bytes(200_000)); time.sleep(900)",
        grace=60,
    )
    capacity = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)

    def held() -> int:
        count = fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4))
        return int.from_bytes(count, sys.byteorder)

    wait_until(lambda: held() >= capacity)
    stdout, _ = stop(process, signal.SIGINT)
    assert len(stdout) == 200_000


# A terminal


@pytest.mark.shared_data
def test_a_terminal_gets_a_table_and_is_told_what_the_model_is(flamingo: Path):
    status, shown = at_terminal(flamingo)
    note, *rows = shown.splitlines()
    assert status == 0
    assert note == (
        "toplabel: 1,000 ImageNet classes; none for people or documents; pass -m for another model"
    )
    assert len(rows) == 5
    assert re.fullmatch(r"flamingo +█{15,}. *  0\.9\d", rows[0])


def test_several_images_take_a_row_each_on_a_terminal(photo: Path):
    status, shown = at_terminal(photo, "nosuch.jpg", photo)
    _note, first, row, line, last = shown.splitlines()
    assert status == 1
    assert first == last
    assert row.split() == ["nosuch.jpg", "(not_found)"]
    assert line == "toplabel: cannot read 'nosuch.jpg': no such file"


@pytest.mark.parametrize("option", ["-q", "--json", "--csv"])
def test_the_note_on_the_model_is_for_the_table_only(option: str, photo: Path):
    _, shown = at_terminal(photo, option)
    assert "ImageNet classes" not in shown


def test_progress_shows_where_only_standard_error_is_a_terminal(photo: Path, tmp_path: Path):
    with open(tmp_path / "out", "wb") as out:
        status, shown = at_terminal(*[photo] * 60, stdout=out.fileno())
    assert status == 0
    assert " a second" in shown
    assert shown.endswith("\r\x1b[K")
    assert (tmp_path / "out").read_bytes().count(b"\n") == 60


def test_one_image_has_no_progress(photo: Path, tmp_path: Path):
    with open(tmp_path / "out", "wb") as out:
        assert at_terminal(photo, stdout=out.fileno()) == (0, "")


def test_standard_input_that_is_a_terminal_is_refused():
    status, shown = at_terminal("-")
    assert status == 2
    assert "cat cat.jpg | toplabel -" in shown


# Other commands


def test_help_names_every_command():
    shown = run("--help").stdout.decode()
    for command in COMMANDS:
        assert f"\n  {command} " in shown
    assert "--top-k" in shown


@pytest.mark.slow
def test_models_lists_the_embedded_one():
    done = run("models", "efficientnet_lite0", "--json")
    first = json.loads(done.stdout.splitlines()[0])
    assert first["name"] == "embedded/efficientnet_lite0"
    assert first["input_size"] == [224, 224]


@pytest.mark.slow
def test_models_says_where_nothing_matches():
    assert "no model matches 'nosuch*'" in fails("models", "nosuch*")


def test_cache_lists_and_clears(photo: Path, own_cache: Path):
    run(photo)
    listed = run("cache")
    assert str(own_cache) in listed.stderr.decode()
    assert all(len(row.split(b"\t")) == 3 for row in listed.stdout.splitlines())
    cleared = run("cache", "clear")
    assert (cleared.returncode, cleared.stdout) == (0, b"")
    assert run("cache").stdout == b""


def test_what_libraries_print_does_not_reach_the_records():
    code = (
        "import os\nfrom toplabel.cli.records import Records\nrecords = Records()\n"
        "print('noise'); os.system('echo noise'); records.write(b'record\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.stdout == b"record\n"
    assert done.stderr.count(b"noise") == 2


def test_models_lists_presets_and_the_form_of_their_names():
    done = run("models", "--preprocess")
    assert done.stdout.count(b"\n") == len(PRESETS)
    assert b"mnist-28\tsquash to 28x28" in done.stdout
    assert b"FAMILY-MODE-SIZES" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "photos"], "(toplabel train --help)"),
        (["serve", "--prt", "3"], "(toplabel serve --help)"),
        (["cat.jpg", "--bad"], "(toplabel --help)"),
    ],
)
def test_a_wrong_command_names_the_help_that_has_it(arguments: list[str], expected: str):
    done = run(*arguments)
    assert done.returncode == 2
    assert expected.encode() in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_begins_with_examples(name: str):
    command = group.get_command(None, name)
    before, _, examples = (command.help or "").partition("\b\n")
    assert len(before.splitlines()) <= 4
    assert examples.startswith(("toplabel", "eval"))
