"""Contents: what ties the members of a packed bundle together. Hashes of them in, hash out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"
"""The key of the manifest that holds the manifest's own hash."""

_KEY_SCHEME = "packed 1"


def is_plain_name(name: str) -> bool:
    """Whether a member may be called so: a file's name on every system, and no hidden one."""
    return bool(name) and not name.startswith(".") and not set(name) & set('/\\:"*?<>|\0')


def content_key(description: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    """What the program in a packed bundle is kept under: 64 hexadecimal digits.

    It follows from the contents alone, so that no file can pass for another one's program.

    Args:
        description: The object in program.json; the key that it claims does not count.
        hashes: The sha256 of each of the program's files, by name.
    """
    claims = {name: value for name, value in description.items() if name != "key"}
    return _hash_of([_KEY_SCHEME, claims, dict(hashes)])


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash in it."""
    return {**manifest, SEAL: _hash_of({k: v for k, v in manifest.items() if k != SEAL})}


def _hash_of(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
