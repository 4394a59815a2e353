"""Carries out what the allocator decides: accelerators are granted, and taken back, in both worlds."""

from __future__ import annotations

from sectum.hetee.controller import jobs, key_release, requests, resizing
from sectum.hetee.controller.allocation import Grant, Halt, Insecure, Revoke, Secure
from sectum.hetee.controller.core import Core
from sectum.hetee.controller.ending import safely
from sectum.hetee.controller.tenants import SessionState, Tenant


def carry_out(core: Core) -> None:
    """Carry out what is to be done now, and start spare workers. What a fault leaves undone is done the next time."""
    core.decisions += core.pool.allocator.decide(core.clock())
    while core.decisions:
        match core.decisions.pop(0):
            case Grant(asker, Secure(number), names):
                _grant(core, asker, number, names)
            case Revoke(Secure(number), names):
                core.pool.revoke(number, names)
            case Halt(Secure(number)):
                core.pool.halt(number)
            case Grant(_, Insecure(job), names):
                safely(core, core.tenants.get(job), jobs.grant, names)
            case Revoke(Insecure(job)):
                safely(core, core.tenants.get(job), jobs.revoke)
            case Halt(Insecure(job)):
                safely(core, core.tenants.get(job), jobs.halt)
    if core.drained_s is None:
        core.pool.refill(core.pool.allocator.lacking)


def _grant(core: Core, asker: int, worker: int, names: tuple[str, ...]) -> None:
    tenant = core.tenants.get(asker)
    if tenant is None:  # ended by a fault while others were served
        _unwanted(core, worker)
    elif worker in core.pool.enclaves:
        safely(core, tenant, _serve, worker, names)
    elif not core.pool.start_with(worker, names):
        _unwanted(core, worker)
        requests.ask(core, tenant)


def _serve(core: Core, tenant: Tenant, worker: int, names: tuple[str, ...]) -> None:
    """Give a session what it was granted, and an enclave if it has none."""
    if tenant.enclave is None:
        key_release.give_enclave(core, tenant, core.pool.enclaves[worker], names)
    core.pool.grant(core.pool.enclaves[worker], names)
    resizing.granted(core, tenant)


def _unwanted(core: Core, worker: int) -> None:
    """Take from a worker what nobody waits for any more."""
    if worker in core.pool.enclaves:
        core.environment.kill(worker)
    else:
        core.pool.allocator.ended(Secure(worker))


def started_with_devices(core: Core, worker: int, names: tuple[str, ...]) -> None:
    """Give a worker that was started for its devices to the session that waits for it."""
    tenant = expecting(core, worker)
    if tenant is None:
        _unwanted(core, worker)
    safely(core, tenant, _serve, worker, names)


def expecting(core: Core, worker: int) -> Tenant | None:
    """The session that waits for a worker that is started for its devices."""
    waiting = (tenant for tenant in core.tenants.values() if tenant.state is SessionState.WAITING)
    return next((tenant for tenant in waiting if tenant.expected == worker), None)
