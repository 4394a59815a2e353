"""What a controller needs from the world, so that it can be run against a real one and against a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from sectum.hetee.attest.evidence import Provider

Clock = Callable[[], float]
"""Seconds that only rise."""


class Started(NamedTuple):
    """A worker's process, and what its software measured just before it was started (32 bytes)."""

    pid: int
    measurement: bytes


class Outside(Protocol):
    """Connections by number, workers by number. None of these calls waits."""

    def send(self, connection: int, frame: bytes | bytearray, *, data_of: int | None = None) -> None:
        """Send a frame to the host, with the other end of a worker's data socket where one is named."""

    def close(self, connection: int) -> None:
        """Close a connection when all that was sent has gone out."""

    def start(self, worker: int) -> Started:
        """Measure the worker's software and start a process of it.

        Raises:
            OSError: it cannot be started.
        """

    def tell(self, worker: int, frame: bytes) -> None:
        """Send a frame to a worker."""

    def kill(self, worker: int) -> None:
        """Kill a worker; `Controller.collected` is called when the kernel has given its process back."""

    def log(self, event: str, **fields: object) -> None:
        """Write a line of the log. No secret is among the fields."""


class Attester(Provider, Protocol):
    """Makes evidence, and signs records with the same attestation key."""

    def sign_record(self, claims: dict[int, Any]) -> bytes:
        """Sign claims."""
        ...
