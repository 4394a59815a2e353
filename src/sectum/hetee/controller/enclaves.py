"""What the controller knows of one worker, whose states follow each other in one order only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from sectum.hetee.controller.shares import Allowance, Share
from sectum.hetee.wire.messages import Heartbeat, Started
from sectum.hetee.wire.state import WorkerStatus

_MESSAGES = 20.0, 200.0  # a second, and at once
_NOTHING = Heartbeat(open_streams=0, batches=0, images=0, bytes=0, busy_us=0)


class EnclaveState(IntEnum):
    """States of a worker. A worker moves to later states only."""

    STARTING = 0
    SPARE = 1
    ASSIGNED = 2
    SERVING = 3
    DRAINING = 4
    WIPED = 5
    CLEANED = 6


@dataclass(eq=False)
class EnclaveEntry:
    """One worker process, from its start until it has been collected.

    Attributes:
        number: number of the worker, from 1; never reused.
        pid: process id.
        measurement: measurement of its software, taken just before its start.
        kill_s: time at which it is killed if it has not done what it was told; None for never.
        state: its state.
        started: its keys and confinement; None until it is ready.
        session: session id, 16 bytes; empty while it is a spare.
        tenant: connection of its session; None when that has ended.
        share: what the identity of its session uses; None while it is a spare.
        messages: what it may send; it sends two HEARTBEATs a second.
        index: number of enclaves that the session had before.
        kind: kind of its accelerators.
        drained_s: time at which it was told to end.
        wiped: whether it has said that it has wiped its memory.
        blamed: why this controller killed it before its end; empty if it did not.
        owned: names of all accelerators that it was ever granted.
        given_back: those that it gave back while it lived, and that were then reset.
        heartbeat: the last counts that it sent.
    """

    number: int
    pid: int
    measurement: bytes
    kill_s: float | None
    state: EnclaveState = EnclaveState.STARTING
    started: Started | None = None
    session: bytes = b""
    tenant: int | None = None
    share: Share | None = None
    messages: Allowance = field(default_factory=lambda: Allowance(*_MESSAGES))
    index: int = 0
    kind: str = ""
    drained_s: float = 0.0
    wiped: bool = False
    blamed: str = ""
    owned: set[str] = field(default_factory=set)
    given_back: set[str] = field(default_factory=set)
    heartbeat: Heartbeat = _NOTHING

    def advance_to(self, state: EnclaveState) -> None:
        """Move to a later state, never back, so that no worker serves twice (rule R7)."""
        assert state > self.state, f"worker {self.number} from {self.state.name} back to {state.name}"
        self.state = state

    @property
    def has_work(self) -> bool:
        """Whether it has batches to compute."""
        return self.heartbeat.open_streams > 0 and self.state in (EnclaveState.SERVING, EnclaveState.DRAINING)

    def status(self, accelerators: tuple[str, ...]) -> WorkerStatus:
        """What an operator may know of a worker that has started."""
        return WorkerStatus(
            index=self.number,
            state=self.state.name.lower(),  # type: ignore[arg-type]  # all states but STARTING
            accelerators=accelerators,
            open_streams=self.heartbeat.open_streams,
            batches=self.heartbeat.batches,
            images=self.heartbeat.images,
            bytes=self.heartbeat.bytes,
        )
