"""Describing: a packed bundle's file in, what is in it out, for people. No engine runs."""

from __future__ import annotations

import os
from typing import Any

from toplabel.bundle.file.archive import Archive
from toplabel.bundle.program import DESCRIPTION_NAME
from toplabel.errors import BundleError

_SHOWN_LABELS = 5


def describe_packed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is in a packed bundle, as plain data for JSON.

    `verified` is True where all contents are as they were packed, else the text that says what is
    not.

    Raises:
        BundleError: It is no packed bundle, or a truncated or newer one; says which.
    """
    with Archive(path) as archive:
        manifest, program = archive.manifest, archive.read_json(DESCRIPTION_NAME)
        labels = manifest.get("labels")
        names = labels.get("names") if isinstance(labels, dict) else None
        names = names if isinstance(names, list) else []
        provenance = manifest.get("provenance")
        provenance = provenance if isinstance(provenance, dict) else {}
        return {
            "file": os.fspath(path),
            "kind": "packed bundle",
            "format": manifest["format"],
            "size_bytes": os.path.getsize(path),
            "name": manifest.get("name"),
            "classes": len(names),
            "labels": names[:_SHOWN_LABELS],
            "activation": manifest.get("activation"),
            "preprocess": manifest.get("preprocess"),
            "calibration": manifest.get("calibration"),
            "licence": provenance.get("licence", "not stated"),
            "provenance": provenance,
            "made_by": manifest.get("made_by"),
            "exporter": program.get("exporter"),
            "agreement": program.get("agreement"),
            "members": dict(archive.sizes),
            "verified": _verified(archive),
        }


def _verified(archive: Archive) -> bool | str:
    try:
        archive.check_contents()
    except BundleError as error:
        return str(error)
    return True
