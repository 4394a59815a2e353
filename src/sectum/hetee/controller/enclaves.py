"""A worker as the controller sees it: a life in one direction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sectum.hetee.wire.messages import Beat, Born, WorkerStatus

_NOTHING = Beat(open_streams=0, batches=0, images=0, bytes=0, busy_us=0)


class Life(IntEnum):
    """States of a worker, in the only order in which they follow each other."""

    STARTING = 0
    SPARE = 1
    ASSIGNED = 2
    SERVING = 3
    DRAINING = 4
    WIPED = 5
    CLEANED = 6


@dataclass(eq=False)
class Enclave:
    """A worker process, from its start until it was collected.

    Attributes:
        number: of this controller, from 1; never used again.
        pid: its process.
        measurement: of its software, taken just before its start.
        born: its keys, when it is ready.
        session: whose it is, 16 bytes; empty while it is a spare.
        tenant: the connection of its session; None when that has ended.
        index: how many enclaves this session had before.
        kind: of its accelerators.
        count: how many of them its session asked for.
        granted_s: when it got accelerators last.
        revoked_s: when it was asked for them; None while it was not.
        kill_s: when it is killed if it does not do before what it was told to; None for never.
        wiped_bytes: what it says that it has overwritten; None until it says so.
        beat: what it has done.
    """

    number: int
    pid: int
    measurement: bytes
    kill_s: float | None
    life: Life = Life.STARTING
    born: Born | None = None
    session: bytes = b""
    tenant: int | None = None
    index: int = 0
    kind: str = ""
    count: int = 0
    granted_s: float = 0.0
    revoked_s: float | None = None
    wiped_bytes: int | None = None
    beat: Beat = _NOTHING

    def to(self, life: Life) -> None:
        """Go on to a later state: never back, so that nothing serves twice (rule R7)."""
        assert life > self.life, f"worker {self.number} from {self.life.name} back to {life.name}"
        self.life = life

    @property
    def hungry(self) -> bool:
        """Whether it has batches to compute."""
        return self.beat.open_streams > 0 and self.life in (Life.SERVING, Life.DRAINING)

    def status(self, accelerators: tuple[str, ...]) -> WorkerStatus:
        """What an operator may know of one that has started."""
        return WorkerStatus(
            index=self.number,
            state=self.life.name.lower(),  # type: ignore[arg-type]  # the names of all lives but STARTING
            accelerators=accelerators,
            open_streams=self.beat.open_streams,
            batches=self.beat.batches,
            images=self.beat.images,
            bytes=self.beat.bytes,
        )
