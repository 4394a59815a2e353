"""What operators are told: counts, and what keeps new clients from being served. No names of models, no keys."""

from __future__ import annotations

from sectum.hetee.controller.admission import idle, is_full
from sectum.hetee.controller.allocation import Free, Insecure, Resetting, Secure
from sectum.hetee.controller.allocator import Allocator
from sectum.hetee.controller.core import STOPPING, Core
from sectum.hetee.controller.enclaves import EnclaveState
from sectum.hetee.controller.tenants import SessionState
from sectum.hetee.wire.messages import Job
from sectum.hetee.wire.state import AcceleratorStatus, JobStatus, State

_WORKERS = _ACCELERATORS = 256
WARN_DAYS = 30.0
_DAY_S = 24 * 3600.0
_FAILED_STARTS = 3


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


def report(core: Core) -> State:
    """The answer to STATUS."""
    pool, settings, allocator = core.pool, core.settings, core.pool.allocator
    tenants = core.tenants.values()
    names = [f"{kind}:{number}" for kind, count in allocator.counts.items() for number in range(count)]
    lost = sum(allocator.withheld(name) for name in names)
    living = [enclave for enclave in pool.enclaves.values() if enclave.state > EnclaveState.STARTING]
    left_s, draining = core.attester.left_s(), core.drained_s is not None
    problems = {
        STOPPING: draining,
        "the endorsement of this machine has expired": left_s <= 0,
        f"{settings.sessions} sessions are open, the limit": is_full(core) and not any(idle(core)),
        "workers do not start: see the log": pool.failures >= _FAILED_STARTS and not allocator.idle(),
    }
    days = left_s / _DAY_S
    warnings = {
        f"this machine's endorsement expires in {days:.1f} days": 0 < days < WARN_DAYS,
        f"{lost} accelerators are withheld: see the log": lost > 0,
    }
    return State(
        workers=tuple(enclave.status(allocator.owned(Secure(enclave.number))) for enclave in living[:_WORKERS]),
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
        preemptions=core.preemptions,
    )
