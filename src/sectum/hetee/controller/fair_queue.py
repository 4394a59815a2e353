"""The order of requests: start-time fair queueing between identities. docs/spec/allocation.md defines it."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from sectum.hetee.controller.allocation import Request


class _Waiting(NamedTuple):
    """A request with its place: first by virtual time, then by arrival."""

    start: float
    number: int
    finish: float
    request: Request


class FairQueue:
    """The requests for accelerators of one kind. Virtual time is in seconds of one accelerator."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}
        self._finish: dict[bytes, float] = {}  # of each identity's last request
        self._virtual = 0.0
        self._number = 0

    def add(self, request: Request, turn_s: float) -> bool:
        """Add a request for turns of this length. One that waits already keeps its place, and False is returned."""
        if request.asker in self._waiting:
            return False
        start = max(self._virtual, self._finish.get(request.identity, 0.0))
        finish = self._finish[request.identity] = start + request.count * turn_s / 2.0**request.priority
        self._number += 1
        self._waiting[request.asker] = _Waiting(start, self._number, finish, request)
        return True

    def remove(self, asker: int) -> bool:
        """Remove a request, which then costs nothing; returns whether there was one."""
        gone = self._waiting.pop(asker, None)
        if gone is not None and self._finish.get(gone.request.identity) == gone.finish:
            self._finish[gone.request.identity] = gone.start
        return gone is not None

    def serve(self, asker: int) -> None:
        """Remove a request that is served."""
        self._virtual = max(self._virtual, self._waiting.pop(asker).start)

    def in_order(self) -> list[Request]:
        """All requests, the first one first."""
        return [waiting.request for waiting in sorted(self._waiting.values())]

    def forget(self) -> None:
        """Forget what was used and counts no longer: all of it when nobody waits."""
        virtual = self._virtual if self._waiting else inf
        self._finish = {identity: finish for identity, finish in self._finish.items() if finish > virtual}
