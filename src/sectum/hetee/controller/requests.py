"""What a session asks the allocator for, and its wait: CONFIGURE, QUEUED, the time limit."""

from __future__ import annotations

from sectum.hetee.controller.accelerators import has_nodes
from sectum.hetee.controller.allocation import Request, Secure
from sectum.hetee.controller.core import Core, failure
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Configure, Queued

_QUEUED_EVERY_S = 1.0


def configure(core: Core, tenant: Tenant, configuration: Configure) -> None:
    """Handle CONFIGURE: wait for an enclave."""
    core.refuse_if_stopping()
    kind, count = configuration.accelerator, configuration.count
    if count > core.pool.allocator.counts.get(kind, 0):
        core.send(tenant, Kind.FAIL, failure(too_many(core, kind, count)))
        return
    tenant.configuration, tenant.count = configuration, count
    wait(core, tenant)


def too_many(core: Core, kind: str, count: int) -> HeteeError:
    """The refusal of more accelerators than the service has."""
    existing = core.pool.allocator.counts.get(kind, 0)
    detail = f"the client asked for {count} accelerators of kind {kind}, the service has {existing}"
    return refusal(Refusal.NO_ACCELERATOR, detail)


def wait(core: Core, tenant: Tenant) -> None:
    """Let a session wait for an enclave, its first or its next one."""
    assert tenant.configuration is not None
    tenant.state, tenant.reported = SessionState.WAITING, (-1, 0.0)
    tenant.deadline_s = core.clock() + tenant.configuration.wait_ms / 1e3
    if tenant.fence is None:
        ask(core, tenant)


def ask(core: Core, tenant: Tenant, count: int = 0) -> None:
    """Ask the allocator for what a session's enclave is to have; the enclave may exist, or be one with devices."""
    assert tenant.configuration is not None
    assert tenant.share is not None
    kind, identity = tenant.configuration.accelerator, tenant.share.identity
    holder = None if tenant.enclave is None else Secure(tenant.enclave.number)
    if holder is None and has_nodes(kind):  # its worker is started when it has them
        tenant.expected = core.pool.next_number()
        holder = Secure(tenant.expected)
    priority = (core.settings.admitted or {}).get(identity, 0)
    core.pool.allocator.ask(Request(tenant.connection, kind, count or tenant.count, identity, priority, holder))


def follow(core: Core, tenant: Tenant, now: float) -> None:
    """Tell a session that waits its place in the queue, or that it has waited long enough."""
    if tenant.deadline_s is not None and now >= tenant.deadline_s:
        core.pool.allocator.withdraw(tenant.connection)
        tenant.state, tenant.deadline_s = SessionState.OPEN, None
        core.send(tenant, Kind.FAIL, failure(refusal(Refusal.BUSY, _why_none(tenant, now))))
        return
    ahead, (reported, when) = core.pool.allocator.ahead(tenant.connection), tenant.reported
    if ahead != reported and now >= when + _QUEUED_EVERY_S:
        tenant.reported = ahead, now
        core.send(tenant, Kind.QUEUED, Queued(ahead=ahead))


def _why_none(tenant: Tenant, now: float) -> str:
    if tenant.share is not None and now < tenant.share.paused_s:
        pause_s = tenant.share.paused_s - now
        return f"{tenant.share.crashes} workers of this identity crashed; it gets the next one in {pause_s:.0f} s"
    return "no enclave became free within the time that the client allows"
