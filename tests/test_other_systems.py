"""What Windows lacks is taken away, in a process of its own: all the same, it works.

Windows itself is not at hand: this finds what would be called there and is missing, not what
behaves in another way.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"

WITHOUT = """
import asyncio, builtins, multiprocessing, os, signal, subprocess, sys
import concurrent.futures, http.client, pathlib, shutil, socket, tempfile, urllib.request
# other libraries know the system they were built for
import click, fastapi, numpy, onnxruntime, PIL.Image, simplejpeg, uvicorn
MISSING = {
    os: "uname fork forkpty killpg setsid setpgid getpgid getuid geteuid getgid getppid pread"
        " mkfifo statvfs sched_getaffinity posix_fadvise register_at_fork wait4 nice chown"
        " set_blocking getloadavg O_NONBLOCK O_CLOEXEC O_DIRECTORY O_NOFOLLOW",
    signal: "SIGKILL SIGHUP SIGPIPE SIGUSR1 SIGALRM SIGCHLD alarm setitimer pthread_sigmask",
}
for module, names in MISSING.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
HIDDEN = {"fcntl", "resource", "termios", "pty", "pwd", "grp"}
for name in HIDDEN:
    sys.modules[name] = None  # importing it is an ImportError
def refuse(*args, **kwargs):
    raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = refuse
"""


def run_without(code: str, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "TOPLABEL_CACHE": str(cache)},
    )


COMMAND = "from toplabel.cli import status_of\nstatus = status_of(sys.argv[1:])\nos._exit(status)\n"


def test_an_image_is_labelled_where_much_of_posix_is_missing(tmp_path: Path) -> None:
    cat = str(EXAMPLES / "cat.jpg")
    done = run_without(COMMAND.replace("os._exit", "sys.exit"), cat, "-q", cache=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tiger cat\n", "")


def test_a_folder_is_run_and_resumed_there(tmp_path: Path) -> None:
    arguments = (str(EXAMPLES), "-o", str(tmp_path / "labels.jsonl"), "-q")
    for _ in range(2):
        done = run_without(COMMAND, *arguments, cache=tmp_path / "cache")
        assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["tiger cat", "espresso", "missile"]


SERVE = """
import threading, time
from toplabel.cli import status_of
port = sys.argv[1]
def ask():
    url = f"http://127.0.0.1:{port}"
    while True:
        try:
            urllib.request.urlopen(f"{url}/health/ready", timeout=5)
            break
        except OSError:
            time.sleep(0.05)
    request = urllib.request.Request(f"{url}/v1/classify", data=open(sys.argv[2], "rb").read())
    print(urllib.request.urlopen(request, timeout=60).read().decode(), flush=True)
    os._exit(0)
threading.Thread(target=ask, daemon=True).start()
status_of(["serve", "--port", port])
"""


def test_a_server_answers_there(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run_without(SERVE, str(port), str(EXAMPLES / "cat.jpg"), cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"tiger cat"' in done.stdout


def test_a_folder_is_trained_on_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, colour in (("red", 0), ("blue", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 80, (48, 48, 3), dtype=np.uint8)
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    code = (
        "import toplabel\nresult = toplabel.train(sys.argv[1])\n"
        "result.save(sys.argv[2])\nprint(result.predictor(sys.argv[3]).label)\n"
    )
    photo = str(tmp_path / "photos" / "red" / "0.png")
    arguments = (str(tmp_path / "photos"), str(tmp_path / "mine.toplabel"), photo)
    done = run_without(code, *arguments, cache=tmp_path / "cache")
    assert (done.returncode, done.stdout) == (0, "red\n"), done.stderr
