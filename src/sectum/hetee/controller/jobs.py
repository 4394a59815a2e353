"""Jobs of the insecure world: ordinary processes that somebody outside starts and ends, and vouches for.

The controller sees a connection, and no process of a job. A CPU or paced accelerator is a right to compute, so nothing
of a tenant depends on what a job says. A GPU that a job did not give back goes to nobody until the rack starts again.
"""

from __future__ import annotations

from sectum.hetee.controller.accelerators import has_nodes
from sectum.hetee.controller.allocation import Grant, Insecure, Request
from sectum.hetee.controller.allocator import Allocator
from sectum.hetee.controller.environment import Environment
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Accelerators, Deadline, Job, encode

END_S = 2.0  # for the processes of a job to end, after the grace time


class Jobs:
    """Asks for accelerators for jobs, tells jobs what they have, and takes it back.

    Args:
        allocator: decides.
        environment: sends frames.
        settings: limits.

    Attributes:
        preemptions: how often a job was told to give its accelerators back.
    """

    def __init__(self, allocator: Allocator, environment: Environment, settings: Settings) -> None:
        self._allocator, self._environment, self._settings = allocator, environment, settings
        self.preemptions = 0

    def ask(self, tenant: Tenant, job: Job) -> None:
        """Handle JOB_REQUEST.

        Raises:
            HeteeError: there are not so many accelerators, or the job waits or runs already.
        """
        if tenant.job is not None:
            raise refusal(Refusal.UNEXPECTED, "JOB_REQUEST of a job that waits or runs already")
        existing = self._allocator.counts.get(job.accelerator, 0)
        if job.count > existing:
            detail = f"the job asks for {job.count} accelerators of kind {job.accelerator}, the service has {existing}"
            raise refusal(Refusal.NO_ACCELERATOR, detail)
        tenant.state, tenant.deadline_s, tenant.job = SessionState.JOB, None, job
        number = tenant.connection  # all jobs are of one identity, the operator's
        self._allocator.ask(Request(number, job.accelerator, job.count, b"", job.priority, Insecure(number)))

    def grant(self, tenant: Tenant, grant: Grant) -> None:
        """Tell a job what it has."""
        self._environment.log("job_granted", job=tenant.connection, accelerators=grant.names)
        self._environment.send(
            tenant.connection, plain_frame(Kind.JOB_GRANT, encode(Accelerators(accelerators=grant.names)))
        )

    def revoke(self, tenant: Tenant) -> None:
        """Tell a job to give back all that it has within the grace time."""
        self.preemptions += 1
        self._environment.log("job_revoked", job=tenant.connection, grace_s=self._settings.job_grace_s)
        grace = Deadline(deadline_ms=int(self._settings.job_grace_s * 1e3))
        self._environment.send(tenant.connection, plain_frame(Kind.JOB_REVOKE, encode(grace)))

    def halt(self, tenant: Tenant) -> None:
        """Wait no longer for a job that has not given back in time; for GPUs that it may still use, wait.

        Raises:
            HeteeError: its connection is to end.
        """
        assert tenant.job is not None
        self._environment.log("job_late", job=tenant.connection)
        if not has_nodes(tenant.job.accelerator):
            raise refusal(Refusal.BUSY, "the job did not give its accelerators back in time, and has lost them")

    def returned(self, tenant: Tenant) -> None:
        """Handle JOB_RETURNED: the job's word that none of its processes is left; one that waits gives up.

        Raises:
            HeteeError: it neither waits nor has anything.
        """
        if tenant.job is None:
            raise refusal(Refusal.UNEXPECTED, "JOB_RETURNED of a job that neither waits nor runs")
        tenant.job = None
        self._allocator.withdraw(tenant.connection)
        self._environment.log("job_returned", job=tenant.connection)
        self._allocator.ended(Insecure(tenant.connection))

    def gone(self, tenant: Tenant) -> None:
        """Handle the end of a job's connection."""
        holder = Insecure(tenant.connection)
        if (names := self._allocator.owned(holder)) and tenant.job is not None and has_nodes(tenant.job.accelerator):
            why = "its job ended without giving it back, and may still use it; start the rack again when none does"
            self._environment.log("accelerators_withheld", job=tenant.connection, accelerators=names, why=why)
            self._allocator.withhold(holder)
        else:
            self._allocator.ended(holder)

    def drain(self, tenant: Tenant) -> None:
        """Take back what a job has, because the service is being stopped.

        Raises:
            HeteeError: it has nothing; its connection is to end.
        """
        if not self._allocator.owned(Insecure(tenant.connection)):
            raise refusal(Refusal.DRAINING, "the service is being stopped")
        self._allocator.shrink(Insecure(tenant.connection), 0)
