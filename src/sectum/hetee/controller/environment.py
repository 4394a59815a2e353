"""What a controller needs from its environment: real sockets and processes, or a fake in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

Clock = Callable[[], float]
"""Monotonic time in seconds."""


class StartedProcess(NamedTuple):
    """A worker's process id, and the measurement (32 bytes) of its software, taken just before its start."""

    pid: int
    measurement: bytes


class CollectedProcess(NamedTuple):
    """What the kernel says of a worker's process that has been collected.

    Attributes:
        exit: how it ended.
        peak_bytes: the most memory that it held.
    """

    exit: str
    peak_bytes: int


class Environment(Protocol):
    """Connections and workers are named by number. None of these calls blocks."""

    def send(self, connection: int, frame: bytes | bytearray, *, data_of: int | None = None) -> None:
        """Send a frame to the host; with ``data_of``, pass the host's end of that worker's data socket with it."""

    def close(self, connection: int) -> None:
        """Close a connection when all that was sent has gone out."""

    def start(self, worker: int, devices: tuple[str, ...] = ()) -> StartedProcess:
        """Start a worker process, which sees these accelerators with device nodes and no others.

        Raises:
            OSError: it cannot be started.
        """

    def send_to_worker(self, worker: int, frame: bytes) -> None:
        """Send a frame to a worker."""

    def kill(self, worker: int) -> None:
        """Kill a worker; `Controller.collected` is called after `waitpid`."""

    def memory_bytes(self, worker: int) -> int:
        """Private memory that a worker holds now; 0 if it has ended."""

    def stop(self, worker: int) -> None:
        """Have the kernel stop a worker; `Controller.stopped` is called when every thread of it has stopped."""

    def resume(self, worker: int) -> None:
        """Let a stopped worker go on."""

    def processor_s(self, worker: int) -> float:
        """Processor time that a worker has used, in seconds, by the kernel's clock; 0 if it has ended."""

    def log(self, event: str, **fields: object) -> None:
        """Write a line to the log. The fields hold no secrets."""
