"""Who gets a session: the handshake, the list of identities, the places; and attestation again in a long session."""

from __future__ import annotations

from collections.abc import Iterator

from sectum.hetee.channel.handshake import ControllerHandshake
from sectum.hetee.controller import ending
from sectum.hetee.controller.core import Core
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import AcceleratorCount, Accept, FreshEvidence


def greet(core: Core, tenant: Tenant, frame: Frame) -> None:
    """Handle HELLO and PROOF.

    Raises:
        HeteeError: the handshake failed, or there is no place for a session.
    """
    settings = core.settings
    if tenant.handshake is None:
        core.refuse_if_stopping()
        _check_endorsement(core)
        if is_full(core) and not _end_first(core, idle(core), "others need this place, and it asks for nothing"):
            raise refusal(Refusal.BUSY, f"{settings.sessions} sessions are open, the limit")
        tenant.handshake = ControllerHandshake(
            lambda nonce: core.attester.evidence(core.subject, nonce),
            lambda identity: settings.admitted is None or identity in settings.admitted,
        )
    answer = tenant.handshake.receive(frame)
    if answer is not None:
        tenant.state, tenant.deadline_s = SessionState.PROVING, core.clock() + settings.greeting_s
        core.environment.send(tenant.connection, answer)
        return
    tenant.session, identity, tenant.handshake = tenant.handshake.session, tenant.handshake.identity, None
    tenant.share = core.shares.enter(identity)
    tenant.state, tenant.deadline_s = SessionState.OPEN, None
    counts = core.pool.allocator.counts.items()
    accept = Accept(
        service="sectum",
        version=core.subject.version,
        idle_ms=int(settings.idle_s * 1e3),
        accelerators=tuple(AcceleratorCount(kind=kind, count=count) for kind, count in counts),  # type: ignore[arg-type]
    )
    core.send(tenant, Kind.ACCEPT, accept)


def attest_again(core: Core, tenant: Tenant, challenge: bytes) -> None:
    """Answer CHALLENGE with evidence that is bound to the session."""
    assert tenant.session is not None
    _check_endorsement(core)
    evidence = core.attester.evidence(core.subject, tenant.session.renewal_nonce(challenge))
    core.send(tenant, Kind.EVIDENCE, FreshEvidence(evidence=evidence))


def _check_endorsement(core: Core) -> None:
    if (left_s := core.attester.left_s()) <= 0:
        raise refusal(Refusal.STALE, f"the endorsement of this machine expired {-left_s / 3600:,.1f} hours ago")


def is_full(core: Core) -> bool:
    """Whether as many sessions are open, or about to be, as the service has. Operators' connections are no sessions."""
    sessions = sum(t.session is not None or t.handshake is not None for t in core.tenants.values())
    return sessions >= core.settings.sessions


def idle(core: Core) -> Iterator[Tenant]:
    """The handshakes that wait, and the sessions that neither asked for an enclave nor have one, oldest first.

    They end when others need a place.
    """
    old_s = core.clock() - core.settings.greeting_s
    return (t for t in core.tenants.values() if t.handshake or (t.state is SessionState.OPEN and t.opened_s <= old_s))


def end_oldest_stranger(core: Core) -> bool:
    """End the oldest connection with neither a session nor a job; returns whether there is one."""
    strangers = (t for t in core.tenants.values() if t.session is None and t.state is not SessionState.JOB)
    return _end_first(core, strangers, "too many connections without a session are open")


def _end_first(core: Core, tenants: Iterator[Tenant], why: str) -> bool:
    first = next(tenants, None)
    if first is not None:
        ending.refuse(core, first, refusal(Refusal.BUSY, why))
    return first is not None
