"""Copies what roles write to the log of the rack. No role is believed: it may write anything, of any length."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

LINE_BYTES = 4096  # of a line in the log
_PIECE_BYTES = 16384  # of a line of the controller, which may hold a piece of a worker's output
_BURST_BYTES, _BYTES_PER_S = 4 << 20, 64 << 10
_UNFINISHED = 64  # workers whose last line has no end yet


class LogReader:
    """Reads lines from a pipe.

    Args:
        pipe: the read end; `close` closes it.
    """

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self._rest = b""

    def lines(self) -> Iterator[str] | None:
        """Read once; returns the lines that are complete now, cut to a limit, or None at the end."""
        try:
            data = os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return iter(())
        if not data:
            return None
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:_PIECE_BYTES]
        return (line[:_PIECE_BYTES].decode(errors="replace") for line in whole if line)

    def close(self) -> None:
        """Close the pipe. The writer's next line fails."""
        os.close(self.pipe)


class Attribution:
    """Makes events of the lines of one process, each of its own role or, for a controller, of a worker.

    Args:
        role: role of the process.
        pid: its process id.
    """

    def __init__(self, role: str, pid: int) -> None:
        self._role, self._pid = role, pid
        self._roles = (role, "worker") if role == "controller" else (role,)
        self._unfinished: dict[int, str] = {}  # by process ids of workers

    def events(self, line: str) -> Iterator[dict[str, Any]]:
        """The events of a line. What a worker wrote comes in pieces, as text within events of the controller."""
        event = _event(line)
        pid, text = event.get("pid"), event.get("text")
        output = self._role == "controller" and event["event"] == "worker_output"
        if not (output and isinstance(pid, int) and isinstance(text, str)):
            yield event if event.get("role") in self._roles else event | {"role": self._role, "pid": self._pid}
            return
        *whole, rest = (self._unfinished.pop(pid, "") + text).split("\n")
        self._unfinished[pid] = rest[:LINE_BYTES]
        for oldest in list(self._unfinished)[:-_UNFINISHED]:
            del self._unfinished[oldest]
        for written in filter(None, whole):
            yield _event(written[:LINE_BYTES]) | {"role": "worker", "pid": pid}


def _event(line: str) -> dict[str, Any]:
    """The event in a line, or the line as an event."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        event = {"event": "output", "text": line[:512]}
    return {"time": round(time.time(), 3)} | event


class RoleLog(threading.Thread):
    """Copies what a role writes to the log of the rack: as lines of that role, and not faster than a limit.

    Args:
        role: role of the process.
        pipe: what it writes to; closed at its end.
        pid: its process id.
        log: the log of the rack.
    """

    def __init__(self, role: str, pipe: int, pid: int, log: IO[bytes]) -> None:
        super().__init__(name=f"log-of-{role}", daemon=True)
        self._role, self._reader, self._attribution, self._log = role, LogReader(pipe), Attribution(role, pid), log
        self._left, self._dropped, self._since_s = _BURST_BYTES, 0, time.monotonic()

    def run(self) -> None:
        """Copy until the role ends."""
        while (lines := self._reader.lines()) is not None:
            self._write([event for line in lines for event in self._attribution.events(line)])
        self._reader.close()

    def _write(self, events: list[dict[str, Any]]) -> None:
        now_s = time.monotonic()
        allowed = int((now_s - self._since_s) * _BYTES_PER_S)
        self._left, self._since_s = min(self._left + allowed, _BURST_BYTES), now_s
        for event in events:
            data = json.dumps(event).encode() + b"\n"
            if len(data) > self._left:
                self._dropped += 1
                continue
            if self._dropped:
                told = {"time": round(time.time(), 3), "role": self._role, "event": "log_lines_dropped"}
                data = json.dumps(told | {"count": self._dropped}).encode() + b"\n" + data
                self._dropped = 0
            self._left -= len(data)
            with suppress(OSError, ValueError):  # the disk is full, or the launcher has stopped
                self._log.write(data)
                self._log.flush()
