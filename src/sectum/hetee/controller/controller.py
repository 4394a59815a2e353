"""The controller's events. Those of hosts and workers go in; frames and commands to the environment come out."""

from __future__ import annotations

from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.controller import admission, ending, granting, jobs, sessions, worker_events
from sectum.hetee.controller.core import STOPPING, Core
from sectum.hetee.controller.environment import Clock, CollectedProcess, Environment
from sectum.hetee.controller.memory import too_large
from sectum.hetee.controller.report import WARN_DAYS, report
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.tenants import ACCEPTS, SessionState, Tenant
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Deadline
from sectum.hetee.wire.schemas import read

_MEASURE_EVERY_S = 0.1
_DAY_S = 24 * 3600.0


class Controller:
    """All sessions and workers of a machine. Not thread-safe.

    Args:
        settings: limits.
        attester: holds the attestation key.
        subject: this controller, as its evidence describes it.
        environment: sends frames, and starts and kills workers.
        clock: monotonic time in seconds.
    """

    def __init__(
        self, settings: Settings, attester: AttestationKey, subject: Subject, environment: Environment, clock: Clock
    ) -> None:
        self._core = Core(settings, attester, subject, environment, clock)
        self.pool, self.tenants = self._core.pool, self._core.tenants
        self._measured_s = 0.0
        self._warned_s = float("-inf")

    # --- connections of the host ---

    def connected(self, connection: int) -> None:
        """Handle a new connection from a host."""
        now = self._core.clock()
        self.tenants[connection] = Tenant(connection, now, now, now + self._core.settings.greeting_s)

    def received(self, connection: int, frame: Frame) -> None:
        """Handle a frame from a host's connection."""
        if tenant := self.tenants.get(connection):
            tenant.last_heard_s = self._core.clock()
            ending.safely(self._core, tenant, _handle, frame)
            granting.carry_out(self._core)

    def refused(self, connection: int, error: HeteeError) -> None:
        """Handle bytes from a host's connection that are not a frame."""
        if tenant := self.tenants.get(connection):
            ending.refuse(self._core, tenant, error)
            granting.carry_out(self._core)

    def disconnected(self, connection: int) -> None:
        """Handle the end of a host's connection."""
        if tenant := self.tenants.get(connection):
            ending.forget(self._core, tenant)
            granting.carry_out(self._core)

    def end_oldest_stranger(self) -> bool:
        """End the oldest connection with neither a session nor a job; returns whether there is one."""
        return admission.end_oldest_stranger(self._core)

    # --- workers ---

    def linked(self, worker: int, frame: Frame) -> None:
        """Handle a frame from a worker."""
        if enclave := self.pool.enclaves.get(worker):
            worker_events.linked(self._core, enclave, frame)
            granting.carry_out(self._core)

    def misbehaved(self, worker: int, error: HeteeError) -> None:
        """Kill a worker that broke the protocol."""
        self.pool.misbehaved(worker, error)

    def moved(self, worker: int, pid: int) -> None:
        """Handle a worker that goes on in a new process, in a PID namespace of its own."""
        if enclave := self.pool.enclaves.get(worker):
            enclave.pid = pid

    def stopped(self, worker: int) -> None:
        """Handle the kernel's word that every thread of a worker has stopped."""
        if enclave := self.pool.enclaves.get(worker):
            self.pool.resets.stopped(enclave)
            granting.carry_out(self._core)

    def collected(self, worker: int, ended: CollectedProcess) -> None:
        """Handle the end of a worker's process, after `waitpid`."""
        if enclave := self.pool.enclaves.get(worker):
            worker_events.collected(self._core, enclave, ended)
            granting.carry_out(self._core)

    # --- time limits, draining ---

    def tick(self) -> None:
        """Enforce time limits. Call it at least ten times a second."""
        core, now = self._core, self._core.clock()
        for tenant in list(self.tenants.values()):
            ending.safely(core, tenant, sessions.follow, now)
        self.pool.tick()
        if core.settings.memory_bytes and now >= self._measured_s + _MEASURE_EVERY_S:
            self._measured_s = now
            self._bound_memory(core.settings.memory_bytes)
        if now >= self._warned_s + _DAY_S:
            self._warned_s, days = now, core.attester.left_s() / _DAY_S
            if days < WARN_DAYS:
                core.environment.log("endorsement_expires", days=round(days, 1))
        granting.carry_out(core)

    def _bound_memory(self, limit_bytes: int) -> None:
        enclaves = (enclave for enclave in self.pool.enclaves.values() if not enclave.blamed)
        held = {enclave: self._core.environment.memory_bytes(enclave.number) for enclave in enclaves}
        for enclave in too_large(held, limit_bytes):
            detail = f"all workers together may hold {limit_bytes >> 20} MiB, and those of this identity held most"
            self.pool.misbehaved(enclave.number, refusal(Refusal.BUSY, detail))

    def drain(self) -> None:
        """Refuse new sessions and enclaves; let those that exist go on until the time limit."""
        core = self._core
        if core.drained_s is not None:
            return
        core.drained_s = core.clock() + core.settings.drain_s
        for tenant in list(self.tenants.values()):
            if tenant.state is SessionState.SERVING:
                core.send(tenant, Kind.DRAIN, Deadline(deadline_ms=int(core.settings.drain_s * 1e3)))
            elif tenant.state in (SessionState.OPEN, SessionState.WAITING):
                ending.refuse(core, tenant, refusal(Refusal.DRAINING, STOPPING))
            elif tenant.state is SessionState.JOB:
                ending.safely(core, tenant, jobs.drain)

    @property
    def drained(self) -> bool:
        """Whether `drain` was called, no session or job is left, and every worker that had one has been collected."""
        waited_for = (SessionState.OPEN, SessionState.WAITING, SessionState.SERVING, SessionState.CLOSING)
        sessions_left = any(tenant.state in waited_for or tenant.job is not None for tenant in self.tenants.values())
        workers_left = any(enclave.session for enclave in self.pool.enclaves.values())
        return self._core.drained_s is not None and not sessions_left and not workers_left


def _handle(core: Core, tenant: Tenant, frame: Frame) -> None:
    """Handle a frame of a connection, if its type is due."""
    kind = frame.header.kind
    if kind not in ACCEPTS[tenant.state]:
        raise refusal(Refusal.UNEXPECTED, f"{kind.name} in the session state {tenant.state.value}")
    match kind:
        case Kind.ERROR:
            ending.close(core, tenant)
        case Kind.STATUS:
            read(kind, frame.payload)
            tenant.state, tenant.deadline_s = SessionState.ASKING, None
            core.send_plain(tenant, Kind.STATE, report(core))
        case Kind.JOB_REQUEST | Kind.JOB_RETURNED:
            jobs.handle(core, tenant, read(kind, frame.payload))
        case Kind.HELLO | Kind.PROOF:
            admission.greet(core, tenant, frame)
        case _:
            sessions.handle(core, tenant, frame)
