"""The controller's decisions. Events from hosts and workers go in; frames and commands to the environment come out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sectum.hetee.attest.evidence import Subject
from sectum.hetee.channel.handshake import ControllerHandshake
from sectum.hetee.controller.accelerators import has_nodes
from sectum.hetee.controller.allocation import Decision, Grant, Halt, Insecure, Request, Revoke, Secure
from sectum.hetee.controller.enclaves import EnclaveEntry, EnclaveState
from sectum.hetee.controller.environment import Attester, Clock, CollectedProcess, Environment
from sectum.hetee.controller.issuer import Issuer
from sectum.hetee.controller.memory import too_large
from sectum.hetee.controller.report import WARN_DAYS, gives_way, is_full, report
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.shares import Shares
from sectum.hetee.controller.tenants import ACCEPTS, SessionState, Tenant
from sectum.hetee.controller.worker_pool import WorkerPool
from sectum.hetee.errors import FrameRefused, HeteeError, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import Frame, plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Challenge, Configure, Deadline, Failure, Message, Ping, encode
from sectum.hetee.wire.schemas import read
from sectum.hetee.wire.state import State

_DETAIL = 512
_QUEUED_EVERY_S = 1.0
_STOPPING = "the service is being stopped"
_MEASURE_EVERY_S = 0.1
_JOBS = 32
_DAY_S = 24 * 3600.0
_CALM_EXITS = ("killed by SIGKILL", "exit code 0", f"exit code {FrameRefused.exit_code}")  # a crash ends otherwise


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
        self, settings: Settings, attester: Attester, subject: Subject, environment: Environment, clock: Clock
    ) -> None:
        self.pool = WorkerPool(settings, environment, clock)
        self.tenants: dict[int, Tenant] = {}
        self._settings, self._issuer = settings, Issuer(attester, subject, settings)
        self._environment, self._clock = environment, clock
        self._drained_s: float | None = None
        self._shares = Shares(settings, clock)
        self._measured_s = 0.0
        self._warned_s = float("-inf")

    # --- connections of the host ---

    def connected(self, connection: int) -> None:
        """Handle a new connection from a host."""
        now = self._clock()
        self.tenants[connection] = Tenant(connection, now, now, now + self._settings.greeting_s)

    def received(self, connection: int, frame: Frame) -> None:
        """Handle a frame from a host's connection."""
        tenant = self.tenants.get(connection)
        if tenant is None:
            return
        tenant.last_heard_s = self._clock()
        self._for(tenant, lambda: self._handle_frame(tenant, frame))
        self._schedule()

    def _for(self, tenant: Tenant, act: Callable[[], None]) -> None:
        """Do something for one session. Whatever goes wrong ends that session, never the controller."""
        if self.tenants.get(tenant.connection) is not tenant:
            return
        try:
            act()
        except HeteeError as error:
            self._refuse(tenant, error)
        except Exception as fault:  # noqa: BLE001  # what one client can cause must not end the sessions of others
            self._environment.log("fault", connection=tenant.connection, type=type(fault).__name__)
            self._refuse(tenant, refusal(Refusal.INTERNAL, "the controller failed"))

    def refused(self, connection: int, error: HeteeError) -> None:
        """Handle bytes from a host's connection that are not a frame."""
        if tenant := self.tenants.get(connection):
            self._refuse(tenant, error)
            self._schedule()

    def disconnected(self, connection: int) -> None:
        """Handle the end of a host's connection."""
        if tenant := self.tenants.get(connection):
            self._forget(tenant)
            self._schedule()

    def _handle_frame(self, tenant: Tenant, frame: Frame) -> None:
        kind = frame.header.kind
        if kind not in ACCEPTS[tenant.state]:
            raise refusal(Refusal.UNEXPECTED, f"{kind.name} in the session state {tenant.state.value}")
        if kind is Kind.ERROR:
            self._close(tenant)
        elif kind is Kind.STATUS:
            read(kind, frame.payload)
            tenant.state, tenant.deadline_s = SessionState.ASKING, None
            self._environment.send(tenant.connection, plain_frame(Kind.STATE, encode(self.state())))
        elif kind in (Kind.JOB_REQUEST, Kind.JOB_RETURNED):
            self._handle_job(tenant, read(kind, frame.payload))
        elif kind in (Kind.HELLO, Kind.PROOF):
            self._handshake(tenant, frame)
        else:
            assert tenant.session is not None
            self._handle_message(tenant, kind, read(kind, tenant.session.opener.open(frame.header, frame.payload)))

    def _handle_job(self, tenant: Tenant, message: Message) -> None:
        tenant.messages.take(self._clock(), "job")
        if not isinstance(message, messages.Job):
            self.pool.jobs.returned(tenant)
        elif self._drained_s is not None:
            raise refusal(Refusal.DRAINING, _STOPPING)
        elif sum(other.state is SessionState.JOB for other in self.tenants.values() if other is not tenant) >= _JOBS:
            raise refusal(Refusal.BUSY, f"{_JOBS} jobs wait or run, the limit")
        else:
            self.pool.jobs.ask(tenant, message)

    def _handshake(self, tenant: Tenant, frame: Frame) -> None:
        if tenant.handshake is None:
            if self._drained_s is not None:
                raise refusal(Refusal.DRAINING, _STOPPING)
            self._check_endorsement()
            if is_full(self.tenants.values(), self._settings) and not self._end_idle():
                raise refusal(Refusal.BUSY, f"{self._settings.sessions} sessions are open, the limit")
            tenant.handshake = ControllerHandshake(self._issuer.attest, self._admit)
        answer = tenant.handshake.receive(frame)
        if answer is not None:
            tenant.state, tenant.deadline_s = SessionState.PROVING, self._clock() + self._settings.greeting_s
            self._environment.send(tenant.connection, answer)
            return
        tenant.session, identity, tenant.handshake = tenant.handshake.session, tenant.handshake.identity, None
        tenant.share = self._shares.enter(identity)
        tenant.state, tenant.deadline_s = SessionState.OPEN, None
        counts = self.pool.allocator.counts.items()
        accept = messages.Accept(
            service="sectum",
            version=self._issuer.controller.version,
            idle_ms=int(self._settings.idle_s * 1e3),
            accelerators=tuple(messages.AcceleratorCount(kind=kind, count=count) for kind, count in counts),  # type: ignore[arg-type]
        )
        self._send(tenant, Kind.ACCEPT, accept)

    def _admit(self, identity: bytes) -> bool:
        return self._settings.admitted is None or identity in self._settings.admitted

    def _end_idle(self) -> bool:
        """End a session that asks for nothing; returns whether there is one."""
        idle = gives_way(self.tenants.values(), self._settings, self._clock())
        if idle is not None:
            self._refuse(idle, refusal(Refusal.BUSY, "others need the place of this session, which asks for nothing"))
        return idle is not None

    def end_oldest_stranger(self) -> bool:
        """End the oldest connection with neither a session nor a job; returns whether there is one."""
        strangers = (tenant for tenant in self.tenants.values() if tenant.session is None)
        stranger = next((tenant for tenant in strangers if tenant.state is not SessionState.JOB), None)
        if stranger is not None:
            self._refuse(stranger, refusal(Refusal.BUSY, "too many connections without a session are open"))
        return stranger is not None

    def _handle_message(self, tenant: Tenant, kind: Kind, message: Message) -> None:
        assert tenant.share is not None
        tenant.messages.take(self._clock(), "session")
        tenant.share.messages.take(self._clock(), "identity")
        match message:
            case Configure():
                self._configure(tenant, message)
            case messages.Resize():
                self._resize(tenant, message)
            case Deadline():
                self._terminate(tenant, message.deadline_ms)
            case Ping() if kind is Kind.PING:
                self._send(tenant, Kind.PONG, message)
            case Challenge():
                self._attest_again(tenant, message.nonce)
            case Ping():
                if message.number != tenant.fence:
                    raise refusal(Refusal.UNEXPECTED, "PONG without its PING")
                tenant.fence = None
                if tenant.state is SessionState.WAITING:
                    self._ask(tenant)

    def _attest_again(self, tenant: Tenant, challenge: bytes) -> None:
        assert tenant.session is not None
        self._check_endorsement()
        evidence = self._issuer.attest(tenant.session.renewal_nonce(challenge))
        self._send(tenant, Kind.EVIDENCE, messages.FreshEvidence(evidence=evidence))

    def _check_endorsement(self) -> None:
        if (left_s := self._issuer.left_s()) <= 0:
            raise refusal(Refusal.STALE, f"the endorsement of this machine expired {-left_s / 3600:,.1f} hours ago")

    def _configure(self, tenant: Tenant, configuration: Configure) -> None:
        if self._drained_s is not None:
            raise refusal(Refusal.DRAINING, _STOPPING)
        kind, count = configuration.accelerator, configuration.count
        if count > self.pool.allocator.counts.get(kind, 0):
            error = self._too_many(kind, count)
            self._send(tenant, Kind.FAIL, Failure(code=error.code, detail=error.detail))
            return
        tenant.configuration, tenant.count = configuration, count
        self._wait(tenant)

    def _too_many(self, kind: str, count: int) -> HeteeError:
        existing = self.pool.allocator.counts.get(kind, 0)
        detail = f"the client asked for {count} accelerators of kind {kind}, the service has {existing}"
        return refusal(Refusal.NO_ACCELERATOR, detail)

    def _wait(self, tenant: Tenant) -> None:
        assert tenant.configuration is not None
        tenant.state, tenant.reported = SessionState.WAITING, (-1, 0.0)
        tenant.deadline_s = self._clock() + tenant.configuration.wait_ms / 1e3
        if tenant.fence is None:
            self._ask(tenant)

    def _ask(self, tenant: Tenant, count: int = 0) -> None:
        """Ask the allocator for what a session's enclave is to have; the enclave may exist, or be one with devices."""
        assert tenant.configuration is not None
        assert tenant.share is not None
        kind, identity = tenant.configuration.accelerator, tenant.share.identity
        holder = None if tenant.enclave is None else Secure(tenant.enclave.number)
        if holder is None and has_nodes(kind):  # its worker is started when it has them
            tenant.expected = self.pool.next_number()
            holder = Secure(tenant.expected)
        priority = (self._settings.admitted or {}).get(identity, 0)
        count = count or tenant.count
        self.pool.allocator.ask(Request(tenant.connection, kind, count, identity, priority, holder))

    def _resize(self, tenant: Tenant, wanted: messages.Resize) -> None:
        """Let an enclave grow, which is a request, or shrink, for which it is asked to give the surplus back."""
        enclave, allocator, count = tenant.enclave, self.pool.allocator, wanted.count
        if enclave is None or tenant.state is not SessionState.SERVING:
            self._resized(tenant, refusal(Refusal.WORKER_LOST, "the session has no enclave now"))
        elif tenant.resize is not None:
            self._resized(tenant, refusal(Refusal.BUSY, "the RESIZE before has no answer yet"))
        elif has_nodes(enclave.kind):
            detail = f"a worker sees the {enclave.kind} devices of its start only: end the session, and ask for another"
            self._resized(tenant, refusal(Refusal.NO_ACCELERATOR, detail))
        elif count > allocator.counts[enclave.kind]:
            self._resized(tenant, self._too_many(enclave.kind, count))
        else:
            tenant.resize = count, self._clock() + wanted.wait_ms / 1e3
            allocator.withdraw(tenant.connection)
            if count > tenant.count:
                self._ask(tenant, count)
            else:
                tenant.count = count
                allocator.shrink(Secure(enclave.number), count)

    def _resized(self, tenant: Tenant, error: HeteeError | None = None) -> None:
        """Answer RESIZE."""
        names = self.pool.allocator.owned(Secure(tenant.enclave.number)) if tenant.enclave is not None else ()
        refused = () if error is None else (Failure(code=error.code, detail=error.detail[:_DETAIL]),)
        self._send(tenant, Kind.RESIZED, messages.Resized(accelerators=names, refused=refused))

    def _follow_resize(self, tenant: Tenant, resize: tuple[int, float], now: float) -> None:
        """End a RESIZE when what was given back is reset, or when there was no more to be had in time."""
        assert tenant.enclave is not None
        (count, until_s), allocator, holder = resize, self.pool.allocator, Secure(tenant.enclave.number)
        if count > tenant.count:
            if now >= until_s:
                allocator.withdraw(tenant.connection)
                tenant.resize = None
                why = "so many accelerators did not become free within the time that the client allows"
                self._resized(tenant, refusal(Refusal.BUSY, why))
        elif len(allocator.owned(holder)) <= count and not (allocator.asked(holder) or allocator.resetting(holder)):
            tenant.resize = None
            self._resized(tenant)

    def _terminate(self, tenant: Tenant, deadline_ms: int) -> None:
        tenant.state, tenant.deadline_s = SessionState.CLOSING, None
        if tenant.enclave is not None:  # it keeps its place in the queue, because it still has batches to answer
            self.pool.wipe(tenant.enclave, deadline_ms)
            return
        if tenant.record:
            self._send(tenant, Kind.CLEANED, messages.Cleaned(record=tenant.record))
        self._close(tenant)

    def _send(self, tenant: Tenant, kind: Kind, message: Message) -> None:
        assert tenant.session is not None
        self._environment.send(tenant.connection, tenant.session.sealer.seal(kind, encode(message)))

    def _refuse(self, tenant: Tenant, error: HeteeError) -> None:
        """Send the reason, sealed if there are keys, and close the connection."""
        failure = Failure(code=error.code, detail=error.detail[:_DETAIL])
        self._environment.log(
            "session_refused", connection=tenant.connection, code=error.code.name, detail=error.detail
        )
        try:
            if tenant.session is not None:
                self._send(tenant, Kind.FAIL, failure)
            else:
                self._environment.send(tenant.connection, plain_frame(Kind.ERROR, encode(failure)))
        except Exception as fault:  # noqa: BLE001  # its keys are wiped or used up: it ends without a reason
            self._environment.log("fault", connection=tenant.connection, type=type(fault).__name__)
        self._close(tenant)

    def _close(self, tenant: Tenant) -> None:
        self._forget(tenant)
        self._environment.close(tenant.connection)

    def _forget(self, tenant: Tenant) -> None:
        if self.tenants.pop(tenant.connection, None) is None:
            return
        self.pool.allocator.withdraw(tenant.connection)
        if tenant.state is SessionState.JOB:
            self.pool.jobs.gone(tenant)
        tenant.wipe()
        if tenant.share is not None:
            self._shares.leave(tenant.share)
        if tenant.enclave is not None:
            tenant.enclave.tenant = None
            self.pool.wipe(tenant.enclave, 0)

    # --- workers ---

    def linked(self, worker: int, frame: Frame) -> None:
        """Handle a frame from a worker."""
        enclave = self.pool.enclaves.get(worker)
        if enclave is None:
            return
        try:
            enclave.messages.take(self._clock(), "worker")
            self.pool.linked(enclave, frame)
        except HeteeError as error:
            self.misbehaved(worker, error)
        holder = Secure(worker)
        if enclave.tenant is not None and enclave.has_work and not self.pool.allocator.owned(holder):
            self._ask(self.tenants[enclave.tenant])
        if enclave.state is EnclaveState.SPARE and enclave.owned:  # it has just started, with devices
            if tenant := self._expecting(worker):
                grant = Grant(tenant.connection, holder, tuple(sorted(enclave.owned)))
                self._for(tenant, partial(self._serve, tenant, grant))
            else:
                self._unwanted(worker)
        self._schedule()

    def misbehaved(self, worker: int, error: HeteeError) -> None:
        """Kill a worker that broke the protocol."""
        if enclave := self.pool.enclaves.get(worker):
            enclave.blamed = error.detail
        self._environment.log("worker_misbehaved", worker=worker, code=error.code.name, detail=error.detail)
        self._environment.kill(worker)

    def moved(self, worker: int, pid: int) -> None:
        """Handle a worker that goes on in a new process, in a PID namespace of its own."""
        if enclave := self.pool.enclaves.get(worker):
            enclave.pid = pid

    def stopped(self, worker: int) -> None:
        """Handle the kernel's word that every thread of a worker has stopped."""
        if enclave := self.pool.enclaves.get(worker):
            self.pool.handover.stopped(enclave)
            self._schedule()

    def collected(self, worker: int, ended: CollectedProcess) -> None:
        """Handle the end of a worker's process, after `waitpid`."""
        enclave = self.pool.enclaves.get(worker)
        if enclave is None:
            return
        self.pool.collected(enclave)
        self._environment.log("worker_collected", worker=worker, pid=enclave.pid, wiped=enclave.wiped, exit=ended.exit)
        if not enclave.session and (waiting := self._expecting(worker)):
            self._ask(waiting)
        if enclave.session:
            record = self._issuer.cleaned(enclave, ended)
            if enclave.share is not None and not enclave.wiped and (enclave.blamed or ended.exit not in _CALM_EXITS):
                self._shares.crashed(enclave.share)
                self.pool.allocator.pause(enclave.share.identity, enclave.share.paused_s)
            if enclave.tenant is not None:
                tenant, why = self.tenants[enclave.tenant], enclave.blamed or ended.exit
                self._for(tenant, lambda: self._cleaned(tenant, enclave, record, why))
        self._schedule()

    def _cleaned(self, tenant: Tenant, enclave: EnclaveEntry, record: bytes, why: str) -> None:
        tenant.enclave, tenant.record = None, record
        self.pool.allocator.withdraw(tenant.connection)
        self._environment.send(
            tenant.connection, plain_frame(Kind.UNROUTE, encode(messages.Empty()), stream=enclave.index)
        )
        if tenant.state is SessionState.CLOSING:
            self._send(tenant, Kind.CLEANED, messages.Cleaned(record=record))
            self._close(tenant)
            return
        detail = f"the enclave's process ended: {why}"[:_DETAIL]
        if tenant.resize is not None:
            tenant.resize = None
            self._resized(tenant, refusal(Refusal.WORKER_LOST, detail))
        lost = messages.Lost(index=enclave.index, code=Refusal.WORKER_LOST, detail=detail, record=record)
        self._send(tenant, Kind.LOST, lost)
        tenant.fence = tenant.index
        self._send(tenant, Kind.PING, Ping(number=tenant.fence))
        self._wait(tenant)

    # --- scheduling ---

    def _schedule(self) -> None:
        """Carry out what the allocator decides, and start spare workers."""
        for decision in self.pool.allocator.decide(self._clock()):
            match decision:
                case Grant(asker, Secure(number)):
                    tenant = self.tenants.get(asker)
                    if tenant is None:  # ended by a fault while others were served
                        self._unwanted(number)
                    elif number in self.pool.enclaves:
                        self._for(tenant, partial(self._serve, tenant, decision))
                    elif not self.pool.start_with(decision):
                        self._unwanted(number)
                        self._ask(tenant)
                case Revoke(Secure()):
                    self.pool.revoke(decision)
                case Halt(Secure()):
                    self.pool.halt(decision)
                case Grant(_, Insecure(number)) | Revoke(Insecure(number)) | Halt(Insecure(number)):
                    if job := self.tenants.get(number):
                        self._for(job, partial(self._tell_job, job, decision))
        if self._drained_s is None:
            self.pool.refill(self.pool.allocator.lacking)

    def _tell_job(self, tenant: Tenant, decision: Decision) -> None:
        match decision:
            case Grant():
                self.pool.jobs.grant(tenant, decision)
            case Revoke():
                self.pool.jobs.revoke(tenant)
            case Halt():
                self.pool.jobs.halt(tenant)

    def _unwanted(self, worker: int) -> None:
        """Take from a worker what nobody waits for any more."""
        if worker in self.pool.enclaves:
            self._environment.kill(worker)
        else:
            self.pool.allocator.ended(Secure(worker))

    def _expecting(self, worker: int) -> Tenant | None:
        """The session that waits for a worker that is started for its devices."""
        waiting = (tenant for tenant in self.tenants.values() if tenant.state is SessionState.WAITING)
        return next((tenant for tenant in waiting if tenant.expected == worker), None)

    def _serve(self, tenant: Tenant, grant: Grant) -> None:
        assert isinstance(grant.holder, Secure)
        enclave = tenant.enclave or self._assign(tenant, self.pool.enclaves[grant.holder.enclave], grant.names)
        self.pool.grant(enclave, grant)
        if tenant.resize is not None and tenant.resize[0] > tenant.count:  # it has grown
            (tenant.count, _), tenant.resize = tenant.resize, None
            self._resized(tenant)

    def _assign(self, tenant: Tenant, enclave: EnclaveEntry, names: tuple[str, ...]) -> EnclaveEntry:
        """Give a spare worker to a session: send evidence to the client, keys to the worker, its socket to the host."""
        session, configuration = tenant.session, tenant.configuration
        assert session is not None
        assert configuration is not None
        enclave.advance_to(EnclaveState.ASSIGNED)
        enclave.session, enclave.tenant, enclave.index = session.session_id, tenant.connection, tenant.index
        enclave.share = tenant.share
        enclave.kind = configuration.accelerator
        tenant.enclave, tenant.index, tenant.state, tenant.deadline_s = (
            enclave,
            tenant.index + 1,
            SessionState.SERVING,
            None,
        )
        vouch = self._issuer.vouch(session, enclave, names)
        self._environment.send(tenant.connection, session.sealer.seal(Kind.VOUCH, vouch))
        try:
            self._environment.send_to_worker(
                enclave.number, plain_frame(Kind.RELEASE, self._issuer.release(session, enclave, vouch))
            )
        except HeteeError as error:  # the worker's key is invalid: the session goes on with the next worker
            self.misbehaved(enclave.number, error)
        route = plain_frame(Kind.ROUTE, encode(messages.Empty()), stream=enclave.index)
        self._environment.send(tenant.connection, route, data_of=enclave.number)
        enclave.advance_to(EnclaveState.SERVING)
        self._environment.log("vouched", connection=tenant.connection, worker=enclave.number, pid=enclave.pid)
        return enclave

    # --- time limits, draining, counts ---

    def tick(self) -> None:
        """Enforce time limits. Call it at least ten times a second."""
        now = self._clock()
        for tenant in list(self.tenants.values()):
            self._for(tenant, partial(self._due, tenant, now))
        self.pool.tick()
        if self._settings.memory_bytes and now >= self._measured_s + _MEASURE_EVERY_S:
            self._measured_s = now
            self._bound_memory()
        if now >= self._warned_s + _DAY_S:
            self._warned_s, days = now, self._issuer.left_s() / _DAY_S
            if days < WARN_DAYS:
                self._environment.log("endorsement_expires", days=round(days, 1))
        self._schedule()

    def _bound_memory(self) -> None:
        limit_bytes = self._settings.memory_bytes
        held = {e: self._environment.memory_bytes(e.number) for e in self.pool.enclaves.values() if not e.blamed}
        for enclave in too_large(held, limit_bytes):
            detail = f"all workers together may hold {limit_bytes >> 20} MiB, and those of this identity held most"
            self.misbehaved(enclave.number, refusal(Refusal.BUSY, detail))

    def _due(self, tenant: Tenant, now: float) -> None:
        late = tenant.deadline_s is not None and now >= tenant.deadline_s
        if now >= tenant.last_heard_s + self._settings.idle_s and tenant.state is not SessionState.JOB:
            raise refusal(Refusal.IDLE, f"no frame came for {self._settings.idle_s:g} s")
        if late and tenant.state in (SessionState.GREETING, SessionState.PROVING):
            raise refusal(
                Refusal.HANDSHAKE_LATE, f"a step of the handshake took longer than {self._settings.greeting_s:g} s"
            )
        if self._drained_s is not None and now >= self._drained_s:
            raise refusal(Refusal.DRAINING, _STOPPING)
        if tenant.resize is not None:
            self._follow_resize(tenant, tenant.resize, now)
        if tenant.state is not SessionState.WAITING:
            return
        if late:
            self.pool.allocator.withdraw(tenant.connection)
            tenant.state, tenant.deadline_s = SessionState.OPEN, None
            self._send(tenant, Kind.FAIL, Failure(code=Refusal.BUSY, detail=self._why_none(tenant, now)))
            return
        ahead, (reported, when) = self.pool.allocator.ahead(tenant.connection), tenant.reported
        if ahead != reported and now >= when + _QUEUED_EVERY_S:
            tenant.reported = ahead, now
            self._send(tenant, Kind.QUEUED, messages.Queued(ahead=ahead))

    @staticmethod
    def _why_none(tenant: Tenant, now: float) -> str:
        if tenant.share is not None and now < tenant.share.paused_s:
            pause_s = tenant.share.paused_s - now
            return f"{tenant.share.crashes} workers of this identity crashed; it gets the next one in {pause_s:.0f} s"
        return "no enclave became free within the time that the client allows"

    def drain(self) -> None:
        """Refuse new sessions and enclaves; let those that exist go on until the time limit."""
        if self._drained_s is not None:
            return
        self._drained_s = self._clock() + self._settings.drain_s
        for tenant in list(self.tenants.values()):
            if tenant.state is SessionState.SERVING:
                self._send(tenant, Kind.DRAIN, Deadline(deadline_ms=int(self._settings.drain_s * 1e3)))
            elif tenant.state in (SessionState.OPEN, SessionState.WAITING):
                self._refuse(tenant, refusal(Refusal.DRAINING, _STOPPING))
            elif tenant.state is SessionState.JOB:
                self._for(tenant, partial(self.pool.jobs.drain, tenant))

    @property
    def drained(self) -> bool:
        """Whether `drain` was called, no session or job is left, and every worker that had one has been collected."""
        waited_for = (SessionState.OPEN, SessionState.WAITING, SessionState.SERVING, SessionState.CLOSING)
        sessions = any(tenant.state in waited_for or tenant.job is not None for tenant in self.tenants.values())
        return self._drained_s is not None and not sessions and not any(e.session for e in self.pool.enclaves.values())

    def state(self) -> State:
        """Counts for operators, without names of models or keys."""
        left_s, draining = self._issuer.left_s(), self._drained_s is not None
        tenants, now = self.tenants.values(), self._clock()
        return report(self.pool, tenants, self._settings, draining=draining, left_s=left_s, now=now)
