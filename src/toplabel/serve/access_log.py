"""Access log: one line of JSON for each request, without any of the images' content."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from typing import Any

ACCESS = logging.getLogger("toplabel.serve.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def request_id(given: bytes | None) -> str:
    """The client's id of a request where it is harmless, else a new one."""
    if given is not None:
        text = given.decode("latin-1")
        if _REQUEST_ID.fullmatch(text):
            return text
    return uuid.uuid4().hex


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON; what stands in its `facts` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def configure_logging(*, requests: bool) -> None:
    """Write toplabel's and uvicorn's log to standard error; `requests`: also one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in (
        ("toplabel.serve", logging.INFO),
        ("uvicorn", logging.ERROR),
        ("asyncio", logging.CRITICAL),
    ):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
    ACCESS.setLevel(logging.INFO if requests else logging.ERROR)
