"""What the controller knows of one client's session."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sectum.hetee.channel.handshake import ControllerHandshake, EstablishedSession
from sectum.hetee.controller.enclaves import EnclaveEntry
from sectum.hetee.controller.shares import Allowance, Share
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Configure, Job


class SessionState(Enum):
    """States of a session; ``ASKING`` and ``JOB`` are connections for counts and for a job, without a session."""

    GREETING = "greeting"
    PROVING = "proving"
    OPEN = "open"
    WAITING = "waiting"
    SERVING = "serving"
    CLOSING = "closing"
    ASKING = "asking"
    JOB = "job"


_MESSAGES = 10.0, 40.0  # a second, and at once
_CLOSING = frozenset({Kind.RESIZE, Kind.CHALLENGE, Kind.PING, Kind.PONG, Kind.ERROR})
_ALIVE = _CLOSING | {Kind.TERMINATE}
ACCEPTS = {
    SessionState.GREETING: frozenset({Kind.HELLO, Kind.STATUS, Kind.JOB_REQUEST, Kind.ERROR}),
    SessionState.PROVING: frozenset({Kind.PROOF, Kind.ERROR}),
    SessionState.OPEN: _ALIVE | {Kind.CONFIGURE},
    SessionState.WAITING: _ALIVE,
    SessionState.SERVING: _ALIVE,
    SessionState.CLOSING: _CLOSING,
    SessionState.ASKING: frozenset({Kind.STATUS, Kind.ERROR}),
    SessionState.JOB: frozenset({Kind.JOB_REQUEST, Kind.JOB_RETURNED, Kind.ERROR}),
}


@dataclass(eq=False)
class Tenant:
    """One connection of the host.

    Attributes:
        connection: number of the connection.
        last_heard_s: time of the last frame.
        opened_s: time at which it connected.
        deadline_s: time limit for the handshake or the wait for an enclave; None for no limit.
        state: state of the session.
        handshake: the handshake while it goes on; None otherwise.
        session: the session after the handshake; None before.
        share: what its identity uses; None before the handshake has ended, and without a session.
        messages: what it may send; a client sends two PINGs a second.
        configuration: the last CONFIGURE.
        count: number of accelerators that its enclave, or the next one, is to have.
        resize: number of accelerators of a RESIZE that has no answer yet, and when to give up; None if there is none.
        enclave: its worker; None if it has none.
        index: index of its next enclave.
        expected: number of the worker that is started for its devices; 0 if it waits for none.
        fence: number of a PING sent after LOST that has no PONG yet. Until the PONG comes, the session gets no new
            enclave, so that nothing that the client sent to the lost enclave reaches the next one.
        reported: the place in the queue that was last sent to the client, and when.
        record: signed record of the cleaning of the last enclave.
        job: what its job waits for or has; None without one.
    """

    connection: int
    opened_s: float
    last_heard_s: float
    deadline_s: float | None
    state: SessionState = SessionState.GREETING
    handshake: ControllerHandshake | None = None
    session: EstablishedSession | None = None
    share: Share | None = None
    messages: Allowance = field(default_factory=lambda: Allowance(*_MESSAGES))
    configuration: Configure | None = None
    count: int = 0
    resize: tuple[int, float] | None = None
    enclave: EnclaveEntry | None = None
    index: int = 0
    expected: int = 0
    fence: int | None = None
    reported: tuple[int, float] = (-1, 0.0)
    record: bytes = b""
    job: Job | None = None

    def wipe(self) -> None:
        """Overwrite all secrets of the session."""
        if self.handshake is not None:
            self.handshake.wipe()
        if self.session is not None:
            self.session.wipe()
