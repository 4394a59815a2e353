"""How a session ends: with a reason or without, whatever goes wrong in it, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable

from sectum.hetee.controller import jobs
from sectum.hetee.controller.core import Core, failure
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.kinds import Kind


def safely(core: Core, tenant: Tenant | None, act: Callable[..., None], *arguments: object) -> None:
    """Do something for one session, if it is still there. What goes wrong ends that session, never the controller."""
    if tenant is None or core.tenants.get(tenant.connection) is not tenant:
        return
    try:
        act(core, tenant, *arguments)
    except HeteeError as error:
        refuse(core, tenant, error)
    except Exception as fault:  # noqa: BLE001  # what one client can cause must not end the sessions of others
        core.environment.log("fault", connection=tenant.connection, type=type(fault).__name__)
        refuse(core, tenant, refusal(Refusal.INTERNAL, "the controller failed"))


def refuse(core: Core, tenant: Tenant, error: HeteeError) -> None:
    """Send the reason, sealed if there are keys, and close the connection."""
    core.environment.log("session_refused", connection=tenant.connection, code=error.code.name, detail=error.detail)
    try:
        if tenant.session is not None:
            core.send(tenant, Kind.FAIL, failure(error))
        else:
            core.send_plain(tenant, Kind.ERROR, failure(error))
    except Exception as fault:  # noqa: BLE001  # its keys are wiped or used up: it ends without a reason
        core.environment.log("fault", connection=tenant.connection, type=type(fault).__name__)
    close(core, tenant)


def close(core: Core, tenant: Tenant) -> None:
    """End a session, and its connection when everything has been sent."""
    forget(core, tenant)
    core.environment.close(tenant.connection)


def forget(core: Core, tenant: Tenant) -> None:
    """Wipe the secrets of a session, end its enclave, and take back its request and its place."""
    if core.tenants.pop(tenant.connection, None) is None:
        return
    core.pool.allocator.withdraw(tenant.connection)
    if tenant.state is SessionState.JOB:
        jobs.gone(core, tenant)
    tenant.wipe()
    if tenant.share is not None:
        core.shares.leave(tenant.share)
    if tenant.enclave is not None:
        tenant.enclave.tenant = None
        core.pool.wipe(tenant.enclave, 0)
