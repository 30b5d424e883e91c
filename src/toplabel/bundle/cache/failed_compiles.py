"""Refusals: which models could not be compiled and why, so that no start tries in vain again."""

from __future__ import annotations

from toplabel.bundle.cache import cache_dir
from toplabel.bundle.cache.jsonfile import json_path, read_json, write_json


def remember_refusal(key: str, reason: str, *, exporter: str) -> None:
    """Keep why there is no program of that key; where the cache cannot be written to, don't.

    Args:
        key: What the program would have been kept under.
        reason: One line for people.
        exporter: What tried, with its version: a newer one may succeed.
    """
    path = json_path(cache_dir() / "refusals", key)
    write_json(path, {"reason": reason, "exporter": exporter})


def find_refusal(key: str, *, exporter: str) -> str | None:
    """Why this exporter could not compile the model of that key; None where it has not tried."""
    known = read_json(json_path(cache_dir() / "refusals", key))
    if known is None or known.get("exporter") != exporter:
        return None
    return str(known.get("reason"))
