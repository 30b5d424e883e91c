"""Completion, as bash and its relatives ask for it, and the model that the environment names."""

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toplabel", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def completed(*words: str) -> list[str]:
    """What may stand for the last word, as bash is told: "plain,evaluate", "file,"."""
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    return run(_TOPLABEL_COMPLETE="bash_complete", **asked).stdout.split()


def test_the_first_word_is_a_command_or_a_file():
    found = completed("toplabel", "e")
    assert {"plain,evaluate", "plain,explain"} <= {*found}
    assert "plain,serve" not in found
    assert any(one.startswith("file,") for one in found)
    assert completed("toplabel", "photos/") == ["file,photos/"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("toplabel", "--thr"), "plain,--threshold"),
        (("toplabel", "evaluate", "--rep"), "plain,--report"),
        (("toplabel", "cat.jpg", "--exa"), "plain,--exact"),
        (("toplabel", "cat.jpg", "--engine", "on"), "plain,onnxruntime"),
        (("toplabel", "explain", "cat"), "file,cat"),
        (("toplabel", "cat.jpg", "-m", "be"), "file,be"),
        (("toplabel", "cat.jpg", "-m", "resnet5"), "plain,resnet50"),
        (("toplabel", "train", "ph"), "file,ph"),
        (("toplabel", "cat.jpg", "--preprocess", "imagenet-s"), "plain,imagenet-squash-224"),
    ],
)
def test_options_values_and_files_are_completed(words: tuple[str, ...], expected: str):
    assert expected in completed(*words)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_the_command_and_asks_it(shell: str):
    script = run("completion", shell).stdout
    assert "_TOPLABEL_COMPLETE" in script
    assert f"{shell}_complete" in script


def test_bash_itself_takes_the_script():
    script = run("completion", "bash").stdout
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


ASKED = {
    "toplabel ev": "evaluate",
    "toplabel ca": "cat.jpg",
    "toplabel train ph": "photos/",
    "toplabel cat.jpg -m be": "best.pth",
    "toplabel cat.jpg -m regnet_y_8": "regnet_y_8gf",
    "toplabel cat.jpg --arch wide_resnet1": "wide_resnet101_2",
    "toplabel train photos --pri": "--prior",
    "toplabel completion f": "fish",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with files to complete, and the command in a folder of its own."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "toplabel"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m toplabel "$@"\n')
    command.chmod(0o755)
    for name in ("best.pth", "cat.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "photos").mkdir()
    return tmp_path


def shell(place: Path, *command: str, typed: str = "") -> str:
    """What a shell prints that finds `toplabel`."""
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(place), "PS1": "> ", "TERM": "dumb"}
    return subprocess.run(
        command, input=typed, capture_output=True, text=True, cwd=place, env=environment
    ).stdout


@pytest.mark.slow  # a process for each
@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
@pytest.mark.parametrize("text", ASKED)
def test_fish_completes(text: str, place: Path):
    asked = f"toplabel completion fish | source; complete -C '{text}'"
    found = [line.partition("\t")[0] for line in shell(place, "fish", "-c", asked).splitlines()]
    assert ASKED[text] in found


@pytest.mark.slow  # a terminal and two processes for each
@pytest.mark.parametrize("name", ["bash", "zsh"])
@pytest.mark.parametrize("text", ASKED)
def test_bash_and_zsh_complete_what_is_typed(name: str, text: str, place: Path):
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name}")
    assert ASKED[text] in typed_with_tabs(name, text, place)


def typed_with_tabs(name: str, text: str, place: Path) -> str:
    """What a terminal shows after two tabs behind a text."""
    plain = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[name]
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(place), "TERM": "dumb", "PS1": "> "}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        plain,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=place,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        begin = "autoload -Uz compinit && compinit -u; " if name == "zsh" else ""
        begin += f'eval "$(toplabel completion {name})"; echo be""gun'
        os.write(ours, f"{begin}\n".encode())
        shown = read_until(ours, "begun")
        os.write(ours, f"{text}\t\t".encode())
        shown = read_until(ours, ASKED[text])
        process.kill()
    os.close(ours)
    return shown


def read_until(terminal: int, expected: str) -> str:
    """What stands on a terminal once `expected` does, or nothing has come for 20 s."""
    shown = ""
    while expected not in shown and select.select([terminal], [], [], 20)[0]:
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


def test_without_a_shell_it_says_which_there_are():
    done = run("completion", SHELL="/bin/tcsh")
    assert done.returncode == 2
    assert "expected one of bash, zsh, fish" in done.stderr


@pytest.mark.slow
def test_the_model_that_the_environment_names_is_used_unless_another_is_given(tmp_path: Path):
    cat = str(EXAMPLES / "cat.jpg")
    done = run(cat, "-q", TOPLABEL_MODEL="no-such.toplabel")
    assert done.returncode == 2
    assert "'no-such.toplabel'" in done.stderr
    assert (
        run(cat, "-q", "-m", "embedded", TOPLABEL_MODEL="no-such.toplabel").stdout == "tiger cat\n"
    )
    assert run(cat, "-q", TOPLABEL_MODEL="").stdout == "tiger cat\n"
    (tmp_path / "tiger cat").mkdir()
    shutil.copy(cat, tmp_path / "tiger cat")
    done = run("evaluate", str(tmp_path), TOPLABEL_MODEL="no-such.toplabel")
    assert "'no-such.toplabel'" in done.stderr
