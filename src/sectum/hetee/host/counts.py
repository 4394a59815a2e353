"""Counts for operators: frames and bytes that the host forwarded, and the counts that the controller reports."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.host.sockets import connect_unix
from sectum.hetee.wire.frames import FrameReader, plain_frame
from sectum.hetee.wire.kinds import Kind, Plane
from sectum.hetee.wire.messages import Empty, State, decode, encode

STATE_S = 1.0


class Counts:
    """Counters of a host since its start. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
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

    def forwarded(self, direction: str, plane: Plane, n_bytes: int) -> None:
        """Count a frame that was forwarded whole; ``direction`` is ``in`` from a client, ``out`` to a client."""
        key = direction, plane.name.lower()
        with self._lock:
            self._frames[key] += 1
            self._bytes[key] += n_bytes

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
                "frames": {"_".join(key): count for key, count in sorted(self._frames.items())},
                "bytes": {"_".join(key): count for key, count in sorted(self._bytes.items())},
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
                for (direction, plane), count in sorted(counter.items()):
                    found.append((metric, {"direction": direction, "plane": plane}, count))
            found += [("refused_total", {"code": code}, count) for code, count in sorted(self._refused.items())]
            return found


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
