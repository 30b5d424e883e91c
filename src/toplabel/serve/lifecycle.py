"""Lifecycle: whether a server is getting ready, ready, or finishing."""

from __future__ import annotations

from typing import Literal

State = Literal["starting", "ready", "draining"]


class Lifecycle:
    """The state of one server; `ready` after its models' first forward, until it is stopped."""

    def __init__(self) -> None:
        self.state: State = "starting"

    @property
    def is_ready(self) -> bool:
        """Whether new requests should come here."""
        return self.state == "ready"
