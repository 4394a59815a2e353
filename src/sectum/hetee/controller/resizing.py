"""RESIZE: an enclave grows, or shrinks, while it computes. Each RESIZE has one answer, RESIZED."""

from __future__ import annotations

from sectum.hetee.controller import requests
from sectum.hetee.controller.accelerators import has_nodes
from sectum.hetee.controller.allocation import Secure
from sectum.hetee.controller.core import Core, failure
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Resize, Resized


def resize(core: Core, tenant: Tenant, wanted: Resize) -> None:
    """Let an enclave grow, which is a request, or shrink, for which it is asked to give the surplus back."""
    enclave, allocator, count = tenant.enclave, core.pool.allocator, wanted.count
    if enclave is None or tenant.state is not SessionState.SERVING:
        _answer(core, tenant, refusal(Refusal.WORKER_LOST, "the session has no enclave now"))
    elif tenant.resize is not None:
        _answer(core, tenant, refusal(Refusal.BUSY, "the RESIZE before has no answer yet"))
    elif has_nodes(enclave.kind):
        detail = f"a worker sees the {enclave.kind} devices of its start only: end the session, and ask for another"
        _answer(core, tenant, refusal(Refusal.NO_ACCELERATOR, detail))
    elif count > allocator.counts[enclave.kind]:
        _answer(core, tenant, requests.too_many(core, enclave.kind, count))
    else:
        tenant.resize = count, core.clock() + wanted.wait_ms / 1e3
        allocator.withdraw(tenant.connection)
        if count > tenant.count:
            requests.ask(core, tenant, count)
        else:
            tenant.count = count
            allocator.shrink(Secure(enclave.number), count)


def follow(core: Core, tenant: Tenant, now: float) -> None:
    """End a RESIZE when what was given back is reset, or when there was no more to be had in time."""
    if tenant.resize is None or tenant.enclave is None:
        return
    (count, until_s), allocator, holder = tenant.resize, core.pool.allocator, Secure(tenant.enclave.number)
    if count > tenant.count:
        if now >= until_s:
            allocator.withdraw(tenant.connection)
            why = "so many accelerators did not become free within the time that the client allows"
            end(core, tenant, refusal(Refusal.BUSY, why))
    elif len(allocator.owned(holder)) <= count and not (allocator.asked(holder) or allocator.resetting(holder)):
        end(core, tenant)


def granted(core: Core, tenant: Tenant) -> None:
    """End a RESIZE whose enclave has what it asked for."""
    if tenant.resize is not None and tenant.resize[0] > tenant.count:
        tenant.count, _ = tenant.resize
        end(core, tenant)


def end(core: Core, tenant: Tenant, error: HeteeError | None = None) -> None:
    """Answer a RESIZE that has no answer yet, if there is one."""
    if tenant.resize is not None:
        tenant.resize = None
        _answer(core, tenant, error)


def _answer(core: Core, tenant: Tenant, error: HeteeError | None) -> None:
    names = core.pool.allocator.owned(Secure(tenant.enclave.number)) if tenant.enclave is not None else ()
    core.send(tenant, Kind.RESIZED, Resized(accelerators=names, refused=(failure(error),) if error else ()))
