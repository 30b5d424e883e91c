"""JSON files: one small object each, read or None, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toplabel._internal import platform

_LONGEST_NAME = 150


def json_path(folder: Path, text: str) -> Path:
    """A file for any text: readable where the text is short, a hash of it where it is long."""
    name = "".join(
        c if c.isalnum() and c.isascii() or c in "-_.@" else f"%{ord(c):x}" for c in text
    )
    if len(name) > _LONGEST_NAME or name.startswith("."):
        import hashlib  # loads OpenSSL, which short names spare

        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        name = f"{name[-40:].lstrip('.')}-{digest}"
    return folder / f"{name}.json"


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none, or something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, at once and durably.

    Raises:
        OSError: It cannot be written.
    """
    with platform.written_aside(path) as aside:
        aside.write_text(json.dumps(content), encoding="utf-8")
