"""Refusing: why a checkpoint is not unpickled, and what to do instead, the safe ways first."""

from __future__ import annotations

import re
from collections.abc import Collection

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.header import Outline
from toplabel.models.checkpoint.known import runs_code

_NAMED = 5
_LONGEST = 80
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_RESAVE = "torch.save(model.state_dict(), 'weights.pth')"


def check_allowed(outline: Outline, allow_globals: Collection[str]) -> None:
    """Stop before anything is unpickled that the user did not allow.

    Args:
        outline: Of the checkpoint.
        allow_globals: The names that the user takes for safe.

    Raises:
        CheckpointError: It is a program, or names globals that were not allowed; says in which
            safe ways it can be had, and how to trust it only at the end.
    """
    if outline.format in ("torchscript", "pt2"):
        kind = "a TorchScript archive" if outline.format == "torchscript" else "an exported program"
        raise CheckpointError(
            f"{str(outline.path)!r} is {kind}, a program rather than weights; in the environment"
            f" that made it, save its weights, {_RESAVE}, or export it to ONNX; or run it as it"
            " is, if you trust whoever made it, with --trust"
        )
    missing = [name for name in outline.blocked if name not in allow_globals]
    if missing:
        raise CheckpointError(_text(outline, missing))


def _text(outline: Outline, missing: list[str]) -> str:
    found = (
        f"holds a whole pickled network of class {outline.whole_module} instead of its weights"
        if outline.whole_module is not None
        else "holds more than weights"
    )
    allowing = _how_to_allow(missing)
    return (
        f"{str(outline.path)!r} {found}, and reading it would run code that it names; where it was"
        f" made, save its weights alone: {_RESAVE}; {allowing}; or, if you trust whoever made it"
        " with this computer, --trust"
    )


def _how_to_allow(missing: list[str]) -> str:
    """The options to copy, unless one of the names is no honest one."""
    for name in missing:
        if runs_code(name) or not _NAME.fullmatch(name):
            names = ", ".join(repr(one[:_LONGEST]) for one in missing[:_NAMED])
            return f"it names {names}; {name[:_LONGEST]!r} can run anything and cannot be allowed"
    options = " ".join(f"--allow-global {name}" for name in missing[:_NAMED])
    more = f" (and {len(missing) - _NAMED} more)" if len(missing) > _NAMED else ""
    return f"or name what you know to be harmless: {options}{more}"
