"""What operators are told: counts, and what keeps new clients from being served. No names of models, no keys."""

from __future__ import annotations

from collections.abc import Collection

from sectum.hetee.controller.allocation import Free, Insecure, Resetting, Secure
from sectum.hetee.controller.allocator import Allocator
from sectum.hetee.controller.enclaves import EnclaveState
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.controller.worker_pool import WorkerPool
from sectum.hetee.wire.messages import Job
from sectum.hetee.wire.state import AcceleratorStatus, JobStatus, State

_WORKERS = _ACCELERATORS = 256
WARN_DAYS = 30.0
_DAY_S = 24 * 3600.0
_FAILED_STARTS = 3


def is_full(tenants: Collection[Tenant], settings: Settings) -> bool:
    """Whether as many sessions are open, or about to be, as the service has. Operators' connections are no sessions."""
    return sum(t.session is not None or t.handshake is not None for t in tenants) >= settings.sessions


def gives_way(tenants: Collection[Tenant], settings: Settings, now: float) -> Tenant | None:
    """The oldest session that has neither asked for an enclave nor has one: it ends when another needs its place."""
    old = (t for t in tenants if t.state is SessionState.OPEN and now >= t.opened_s + settings.greeting_s)
    return next(old, None)


def _accelerator(allocator: Allocator, name: str) -> AcceleratorStatus:
    match allocator.owner(name):
        case Free():
            return AcceleratorStatus(name=name, world="free")
        case Resetting():
            return AcceleratorStatus(name=name, world="withheld" if allocator.withheld(name) else "resetting")
        case Secure(number):
            return AcceleratorStatus(name=name, world="secure", owner=number)
        case Insecure(number):
            return AcceleratorStatus(name=name, world="insecure", owner=number)


def _job(allocator: Allocator, number: int, job: Job) -> JobStatus:
    owned, asked = allocator.owned(Insecure(number)), allocator.asked(Insecure(number))
    return JobStatus(
        index=number,
        state="ending" if asked else "running" if owned else "waiting",
        accelerator=job.accelerator,
        count=job.count,
        priority=job.priority,
    )


def report(
    pool: WorkerPool, tenants: Collection[Tenant], settings: Settings, *, draining: bool, left_s: float, now: float
) -> State:
    """The answer to STATUS.

    Args:
        pool: all workers.
        tenants: all connections.
        settings: limits.
        draining: whether the service is being stopped.
        left_s: seconds until the endorsement of this machine expires.
        now: monotonic time in seconds.
    """
    allocator = pool.allocator
    names = [f"{kind}:{number}" for kind, count in allocator.counts.items() for number in range(count)]
    lost = sum(allocator.withheld(name) for name in names)
    living = [enclave for enclave in pool.enclaves.values() if enclave.state > EnclaveState.STARTING]
    full = is_full(tenants, settings) and gives_way(tenants, settings, now) is None
    problems = {
        "the service is being stopped": draining,
        "the endorsement of this machine has expired": left_s <= 0,
        f"{settings.sessions} sessions are open, the limit": full,
        "workers do not start: see the log": pool.failures >= _FAILED_STARTS and not pool.allocator.idle(),
    }
    days = left_s / _DAY_S
    warnings = {
        f"this machine's endorsement expires in {days:.1f} days": 0 < days < WARN_DAYS,
        f"{lost} accelerators are withheld: see the log": lost > 0,
    }
    return State(
        workers=tuple(enclave.status(pool.allocator.owned(Secure(enclave.number))) for enclave in living[:_WORKERS]),
        waiting=sum(tenant.state is SessionState.WAITING for tenant in tenants),
        sessions=sum(tenant.session is not None for tenant in tenants),
        draining=draining,
        unconfined=(
            *(f"controller {word}"[:64] for word in settings.unconfined),
            *(f"worker {word}"[:64] for word in pool.unconfined),
        ),
        problems=tuple(what for what, true in problems.items() if true),
        warnings=tuple(what for what, true in warnings.items() if true),
        accelerators=tuple(_accelerator(allocator, name) for name in names[:_ACCELERATORS]),
        jobs=tuple(_job(allocator, tenant.connection, tenant.job) for tenant in tenants if tenant.job is not None),
        preemptions=pool.jobs.preemptions,
    )
