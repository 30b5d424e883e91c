"""Passing causes: which failures are worth another try, later or within seconds."""

from __future__ import annotations

import re

from toplabel.errors import ErrorCode
from toplabel.inference.prediction import Failure

PASSING: frozenset[ErrorCode] = frozenset(
    {"not_found", "permission_denied", "timeout", "fetch_failed"}
)
"""Codes of causes that may pass: a file comes, somebody is let in, a store is there again."""

SOON: frozenset[ErrorCode] = frozenset({"timeout", "fetch_failed"})
"""Those of a network or store, which may pass within seconds."""

_LASTING = re.compile(r"the server answered 4(?!08|25|29)\d\d")
"""A page that is not there, or may not be read: `fetch_failed`, and so it stays."""


def may_pass(failure: Failure) -> bool:
    """Whether the cause of a failure may pass."""
    return failure.code in PASSING and not _LASTING.search(failure.message)
