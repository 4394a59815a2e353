"""What workers do: their messages, their stops and their ends. Each end of an enclave is told to its session."""

from __future__ import annotations

from sectum.hetee.attest.records import Cleaning, sign_cleaning
from sectum.hetee.controller import ending, granting, requests, resizing
from sectum.hetee.controller.accelerators import reset
from sectum.hetee.controller.allocation import Secure
from sectum.hetee.controller.core import Core
from sectum.hetee.controller.enclaves import EnclaveEntry, EnclaveState
from sectum.hetee.controller.environment import CollectedProcess
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import FrameRefused, HeteeError, Refusal, refusal
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Cleaned, Empty, Lost, Ping

_CALM_EXITS = ("killed by SIGKILL", "exit code 0", f"exit code {FrameRefused.exit_code}")  # a crash ends otherwise


def linked(core: Core, enclave: EnclaveEntry, frame: Frame) -> None:
    """Handle a frame from a worker."""
    try:
        enclave.messages.take(core.clock(), "worker")
        core.pool.linked(enclave, frame)
    except HeteeError as error:
        core.pool.misbehaved(enclave.number, error)
    if enclave.tenant is not None and enclave.has_work and not core.pool.allocator.owned(Secure(enclave.number)):
        requests.ask(core, core.tenants[enclave.tenant])
    if enclave.state is EnclaveState.SPARE and enclave.owned:
        granting.started_with_devices(core, enclave.number, tuple(sorted(enclave.owned)))


def collected(core: Core, enclave: EnclaveEntry, ended: CollectedProcess) -> None:
    """Handle the end of a worker's process, after `waitpid`."""
    core.pool.collected(enclave)
    core.environment.log(
        "worker_collected", worker=enclave.number, pid=enclave.pid, wiped=enclave.wiped, exit=ended.exit
    )
    if not enclave.session:
        if waiting := granting.expecting(core, enclave.number):
            requests.ask(core, waiting)
        return
    record = _cleaning_record(core, enclave, ended)
    if enclave.share is not None and not enclave.wiped and (enclave.blamed or ended.exit not in _CALM_EXITS):
        core.pool.allocator.pause(enclave.share.identity, core.shares.crashed(enclave.share))
    if enclave.tenant is not None:
        tenant, why = core.tenants[enclave.tenant], enclave.blamed or ended.exit
        ending.safely(core, tenant, _tell_end, enclave, record, why)


def _cleaning_record(core: Core, enclave: EnclaveEntry, ended: CollectedProcess) -> bytes:
    """Sign what this controller saw of the end of a worker that it has collected (rule R7)."""
    cleaning = Cleaning(
        session=enclave.session,
        index=enclave.index,
        ended="asked" if enclave.wiped else "killed",
        exit=ended.exit,
        accelerators={name: reset(name, before=name in enclave.given_back) for name in sorted(enclave.owned)},
        pid=enclave.pid,
        peak_bytes=ended.peak_bytes,
        hardware=core.attester.format,
    )
    return sign_cleaning(cleaning, core.attester.sign_record)


def _tell_end(core: Core, tenant: Tenant, enclave: EnclaveEntry, record: bytes, why: str) -> None:
    """Tell a session the end of its enclave: it ends, too, or gets the next enclave behind a fence."""
    tenant.enclave, tenant.record = None, record
    core.pool.allocator.withdraw(tenant.connection)
    core.send_plain(tenant, Kind.UNROUTE, Empty(), stream=enclave.index)
    if tenant.state is SessionState.CLOSING:
        core.send(tenant, Kind.CLEANED, Cleaned(record=record))
        ending.close(core, tenant)
        return
    lost = refusal(Refusal.WORKER_LOST, f"the enclave's process ended: {why}"[:512])
    resizing.end(core, tenant, lost)
    core.send(tenant, Kind.LOST, Lost(index=enclave.index, code=lost.code, detail=lost.detail, record=record))
    tenant.fence = tenant.index
    core.send(tenant, Kind.PING, Ping(number=tenant.fence))
    requests.wait(core, tenant)
