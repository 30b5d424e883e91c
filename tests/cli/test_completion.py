"""Completion, as bash and its relatives ask for it, and the model that the environment names."""

import os
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


def test_without_a_shell_it_says_which_there_are():
    done = run("completion", SHELL="/bin/tcsh")
    assert done.returncode == 2
    assert "expected one of bash, zsh, fish" in done.stderr


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
