"""Model card: what a bundle says of itself in, Markdown as the Hugging Face Hub reads it out.

https://huggingface.co/docs/hub/model-cards: metadata between lines of dashes, in YAML, then text.
Only what the bundle itself states is written; what nobody stated is said to be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from toplabel._internal.text import printable
from toplabel.bundle.unknown import in_words

_MOST_LABELS = 50
_LICENCES = {  # as they are called in provenances: as the Hub calls them
    "Apache-2.0": "apache-2.0",
    "BSD-3-Clause": "bsd-3-clause",
    "BSD-2-Clause": "bsd-2-clause",
    "MIT": "mit",
    "CC-BY-4.0": "cc-by-4.0",
}
_NOT_STATED = "not stated"


def model_card(facts: Mapping[str, Any], labels: tuple[str, ...]) -> str:
    """A model card in Markdown.

    Args:
        facts: Of a packed bundle or the built-in model, as `inspect` gives them.
        labels: All class names, in output order.
    """
    return "\n".join([*_metadata(facts), "", *_text(facts, labels)]) + "\n"


def _metadata(facts: Mapping[str, Any]) -> Iterator[str]:
    licence = str(facts.get("licence") or _NOT_STATED)
    known = _LICENCES.get(licence)
    yield "---"
    yield "library_name: toplabel"
    yield "pipeline_tag: image-classification"
    if licence != _NOT_STATED:
        yield f"license: {known or 'other'}"
        if known is None:
            yield f"license_name: {json.dumps(printable(licence))}"  # JSON's texts are YAML's
    yield "tags:\n- image-classification\n- onnx"
    yield "---"


def _text(facts: Mapping[str, Any], labels: tuple[str, ...]) -> Iterator[str]:
    name = _plain(str(facts.get("name") or "model"))
    yield f"# {name}"
    yield ""
    yield f"Classifies an image as one of {len(labels):,} classes."
    yield from ("", "## Use", "", "```")
    yield "pip install toplabel"
    yield f"toplabel cat.jpg -m {facts.get('file', 'embedded')}"
    yield from ("```", "", "## Classes", "")
    yield ", ".join(_plain(one) for one in labels[:_MOST_LABELS]) + (
        f", and {len(labels) - _MOST_LABELS:,} more" if len(labels) > _MOST_LABELS else ""
    )
    yield from ("", "## Preprocessing", "")
    yield from ("```json", json.dumps(facts.get("preprocess"), indent=1), "```")
    yield from _section("Training", facts.get("training"))
    yield from _section("Calibration", facts.get("calibration"))
    yield from _section("Agreement with the original network", facts.get("agreement"))
    yield from _section("Origin", facts.get("provenance"))
    yield from ("", "## Licence", "", _plain(str(facts.get("licence") or _NOT_STATED)))
    yield from ("", "## Limits", "")
    unknown = facts.get("unknown")
    if isinstance(unknown, Mapping):
        told = _plain(in_words(unknown))
        yield f"It {told}; the label stays. A score is not the chance of being right."
        return
    yield (
        "It answers with one of its classes for any image, also for one that shows none of them."
        " A score is not the chance of being right."
    )


def _section(heading: str, values: object) -> Iterator[str]:
    """A table of what is stated; nothing where nothing is."""
    if not isinstance(values, Mapping):
        return
    rows = {name: one for name, one in values.items() if one not in (None, "", [], {})}
    if not rows:
        return
    yield from ("", f"## {heading}", "", "| | |", "|---|---|")
    for name, one in rows.items():
        text = one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
        yield f"| {_plain(str(name).replace('_', ' '))} | {_plain(text)} |"


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is, on one line."""
    line = " ".join(printable(part) for part in text.splitlines())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in line)
