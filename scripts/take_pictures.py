"""Take the README's two pictures, of a terminal and of the server's page: real output, in Chromium.

    python scripts/take_pictures.py

Writes docs/pictures/terminal.png and page.png.
"""

from __future__ import annotations

import html
import os
import pty
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
COMMANDS = ("toplabel coffee.jpg", "toplabel *.jpg", "toplabel rocket.jpg -q")
_STYLE = """
body { margin: 0; background: #1b1d23; }
pre { color: #d8dee9; font: 15px/1.45 'DejaVu Sans Mono', monospace; margin: 18px; }
b { color: #8fbc7f; }
"""


def main() -> None:
    """Take both."""
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page(viewport={"width": 640, "height": 100}, device_scale_factor=1.5)
        take_terminal(page)
        page = browser.new_page(viewport={"width": 760, "height": 460}, device_scale_factor=1.25)
        take_server(page)
        browser.close()
    for picture in PICTURES.glob("*.png"):
        Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)


def take_terminal(page: Page) -> None:
    """What the commands print on a terminal of 72 columns."""
    parts = []
    for command in COMMANDS:
        parts.append(f"<b>$</b> {html.escape(command)}\n{html.escape(on_terminal(command))}")
    page.set_content(f"<style>{_STYLE}</style><pre>{chr(10).join(parts)}</pre>")
    page.locator("pre").evaluate("e => e.style.display = 'inline-block'")
    page.screenshot(path=PICTURES / "terminal.png", full_page=True)


def take_server(page: Page) -> None:
    """The page of `toplabel serve` after a photo was dropped on it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "toplabel", "serve", "--port", str(port)])
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            try:
                urlopen(f"{address}/health/ready", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        page.goto(address)
        page.locator("input[type=file]:not(#camera)").set_input_files(
            ROOT / "examples" / "coffee.jpg"
        )
        page.get_by_text("espresso").first.wait_for()
        page.screenshot(path=PICTURES / "page.png")
    finally:
        server.terminate()
        server.wait()


def on_terminal(command: str) -> str:
    """What a command prints on standard output."""
    ours, theirs = pty.openpty()
    script = f'toplabel() {{ "{sys.executable}" -m toplabel "$@"; }}; {command}'
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=ROOT / "examples",
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"COLUMNS": "64", "NO_COLOR": "1", "TERM": "xterm"},
    )
    os.close(theirs)
    content = bytearray()
    while True:
        try:
            content += os.read(ours, 65536)
        except OSError:  # the other side has closed
            break
    process.wait()
    os.close(ours)
    return content.decode().replace("\r\n", "\n")


if __name__ == "__main__":
    main()
