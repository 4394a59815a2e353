"""What the racks of a pool share: models, and batches that wait for a rack."""

from __future__ import annotations

import heapq
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from typing import Any

from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.results import Result
from sectum.hetee.client.session import Session
from sectum.hetee.errors import HeteeError, Refusal, Scope, ServiceRefused, refusal

MOST_MOVES = 3
"""A batch that so many racks were lost with is refused: it may be what ends them."""
_PASSING = frozenset({Refusal.TRUNCATED, Refusal.HANDSHAKE_LATE, Refusal.WIPED})


@dataclass(frozen=True)
class RackResult(Result):
    """The answer to one batch, whose receipt was verified.

    Attributes:
        rack: address of the rack that computed it.
        device: the machine, as the accepted evidence of its controller names it.
        session: the session in which it came.
    """

    rack: str = ""
    device: bytes = b""
    session: Session | None = field(default=None, repr=False, compare=False)


def named(result: Result, rack: str, session: Session) -> RackResult:
    """A result with the rack that it came from."""
    assert session.trust.controller is not None
    values = {one.name: getattr(result, one.name) for one in fields(Result)}
    return RackResult(**values, rack=rack, device=session.trust.controller.device, session=session)


def another_may_answer(error: HeteeError) -> bool:
    """Whether the error is about the rack and not about the batch, so that another rack may answer it."""
    return error.code.scope is not Scope.STREAM or error.code is Refusal.NO_MODEL


def is_final(error: HeteeError) -> bool:
    """Whether a rack that failed like this is not asked again: it is not trusted, or breaks the protocol."""
    return not isinstance(error, ServiceRefused) and error.code not in _PASSING


@dataclass(eq=False)
class Task:
    """A batch that waits for a rack, or is with one.

    Attributes:
        number: place in the order of the calls, from 0.
        model: SHA-256 of its model.
        inputs: as for `Session.submit`.
        options: further options of `Session.submit`.
        answer: gets the result or an error, once.
        moves: number of times that it was lost with its rack.
    """

    number: int
    model: bytes
    inputs: Inputs
    options: dict[str, Any]
    answer: Future[RackResult]
    moves: int = 0


class Board:
    """Batches that wait, in the order of the calls, and the models that they need.

    Attributes:
        changed: guards everything here and in the lanes. It is never held while a session is used.
        models: contents by SHA-256.
        served_s: when a rack last answered or became ready; `time.monotonic`.
        closed: whether the pool's session has ended.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.models: dict[bytes, bytes] = {}
        self.served_s = time.monotonic()
        self.closed = False
        self._waiting: list[tuple[int, Task]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, task: Task) -> None:
        """Have a batch wait. One that comes back has its old place."""
        with self.changed:
            heapq.heappush(self._waiting, (task.number, task))
            self.changed.notify_all()

    def take(self) -> Task | None:
        """The first batch that waits; None if there is none."""
        with self.changed:
            return heapq.heappop(self._waiting)[1] if self._waiting else None

    def move(self, task: Task, error: HeteeError, *, lost: bool) -> None:
        """Give a batch back that a rack could not answer; one that too many racks were ``lost`` with is refused."""
        task.moves += lost
        if task.moves > MOST_MOVES:
            task.answer.set_exception(error)
        elif self.closed:
            task.answer.set_exception(refusal(Refusal.WIPED, "the session was closed before the batch was answered"))
        else:
            self.put(task)

    def refuse_all(self, error: HeteeError) -> None:
        """Refuse every batch that waits."""
        while (task := self.take()) is not None:
            task.answer.set_exception(error)
