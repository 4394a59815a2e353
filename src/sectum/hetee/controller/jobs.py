"""Jobs of the insecure world: ordinary processes that somebody outside starts and ends, and vouches for.

The controller sees a connection, and no process of a job. A CPU or paced accelerator is a right to compute, so nothing
of a tenant depends on what a job says. A GPU that a job did not give back goes to nobody until the rack starts again.
"""

from __future__ import annotations

from sectum.hetee.controller.accelerators import has_nodes
from sectum.hetee.controller.allocation import Insecure, Request
from sectum.hetee.controller.core import STOPPING, Core
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Accelerators, Deadline, Job, Message

_AT_ONCE = 32


def handle(core: Core, tenant: Tenant, message: Message) -> None:
    """Handle JOB_REQUEST, and JOB_RETURNED: the job's word that none of its processes is left; one that waits gives up.

    Raises:
        HeteeError: there are not so many accelerators or places, or the job waits or runs already, or does neither.
    """
    tenant.messages.take(core.clock(), "job")
    if isinstance(message, Job):
        _ask(core, tenant, message)
        return
    if tenant.job is None:
        raise refusal(Refusal.UNEXPECTED, "JOB_RETURNED of a job that neither waits nor runs")
    tenant.job = None
    core.pool.allocator.withdraw(tenant.connection)
    core.environment.log("job_returned", job=tenant.connection)
    core.pool.allocator.ended(Insecure(tenant.connection))


def _ask(core: Core, tenant: Tenant, job: Job) -> None:
    core.refuse_if_stopping()
    others = (other for other in core.tenants.values() if other is not tenant)
    if sum(other.state is SessionState.JOB for other in others) >= _AT_ONCE:
        raise refusal(Refusal.BUSY, f"{_AT_ONCE} jobs wait or run, the limit")
    if tenant.job is not None:
        raise refusal(Refusal.UNEXPECTED, "JOB_REQUEST of a job that waits or runs already")
    existing = core.pool.allocator.counts.get(job.accelerator, 0)
    if job.count > existing:
        detail = f"the job asks for {job.count} accelerators of kind {job.accelerator}, the service has {existing}"
        raise refusal(Refusal.NO_ACCELERATOR, detail)
    tenant.state, tenant.deadline_s, tenant.job = SessionState.JOB, None, job
    number = tenant.connection  # all jobs are of one identity, the operator's
    core.pool.allocator.ask(Request(number, job.accelerator, job.count, b"", job.priority, Insecure(number)))


def grant(core: Core, tenant: Tenant, names: tuple[str, ...]) -> None:
    """Tell a job what it has."""
    core.environment.log("job_granted", job=tenant.connection, accelerators=names)
    core.send_plain(tenant, Kind.JOB_GRANT, Accelerators(accelerators=names))


def revoke(core: Core, tenant: Tenant) -> None:
    """Tell a job to give back all that it has within the grace time."""
    core.preemptions += 1
    grace_s = core.settings.job_grace_s
    core.environment.log("job_revoked", job=tenant.connection, grace_s=grace_s)
    core.send_plain(tenant, Kind.JOB_REVOKE, Deadline(deadline_ms=int(grace_s * 1e3)))


def halt(core: Core, tenant: Tenant) -> None:
    """Wait no longer for a job that has not given back in time; for GPUs that it may still use, wait.

    Raises:
        HeteeError: its connection is to end.
    """
    assert tenant.job is not None
    core.environment.log("job_late", job=tenant.connection)
    if not has_nodes(tenant.job.accelerator):
        raise refusal(Refusal.BUSY, "the job did not give its accelerators back in time, and has lost them")


def gone(core: Core, tenant: Tenant) -> None:
    """Handle the end of a job's connection."""
    holder, allocator = Insecure(tenant.connection), core.pool.allocator
    if (names := allocator.owned(holder)) and tenant.job is not None and has_nodes(tenant.job.accelerator):
        why = "its job ended without giving it back, and may still use it; start the rack again when none does"
        core.environment.log("accelerators_withheld", job=tenant.connection, accelerators=names, why=why)
        allocator.withhold(holder)
    else:
        allocator.ended(holder)


def drain(core: Core, tenant: Tenant) -> None:
    """Take back what a job has, because the service is being stopped.

    Raises:
        HeteeError: it has nothing; its connection is to end.
    """
    if not core.pool.allocator.owned(Insecure(tenant.connection)):
        raise refusal(Refusal.DRAINING, STOPPING)
    core.pool.allocator.shrink(Insecure(tenant.connection), 0)
