"""Install the wheel in a bare environment, outside of the checkout, and use it as a newcomer would.

    python scripts/check_wheel.py [dist]

Label, a pipe, a run, training, the server, `python -m`, and the names that editors see. Ends with 0
where all of it works.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Check the newest wheel of the folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist")
    wheel = max(folder.glob("toplabel-*.whl"), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory() as place:
        check(wheel.resolve(), Path(place))
    print(f"{wheel.name}: works in a bare environment")
    return 0


def check(wheel: Path, place: Path) -> None:
    """Everything, in this empty folder."""
    bare = place / "bare"
    venv.create(bare, with_pip=True)
    scripts = bare / ("Scripts" if os.name == "nt" else "bin")
    python, command = str(scripts / "python"), str(scripts / "toplabel")
    run(python, "-m", "pip", "install", "-q", f"{wheel}[serve]", cwd=place)
    for photo in (ROOT / "examples").glob("*.jpg"):
        shutil.copy(photo, place)
    assert run(command, "cat.jpg", "-q", cwd=place) == "tiger cat\n"
    assert run(python, "-m", "toplabel", "coffee.jpg", "-q", cwd=place) == "espresso\n"
    run(command, "cat.jpg", "coffee.jpg", "-o", "labels.jsonl", "-q", cwd=place)
    lines = (place / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["tiger cat", "espresso"]
    train(python, command, place)
    serve(command, place)
    stub = run(python, "-c", "import toplabel; print(toplabel.__file__)", cwd=place).strip()
    assert Path(stub).with_suffix(".pyi").exists()
    assert Path(stub).with_name("py.typed").exists()


def train(python: str, command: str, place: Path) -> None:
    """On colours, which any network tells apart."""
    draw = (
        "from PIL import Image\nimport os\n"
        "for name, colour in (('red', (200, 30, 30)), ('blue', (30, 30, 200))):\n"
        "    os.makedirs(f'photos/{name}')\n"
        "    for n in range(6):\n"
        "        shade = tuple(c + 7 * n for c in colour)\n"
        "        Image.new('RGB', (64 + n, 64), shade).save(f'photos/{name}/{n}.png')\n"
    )
    run(python, "-c", draw, cwd=place)
    run(command, "train", "photos", "-o", "mine.toplabel", "-q", cwd=place)
    found = run(command, "photos/red/0.png", "-m", "mine.toplabel", "-q", cwd=place)
    assert found.split("\t")[0].strip() == "red", found


def serve(command: str, place: Path) -> None:
    """One request."""
    port = "18431"
    server = subprocess.Popen([command, "serve", "--port", port], cwd=place)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                urlopen(f"{url}/health/ready", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.2)
        photo = (place / "cat.jpg").read_bytes()
        with urlopen(Request(f"{url}/v1/classify", data=photo), timeout=60) as reply:
            assert json.load(reply)["predictions"][0]["label"] == "tiger cat"
    finally:
        server.terminate()
        server.wait()


def run(*command: str, cwd: Path) -> str:
    """What it prints; an error where it fails."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    clean["TOPLABEL_CACHE"] = str(cwd / "cache")
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
