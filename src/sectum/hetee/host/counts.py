"""Counts for operators: frames and bytes that the host forwarded, and the counts that the controller reports."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.host.sockets import connect_unix
from sectum.hetee.wire.frames import FrameReader, plain_frame
from sectum.hetee.wire.header import HEADER_BYTES, Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Empty, decode, encode
from sectum.hetee.wire.state import State

STATE_S = 1.0


class Counts:
    """Counters of a host since its start. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: Counter[tuple[str, Kind]] = Counter()
        self._bytes: Counter[tuple[str, Kind]] = Counter()
        self._refused: Counter[str] = Counter()
        self._connections = 0
        self.open = 0
        self.since_s = time.time()

    def connected(self) -> None:
        """Count a client that connected."""
        with self._lock:
            self._connections += 1
            self.open += 1

    def disconnected(self) -> None:
        """Count a client that disconnected."""
        with self._lock:
            self.open -= 1

    def forwarded(self, direction: str, headers: Sequence[Header]) -> None:
        """Count frames that were forwarded whole; ``direction`` is ``in`` from a client, ``out`` to a client."""
        with self._lock:
            for header in headers:
                key = direction, header.kind
                self._frames[key] += 1
                self._bytes[key] += HEADER_BYTES + header.length

    def refused(self, code: Refusal) -> None:
        """Count a frame or a connection that was refused."""
        with self._lock:
            self._refused[code.name] += 1

    def json(self) -> dict[str, object]:
        """All counters as JSON values."""
        with self._lock:
            return {
                "since": round(self.since_s, 3),
                "connections": self._connections,
                "open": self.open,
                "frames": {"_".join(key): count for key, count in _by_plane(self._frames)},
                "bytes": {"_".join(key): count for key, count in _by_plane(self._bytes)},
                "refused": dict(sorted(self._refused.items())),
            }

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """All counters as (metric, labels, value)."""
        with self._lock:
            found: list[tuple[str, dict[str, str], float]] = [
                ("connections_total", {}, self._connections),
                ("connections_open", {}, self.open),
            ]
            for metric, counter in (("frames_total", self._frames), ("bytes_total", self._bytes)):
                for (direction, plane), count in _by_plane(counter):
                    found.append((metric, {"direction": direction, "plane": plane}, count))
            found += [("refused_total", {"code": code}, count) for code, count in sorted(self._refused.items())]
            return found


def _by_plane(counter: Counter[tuple[str, Kind]]) -> list[tuple[tuple[str, str], int]]:
    """Counts by direction and class of frames, sorted."""
    sums: Counter[tuple[str, str]] = Counter()
    for (direction, kind), count in counter.items():
        sums[direction, kind.plane.name.lower()] += count
    return sorted(sums.items())


def ask_controller(path: Path) -> State:
    """Ask the controller for its counts.

    Raises:
        ServiceRefused: ``CONTROLLER_LOST``, it does not answer within a second.
    """
    try:
        with connect_unix(path) as controller:
            controller.settimeout(STATE_S)
            controller.sendall(plain_frame(Kind.STATUS, encode(Empty())))
            answers = FrameReader(frozenset({Kind.STATE}), lambda memory, _whole: controller.recv_into(memory))
            if frame := answers.next():
                return decode(frame.payload, State)
    except (OSError, HeteeError) as error:
        raise refusal(Refusal.CONTROLLER_LOST, f"the controller does not answer: {error}") from None
    raise refusal(Refusal.CONTROLLER_LOST, "the controller does not answer: it closed the connection")
