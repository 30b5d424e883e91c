"""Tokens: whether a request carries the secret that this server asks for."""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from toplabel.errors import UsageError
from toplabel.serve.api_error import Refusal

VARIABLE = "TOPLABEL_TOKEN"
_SHORTEST = 16


def read_token(file: Path | None) -> str | None:
    """The token of a file, else of the environment; None where there is none.

    Raises:
        UsageError: The file cannot be read, or the token is too short or holds other characters
            than a header may.
    """
    if file is not None:
        try:
            token = file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read the token in {str(file)!r}: {error}") from error
    elif VARIABLE in os.environ:
        token = os.environ[VARIABLE].strip()
    else:
        return None
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"the token is no {_SHORTEST} printable ASCII characters or more without spaces;"
            " make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def check_token(authorization: str | None, *, token: str) -> None:
    """Let a request pass whose `Authorization: Bearer ...` is the token.

    Raises:
        Refusal: 401.
    """
    scheme, _, given = (authorization or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise Refusal(
            401,
            "unauthorized",
            "this server asks for a token; send Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )
