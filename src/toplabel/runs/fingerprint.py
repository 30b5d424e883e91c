"""Fingerprint: all that the values of a run's records depend on, as plain data to compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from toplabel._version import __version__
from toplabel.errors import RunError

if TYPE_CHECKING:
    from toplabel.inference.batch import PredictOptions
    from toplabel.inference.classifier import Classifier

_IN_WORDS = {
    "program": "weights",
    "labels": "class names",
    "preprocess": "preprocessing",
    "keep_features": "embeddings",
    "fast": "reduced precision",
    "unknown": "detector of unknown images",
    "read": "options of reading images",
    "toplabel": "version of toplabel",
}
_UNLESS_STATED = {"keep_features": False, "multi_label": False, "fast": False}


def fingerprint(classifier: Classifier, settings: PredictOptions) -> dict[str, Any]:
    """The model, its weights, preprocessing and labels, the options, and toplabel's version.

    How the arithmetic is spread (engine, device, threads) is left out: engines were checked
    against each other, and a run may resume elsewhere.
    """
    bundle, unknown = classifier.bundle, classifier.unknown
    options = asdict(settings)
    for name in ("keep_features", "fast"):  # else as runs of older versions were begun with
        if not options[name]:
            del options[name]
    if settings.fast and bundle is not None and bundle.reduced is not None:
        options["fast"] = {"program": bundle.reduced.key, **bundle.reduced.margin.to_dict()}
    names = json.dumps([classifier.labels.names, classifier.labels.ids])
    found = {
        "toplabel": __version__,
        "model": classifier.name,
        "program": None if bundle is None else bundle.program.key,
        "preprocess": classifier.preprocess.to_dict(),
        "labels": hashlib.sha256(names.encode()).hexdigest()[:16],
        "activation": classifier.activation,
        **({"multi_label": True} if classifier.multi_label else {}),
        "calibration": classifier.calibration and classifier.calibration.to_dict(),
        **({} if unknown is None else {"unknown": unknown.to_dict()}),
        **options,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def check_same(begun: Mapping[str, Any], now: Mapping[str, Any], *, output: str) -> None:
    """Refuse to resume a run with something else than it was begun with.

    Raises:
        RunError: Names the first difference.
    """
    for name in (*now, *begun):
        old, new = (side.get(name, _UNLESS_STATED.get(name)) for side in (begun, now))
        if old == new:
            continue
        if name == "fast" and not (old and new):
            raise RunError(_of_fast(output, bool(old)))
        if isinstance(old, dict) and isinstance(new, dict):  # show only what differs
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            old, new = ({key: side.get(key) for key in keys} for side in (old, new))
        raise RunError(
            f"{output!r} was started with different {_IN_WORDS.get(name, name)}: {_short(old)}, now"
            f" {_short(new)}; write to another output, or start over with restart=True"
        )


def _of_fast(output: str, begun: bool) -> str:
    """Why a run cannot go on, of which one part is exact and one has a reduced program.

    Both may have been asked to be fast: the program may have been made, or removed, meanwhile.
    """
    if begun:
        how = "was started with a reduced program (fast=True), and now there is none"
        advice = "resume it with fast=True where the program is"
    else:
        how = "was started without a reduced program, and now there is one"
        advice = "resume it without fast=True"
    return f"{output!r} {how}; {advice}, write to another output, or start over with restart=True"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
