"""The controller's decisions: what comes from hosts and workers goes in, frames and orders come out."""

from __future__ import annotations

from sectum.hetee.attest.evidence import Subject
from sectum.hetee.channel.handshake import ControllerHandshake
from sectum.hetee.controller.accelerators import Waiter
from sectum.hetee.controller.enclaves import Enclave, Life
from sectum.hetee.controller.outside import Attester, Clock, Outside
from sectum.hetee.controller.rack import Rack
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.tenants import ACCEPTS, Stage, Tenant
from sectum.hetee.controller.vouching import Notary
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import Frame, plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Configure, Deadline, Failure, Message, Ping, encode, read

_DETAIL = 512
_QUEUED_EVERY_S = 1.0
_STATE_WORKERS = 256


class Controller:
    """All sessions and workers of a machine. Not for several threads.

    Args:
        settings: limits.
        attester: holds the attestation key.
        subject: this controller, as its evidence describes it.
        outside: the world.
        clock: seconds that only rise.
    """

    def __init__(
        self, settings: Settings, attester: Attester, subject: Subject, outside: Outside, clock: Clock
    ) -> None:
        self.rack = Rack(settings, outside, clock)
        self.tenants: dict[int, Tenant] = {}
        self._settings, self._notary = settings, Notary(attester, subject, settings)
        self._outside, self._clock = outside, clock
        self._drained_s: float | None = None

    # --- connections of the host ---

    def connected(self, connection: int) -> None:
        """A host opened a connection."""
        now = self._clock()
        tenant = self.tenants[connection] = Tenant(connection, now, now + self._settings.greeting_s)
        if len(self.tenants) > self._settings.sessions:
            self._refuse(tenant, refusal(Refusal.BUSY, f"{self._settings.sessions} sessions are open, the limit"))

    def received(self, connection: int, frame: Frame) -> None:
        """A frame came from a host's connection."""
        tenant = self.tenants.get(connection)
        if tenant is None:
            return
        tenant.heard_s = self._clock()
        try:
            self._take(tenant, frame)
        except HeteeError as error:
            self._refuse(tenant, error)
        self._schedule()

    def refused(self, connection: int, error: HeteeError) -> None:
        """Bytes came from a host's connection that are no frame."""
        if tenant := self.tenants.get(connection):
            self._refuse(tenant, error)
            self._schedule()

    def disconnected(self, connection: int) -> None:
        """A host's connection ended, for whatever reason."""
        if tenant := self.tenants.get(connection):
            self._forget(tenant)
            self._schedule()

    def _take(self, tenant: Tenant, frame: Frame) -> None:
        kind = frame.header.kind
        if kind not in ACCEPTS[tenant.stage]:
            raise refusal(Refusal.UNEXPECTED, f"{kind.name} in a session that is {tenant.stage.value}")
        if kind is Kind.ERROR:
            self._close(tenant)
        elif kind is Kind.STATUS:
            read(kind, frame.payload)
            tenant.stage, tenant.until_s = Stage.ASKING, None
            self._outside.send(tenant.connection, plain_frame(Kind.STATE, encode(self.state())))
        elif kind in (Kind.HELLO, Kind.PROOF):
            self._shake_hands(tenant, frame)
        else:
            assert tenant.session is not None
            self._obey(tenant, kind, read(kind, tenant.session.opener.open(frame.header, frame.payload)))

    def _shake_hands(self, tenant: Tenant, frame: Frame) -> None:
        if tenant.handshake is None:
            if self._drained_s is not None:
                raise refusal(Refusal.DRAINING, "the service is being stopped")
            tenant.handshake = ControllerHandshake(self._notary.attest, self._admit)
        answer = tenant.handshake.receive(frame)
        if answer is not None:
            tenant.stage, tenant.until_s = Stage.PROVING, self._clock() + self._settings.greeting_s
            self._outside.send(tenant.connection, answer)
            return
        tenant.session, tenant.handshake = tenant.handshake.session, None
        tenant.stage, tenant.until_s = Stage.OPEN, None
        counts = self.rack.fleet.counts.items()
        accept = messages.Accept(
            service="sectum",
            version=self._notary.controller.version,
            idle_ms=int(self._settings.idle_s * 1e3),
            accelerators=tuple(messages.Fleet(kind=kind, count=count) for kind, count in counts),  # type: ignore[arg-type]
        )
        self._send(tenant, Kind.ACCEPT, accept)

    def _admit(self, identity: bytes) -> bool:
        return self._settings.admitted is None or identity in self._settings.admitted

    def _obey(self, tenant: Tenant, kind: Kind, message: Message) -> None:
        match message:
            case Configure():
                self._configure(tenant, message)
            case Deadline():
                self._terminate(tenant, message.deadline_ms)
            case Ping() if kind is Kind.PING:
                self._send(tenant, Kind.PONG, message)
            case Ping():
                if message.number != tenant.fence:
                    raise refusal(Refusal.UNEXPECTED, "PONG without its PING")
                tenant.fence = None

    def _configure(self, tenant: Tenant, wanted: Configure) -> None:
        if self._drained_s is not None:
            raise refusal(Refusal.DRAINING, "the service is being stopped")
        there = self.rack.fleet.counts.get(wanted.accelerator, 0)
        if wanted.count > there:
            detail = f"{wanted.count} accelerators of kind {wanted.accelerator} are asked for, there are {there}"
            self._send(tenant, Kind.FAIL, Failure(code=Refusal.NO_ACCELERATOR, detail=detail))
            return
        tenant.wanted = wanted
        self._wait(tenant)

    def _wait(self, tenant: Tenant) -> None:
        assert tenant.wanted is not None
        tenant.stage, tenant.told = Stage.WAITING, (-1, 0.0)
        tenant.until_s = self._clock() + tenant.wanted.wait_ms / 1e3
        self.rack.fleet.wait(tenant.wanted.accelerator, Waiter(tenant.connection, tenant.wanted.count))

    def _terminate(self, tenant: Tenant, deadline_ms: int) -> None:
        tenant.stage, tenant.until_s = Stage.CLOSING, None
        if tenant.enclave is not None:  # it keeps its place in the queue, for the batches that it has to answer
            self.rack.wipe(tenant.enclave, deadline_ms)
            return
        if tenant.record:
            self._send(tenant, Kind.CLEANED, messages.Cleaned(record=tenant.record))
        self._close(tenant)

    def _send(self, tenant: Tenant, kind: Kind, message: Message) -> None:
        assert tenant.session is not None
        self._outside.send(tenant.connection, tenant.session.sealer.seal(kind, encode(message)))

    def _refuse(self, tenant: Tenant, error: HeteeError) -> None:
        """Say why, sealed where there are keys, and close."""
        failure = Failure(code=error.code, detail=error.detail[:_DETAIL])
        self._outside.log("session_refused", connection=tenant.connection, code=error.code.name, detail=error.detail)
        if tenant.session is not None:
            self._send(tenant, Kind.FAIL, failure)
        else:
            self._outside.send(tenant.connection, plain_frame(Kind.ERROR, encode(failure)))
        self._close(tenant)

    def _close(self, tenant: Tenant) -> None:
        self._forget(tenant)
        self._outside.close(tenant.connection)

    def _forget(self, tenant: Tenant) -> None:
        del self.tenants[tenant.connection]
        self.rack.fleet.leave(tenant.connection)
        tenant.wipe()
        if tenant.enclave is not None:
            tenant.enclave.tenant = None
            self.rack.wipe(tenant.enclave, 0)

    # --- workers ---

    def linked(self, worker: int, frame: Frame) -> None:
        """A frame came from a worker."""
        enclave = self.rack.enclaves.get(worker)
        if enclave is None:
            return
        try:
            self.rack.linked(enclave, frame)
        except HeteeError as error:
            self.misbehaved(worker, error)
        if enclave.tenant is not None and enclave.hungry and not self.rack.fleet.owned(worker):
            self.rack.fleet.wait(enclave.kind, Waiter(enclave.tenant, enclave.count))
        self._schedule()

    def misbehaved(self, worker: int, error: HeteeError) -> None:
        """A worker does not keep to the protocol: nothing that it says is listened to any more."""
        self._outside.log("worker_misbehaved", worker=worker, code=error.code.name, detail=error.detail)
        self._outside.kill(worker)

    def collected(self, worker: int) -> None:
        """The kernel gave a worker's process back."""
        enclave = self.rack.enclaves.get(worker)
        if enclave is None:
            return
        names = self.rack.collected(enclave)
        self._outside.log("worker_collected", worker=worker, pid=enclave.pid, wiped=enclave.wiped_bytes is not None)
        if enclave.session:
            record = self._notary.cleaned(enclave, names)
            if enclave.tenant is not None:
                self._cleaned(self.tenants[enclave.tenant], enclave, record)
        self._schedule()

    def _cleaned(self, tenant: Tenant, enclave: Enclave, record: bytes) -> None:
        tenant.enclave, tenant.record = None, record
        self.rack.fleet.leave(tenant.connection)
        self._outside.send(tenant.connection, plain_frame(Kind.UNROUTE, encode(messages.Empty()), stream=enclave.index))
        if tenant.stage is Stage.CLOSING:
            self._send(tenant, Kind.CLEANED, messages.Cleaned(record=record))
            self._close(tenant)
            return
        lost = messages.Lost(index=enclave.index, code=Refusal.WORKER_LOST, detail="the enclave's process ended")
        self._send(tenant, Kind.LOST, lost)
        tenant.fence = tenant.index
        self._send(tenant, Kind.PING, Ping(number=tenant.fence))
        self._wait(tenant)

    # --- who gets what ---

    def _schedule(self) -> None:
        """Give what is free to those who wait, in their order; ask for more back; keep spares ready."""
        fleet = self.rack.fleet
        homeless = 0
        for kind, queue in fleet.queues():
            unserved: list[Waiter] = []
            spares = self.rack.spares()
            for waiter in queue:
                tenant = self.tenants[waiter.tenant]
                is_homeless = tenant.enclave is None
                if is_homeless:
                    if tenant.fence is not None or not spares:
                        homeless += 1
                        continue  # others do not wait for its enclave to start
                    spares -= 1
                free = fleet.free(kind)
                if unserved or len(free) < waiter.needs:
                    homeless += is_homeless
                    unserved.append(waiter)
                    continue
                fleet.leave(waiter.tenant)
                self._serve(tenant, free[: waiter.needs])
            self.rack.free_for(kind, unserved)
        if self._drained_s is None:
            self.rack.refill(homeless)

    def _serve(self, tenant: Tenant, names: list[str]) -> None:
        enclave = tenant.enclave or self._assign(tenant, names)
        self.rack.grant(enclave, names)

    def _assign(self, tenant: Tenant, names: list[str]) -> Enclave:
        """Give a spare to a session: evidence to the client, keys to the worker, its socket to the host."""
        session, wanted, enclave = tenant.session, tenant.wanted, self.rack.spare()
        assert session is not None
        assert wanted is not None
        assert enclave is not None
        enclave.to(Life.ASSIGNED)
        enclave.session, enclave.tenant, enclave.index = session.session_id, tenant.connection, tenant.index
        enclave.kind, enclave.count = wanted.accelerator, wanted.count
        tenant.enclave, tenant.index, tenant.stage, tenant.until_s = enclave, tenant.index + 1, Stage.SERVING, None
        vouch = self._notary.vouch(session, enclave, names)
        self._outside.send(tenant.connection, session.sealer.seal(Kind.VOUCH, vouch))
        try:
            self._outside.tell(enclave.number, plain_frame(Kind.RELEASE, self._notary.release(session, enclave, vouch)))
        except HeteeError as error:  # its key is none: the session goes on with the next worker
            self.misbehaved(enclave.number, error)
        route = plain_frame(Kind.ROUTE, encode(messages.Empty()), stream=enclave.index)
        self._outside.send(tenant.connection, route, data_of=enclave.number)
        enclave.to(Life.SERVING)
        self._outside.log("vouched", connection=tenant.connection, worker=enclave.number, pid=enclave.pid)
        return enclave

    # --- time, and the whole ---

    def tick(self) -> None:
        """Do what is due. To be called at least ten times a second."""
        now = self._clock()
        for tenant in list(self.tenants.values()):
            try:
                self._due(tenant, now)
            except HeteeError as error:
                self._refuse(tenant, error)
        self.rack.tick()
        self._schedule()

    def _due(self, tenant: Tenant, now: float) -> None:
        late = tenant.until_s is not None and now >= tenant.until_s
        if now >= tenant.heard_s + self._settings.idle_s:
            raise refusal(Refusal.IDLE, f"nothing was heard for {self._settings.idle_s:g} s")
        if late and tenant.stage in (Stage.GREETING, Stage.PROVING):
            raise refusal(Refusal.HANDSHAKE_LATE, f"the handshake took longer than {self._settings.greeting_s:g} s")
        if self._drained_s is not None and now >= self._drained_s:
            raise refusal(Refusal.DRAINING, "the service is being stopped")
        if tenant.stage is not Stage.WAITING:
            return
        if late:
            self.rack.fleet.leave(tenant.connection)
            tenant.stage, tenant.until_s = Stage.OPEN, None
            self._send(tenant, Kind.FAIL, Failure(code=Refusal.BUSY, detail="no enclave came free in the time given"))
            return
        ahead, (told, when) = self.rack.fleet.ahead(tenant.connection), tenant.told
        if ahead != told and now >= when + _QUEUED_EVERY_S:
            tenant.told = ahead, now
            self._send(tenant, Kind.QUEUED, messages.Queued(ahead=ahead))

    def drain(self) -> None:
        """Take no new session or enclave; let those that are there go on until the limit."""
        if self._drained_s is not None:
            return
        self._drained_s = self._clock() + self._settings.drain_s
        for tenant in list(self.tenants.values()):
            if tenant.stage is Stage.SERVING:
                self._send(tenant, Kind.DRAIN, Deadline(deadline_ms=int(self._settings.drain_s * 1e3)))
            elif tenant.stage in (Stage.OPEN, Stage.WAITING):
                self._refuse(tenant, refusal(Refusal.DRAINING, "the service is being stopped"))

    @property
    def drained(self) -> bool:
        """Whether nobody is left after `drain`, and every worker that had a session is collected."""
        waited_for = (Stage.OPEN, Stage.WAITING, Stage.SERVING, Stage.CLOSING)
        sessions = any(tenant.stage in waited_for for tenant in self.tenants.values())
        return self._drained_s is not None and not sessions and not any(e.session for e in self.rack.enclaves.values())

    def state(self) -> messages.State:
        """Counts for operators: no names of models, no keys."""
        owned = self.rack.fleet.owned
        living = [enclave for enclave in self.rack.enclaves.values() if enclave.life > Life.STARTING]
        return messages.State(
            workers=tuple(enclave.status(owned(enclave.number)) for enclave in living[:_STATE_WORKERS]),
            waiting=sum(tenant.stage is Stage.WAITING for tenant in self.tenants.values()),
            sessions=sum(tenant.session is not None for tenant in self.tenants.values()),
            draining=self._drained_s is not None,
        )
