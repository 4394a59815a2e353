"""What a client says in its session, and the time limits of a session."""

from __future__ import annotations

from sectum.hetee.controller import admission, ending, requests, resizing
from sectum.hetee.controller.core import STOPPING, Core
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Challenge, Cleaned, Configure, Deadline, Ping, Resize
from sectum.hetee.wire.schemas import read


def handle(core: Core, tenant: Tenant, frame: Frame) -> None:
    """Handle a sealed message.

    Raises:
        HeteeError: it is not the next one of this session, is malformed or not expected, or is one too many.
    """
    kind = frame.header.kind
    assert tenant.session is not None
    assert tenant.share is not None
    message = read(kind, tenant.session.opener.open(frame.header, frame.payload))
    tenant.messages.take(core.clock(), "session")
    tenant.share.messages.take(core.clock(), "identity")
    match message:
        case Configure():
            requests.configure(core, tenant, message)
        case Resize():
            resizing.resize(core, tenant, message)
        case Deadline():
            _terminate(core, tenant, message.deadline_ms)
        case Ping() if kind is Kind.PING:
            core.send(tenant, Kind.PONG, message)
        case Challenge():
            admission.attest_again(core, tenant, message.nonce)
        case Ping():
            if message.number != tenant.fence:
                raise refusal(Refusal.UNEXPECTED, "PONG without its PING")
            tenant.fence = None
            if tenant.state is SessionState.WAITING:
                requests.ask(core, tenant)


def _terminate(core: Core, tenant: Tenant, deadline_ms: int) -> None:
    tenant.state, tenant.deadline_s = SessionState.CLOSING, None
    if tenant.enclave is not None:  # it keeps its place in the queue, because it still has batches to answer
        core.pool.wipe(tenant.enclave, deadline_ms)
        return
    if tenant.record:
        core.send(tenant, Kind.CLEANED, Cleaned(record=tenant.record))
    ending.close(core, tenant)


def follow(core: Core, tenant: Tenant, now: float) -> None:
    """Enforce the time limits of a connection.

    Raises:
        HeteeError: it has exceeded one, and is to end.
    """
    settings = core.settings
    if now >= tenant.last_heard_s + settings.idle_s and tenant.state is not SessionState.JOB:
        raise refusal(Refusal.IDLE, f"no frame came for {settings.idle_s:g} s")
    greeting = tenant.state in (SessionState.GREETING, SessionState.PROVING)
    if greeting and tenant.deadline_s is not None and now >= tenant.deadline_s:
        raise refusal(Refusal.HANDSHAKE_LATE, f"a step of the handshake took longer than {settings.greeting_s:g} s")
    if core.drained_s is not None and now >= core.drained_s:
        raise refusal(Refusal.DRAINING, STOPPING)
    resizing.follow(core, tenant, now)
    if tenant.state is SessionState.WAITING:
        requests.follow(core, tenant, now)
