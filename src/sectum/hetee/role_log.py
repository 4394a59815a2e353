"""The log of a role: one line of JSON for each event, on standard error, a pipe to whoever started the role."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

LINE_BYTES = 4096


def log_event(role: str, event: str, **fields: object) -> None:
    """Write a line of JSON to standard error. The fields hold no secrets and no tenant's data."""
    line = {"time": round(time.time(), 3), "role": role, "event": event, **fields}
    with suppress(OSError, ValueError):  # nobody reads any more; that is no reason to end
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()


class LogReader:
    """Reads the lines that another process writes to a pipe, which is not believed: it may say anything, of any length.

    Args:
        pipe: the read end; `close` closes it.
    """

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.read_bytes = 0
        self._rest = b""

    def lines(self) -> Iterator[str] | None:
        """Read once; returns the lines that are complete now, cut to `LINE_BYTES`, or None at the end."""
        try:
            data = os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return iter(())
        self.read_bytes += len(data)
        if not data:
            return None
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:LINE_BYTES]
        return (line[:LINE_BYTES].decode(errors="replace") for line in whole if line)

    def close(self) -> None:
        """Close the pipe. The writer's next line fails."""
        os.close(self.pipe)


def attributed(line: str, roles: tuple[str, ...], pid: int) -> dict[str, object]:
    """The event in a line, or the line as an event; it is always one of these roles, whatever the line says."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        event = {"event": "output", "text": line[:512]}
    if event.get("role") not in roles:
        event = event | {"role": roles[0], "pid": pid}
    return {"time": round(time.time(), 3)} | event
