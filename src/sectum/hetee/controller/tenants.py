"""A client's session as the controller sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sectum.hetee.channel.handshake import ControllerHandshake, Session
from sectum.hetee.controller.enclaves import Enclave
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Configure


class Stage(Enum):
    """States of a session; ``ASKING`` is a host's connection for counts."""

    GREETING = "greeting"
    PROVING = "proving"
    OPEN = "open"
    WAITING = "waiting"
    SERVING = "serving"
    CLOSING = "closing"
    ASKING = "asking"


_ALIVE = frozenset({Kind.TERMINATE, Kind.PING, Kind.PONG, Kind.ERROR})
ACCEPTS = {
    Stage.GREETING: frozenset({Kind.HELLO, Kind.STATUS, Kind.ERROR}),
    Stage.PROVING: frozenset({Kind.PROOF, Kind.ERROR}),
    Stage.OPEN: _ALIVE | {Kind.CONFIGURE},
    Stage.WAITING: _ALIVE,
    Stage.SERVING: _ALIVE,
    Stage.CLOSING: frozenset({Kind.PING, Kind.PONG, Kind.ERROR}),
    Stage.ASKING: frozenset({Kind.STATUS, Kind.ERROR}),
}


@dataclass(eq=False)
class Tenant:
    """One connection of the host.

    Attributes:
        connection: its number.
        stage: where its session is.
        heard_s: when something came from it.
        until_s: when the handshake or the wait for an enclave is over; None for never.
        handshake: until it is done.
        session: from then on.
        wanted: the configuration that it asked for.
        enclave: the worker that it has.
        index: of the next enclave.
        fence: number of a PING behind LOST whose PONG is waited for, so that nothing that the client sent to the lost
            enclave reaches the next one.
        told: its place in the queue as it knows it, and when it was told.
        record: of the cleaning of the last enclave, signed.
    """

    connection: int
    heard_s: float
    until_s: float | None
    stage: Stage = Stage.GREETING
    handshake: ControllerHandshake | None = None
    session: Session | None = None
    wanted: Configure | None = None
    enclave: Enclave | None = None
    index: int = 0
    fence: int | None = None
    told: tuple[int, float] = (-1, 0.0)
    record: bytes = b""

    def wipe(self) -> None:
        """Overwrite all its secrets."""
        if self.handshake is not None:
            self.handshake.wipe()
        if self.session is not None:
            self.session.wipe()
