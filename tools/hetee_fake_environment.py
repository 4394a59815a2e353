"""A fake environment for a controller, without sockets or processes: real keys, and a clock that a test moves."""
# ruff: noqa: D102  # the methods of `environment.Environment` are described there

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_session_pair import bytes_of, one_frame
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.records import Cleaning
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.channel.handshake import EstablishedSession
from sectum.hetee.channel.secret import Secret
from sectum.hetee.client.handshake import ClientHandshake
from sectum.hetee.controller.controller import Controller
from sectum.hetee.controller.environment import CollectedProcess, StartedProcess
from sectum.hetee.controller.settings import Settings
from sectum.hetee.data_plane.receipts import ReceiptSigner
from sectum.hetee.data_plane.release_key import WorkerKey
from sectum.hetee.errors import HeteeError
from sectum.hetee.installation.manufacture import manufacture
from sectum.hetee.verification.records import open_cleaning
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Message, encode
from sectum.hetee.wire.schemas import read
from sectum.hetee.wire.state import State

MEASUREMENT = b"m" * 32
ENDORSEMENT = manufacture()


@dataclass
class Client:
    """A data owner at the other end of a connection, and the host between."""

    handshake: ClientHandshake
    session: EstablishedSession | None = None
    heard: list[tuple[Kind, Message]] = field(default_factory=list)
    routes: list[int] = field(default_factory=list)  # workers whose data socket the host was given
    secrets: list[bytes] = field(default_factory=list)
    closed: bool = False
    job_holds: set[str] = field(default_factory=set)  # what a job was granted, and its processes may use

    def last(self, kind: Kind) -> Any:
        """The newest message of a type; None if there was none."""
        return next((message for heard, message in reversed(self.heard) if heard is kind), None)

    def kinds(self) -> list[Kind]:
        """The types of all that came."""
        return [kind for kind, _ in self.heard]


@dataclass
class Worker:
    """A process, as far as the controller can tell."""

    number: int
    devices: tuple[str, ...] = ()  # the accelerators with device nodes that it sees
    key: WorkerKey = field(default_factory=WorkerKey)
    receipt: ReceiptSigner = field(default_factory=ReceiptSigner)
    alive: bool = True
    killed: bool = False
    received: list[tuple[Kind, Message]] = field(default_factory=list)
    secrets: list[tuple[bytes, bytes]] = field(default_factory=list)  # session and secret of each RELEASE
    holds: set[str] = field(default_factory=set)  # what it was granted and has not given back
    used: set[str] = field(default_factory=set)  # what it gave back, and may still use because it was not stopped
    stopping: bool = False  # whether the kernel was told to stop it, and has not done so yet
    stopped: bool = False
    processor_s: float = 0.0

    def last(self, kind: Kind) -> Any:
        """The newest message of a type; None if there was none."""
        return next((message for received, message in reversed(self.received) if received is kind), None)


class FakeEnvironment:
    """`environment.Environment`, and the levers to move it."""

    def __init__(self, settings: Settings | None = None, *, fails: bool = False) -> None:
        self.now_s = 1000.0
        self.clients: dict[int, Client] = {}
        self.workers: dict[int, Worker] = {}
        self.events: list[tuple[str, dict[str, object]]] = []
        self.fails = fails
        self.later_s = 0.0  # how far the wall clock is ahead
        self.memory: dict[int, int] = {}  # bytes that workers hold
        subject = Subject("controller", "1.0", MEASUREMENT)
        self.provider = SoftwareProvider(ENDORSEMENT, subject, lambda: time.time() + self.later_s)
        self.settings = settings or Settings(accelerators={"cpu": 2})
        self.controller = Controller(self.settings, self.provider, subject, self, lambda: self.now_s)
        self.controller.tick()

    # --- Outside ---

    def send(self, connection: int, frame: bytes | bytearray, *, data_of: int | None = None) -> None:
        client = self.clients[connection]
        read_frame = one_frame(frame)
        kind = read_frame.header.kind
        if data_of is not None:
            assert kind is Kind.ROUTE
            client.routes.append(data_of)
        if kind is Kind.ATTEST:
            proof = client.handshake.receive(read_frame)
            if not proof:  # this client is slow
                return
            client.session = client.handshake.session
            self.controller.received(connection, one_frame(proof))
            return
        payload: Any = read_frame.payload
        if kind.sealed:
            assert client.session is not None
            payload = client.session.opener.open(read_frame.header, read_frame.payload)
            if kind is Kind.VOUCH:
                client.secrets.append(bytes_of(client.session.worker_secret(payload)))
        message = read(kind, payload)
        client.heard.append((kind, message))
        if kind is Kind.JOB_GRANT:
            assert isinstance(message, messages.Accelerators)
            client.job_holds |= set(message.accelerators)

    def close(self, connection: int) -> None:
        self.clients[connection].closed = True

    def start(self, worker: int, devices: tuple[str, ...] = ()) -> StartedProcess:
        if self.fails:
            raise OSError("no more processes")
        self.workers[worker] = Worker(worker, devices=devices)
        return StartedProcess(40_000 + worker, MEASUREMENT)

    def send_to_worker(self, worker: int, frame: bytes) -> None:
        process = self.workers[worker]
        if not process.alive:
            return
        read_frame = one_frame(frame)
        message = read(read_frame.header.kind, read_frame.payload)
        process.received.append((read_frame.header.kind, message))
        match message:
            case messages.Release():
                secret: Secret = process.key.accept(message.sealed, message.session, message.index)
                process.secrets.append((message.session, bytes_of(secret)))
            case messages.Accelerators() if read_frame.header.kind is Kind.GRANT:
                process.holds |= set(message.accelerators)

    def kill(self, worker: int) -> None:
        self.workers[worker].killed = True

    def memory_bytes(self, worker: int) -> int:
        return self.memory.get(worker, 0)

    def stop(self, worker: int) -> None:
        self.workers[worker].stopping = True

    def resume(self, worker: int) -> None:
        self.workers[worker].stopping = self.workers[worker].stopped = False

    def processor_s(self, worker: int) -> float:
        return self.workers[worker].processor_s

    def log(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    # --- levers ---

    def connect(
        self, number: int | None = None, *, handshake: bool = True, identity: Ed25519PrivateKey | None = None
    ) -> int:
        """A client comes, and is greeted; without an identity it has one of its own."""
        connection = max(self.clients, default=0) + 1 if number is None else number
        client = self.clients[connection] = Client(
            ClientHandshake(identity or Ed25519PrivateKey.generate(), lambda _evidence, _nonce: None)
        )
        self.controller.connected(connection)
        if handshake and not client.closed:
            self.controller.received(connection, one_frame(client.handshake.hello()))
        return connection

    def say(self, connection: int, kind: Kind, message: Message) -> None:
        """A client says something, sealed."""
        session = self.clients[connection].session
        assert session is not None
        self.controller.received(connection, one_frame(session.sealer.seal(kind, encode(message))))

    def configure(self, connection: int, count: int = 1, wait_ms: int = 10_000, kind: Any = "cpu") -> None:
        """A client asks for an enclave."""
        self.say(connection, Kind.CONFIGURE, messages.Configure(accelerator=kind, count=count, wait_ms=wait_ms))

    def job(self, connection: int, kind: Any = "cpu", count: int = 1, priority: int = -1) -> None:
        """A job asks for accelerators."""
        wish = messages.Job(accelerator=kind, count=count, priority=priority)
        self.controller.received(connection, one_frame(plain_frame(Kind.JOB_REQUEST, encode(wish))))

    def job_returned(self, connection: int) -> None:
        """No process of a job is left, and its program says so."""
        self.clients[connection].job_holds.clear()
        self.controller.received(connection, one_frame(plain_frame(Kind.JOB_RETURNED, encode(messages.Empty()))))

    def link(self, worker: int, kind: Kind, message: Message) -> None:
        """A worker says something."""
        if self.workers[worker].alive:
            self.controller.linked(worker, one_frame(plain_frame(kind, encode(message))))

    def started(self, worker: int | None = None) -> None:
        """One worker, or all that started, are ready."""
        for number, process in list(self.workers.items()):
            enclave = self.controller.pool.enclaves.get(number)
            if worker in (None, number) and process.alive and enclave is not None and enclave.started is None:
                started = messages.Started(
                    worker_key=process.key.public,
                    receipt_key=process.receipt.public_key,
                    pid=1,
                    confinement=("seccomp",),
                    unconfined=(),
                )
                self.link(number, Kind.STARTED, started)

    def heartbeat(self, worker: int, open_streams: int) -> None:
        """A worker says how many batches it has."""
        self.link(
            worker,
            Kind.HEARTBEAT,
            messages.Heartbeat(open_streams=open_streams, batches=0, images=0, bytes=0, busy_us=0),
        )

    def give_back(self, worker: int, *, all_of_them: bool = True, stops: bool = True) -> None:
        """A worker answers REVOKE, or begins to; with ``stops`` the kernel then stops it."""
        process = self.workers[worker]
        names = tuple(sorted(process.holds))[: None if all_of_them else 1]
        process.holds -= set(names)
        process.used |= set(names)
        self.link(worker, Kind.RETURNED, messages.Accelerators(accelerators=names))
        if stops:
            self.stops(worker)

    def stops(self, worker: int) -> None:
        """The kernel stops a process, if it was told to."""
        process = self.workers[worker]
        if process.alive and process.stopping:
            process.stopping, process.stopped = False, True
            process.used.clear()
            self.controller.stopped(worker)

    def wiped(self, worker: int) -> None:
        """A worker has done what WIPE says."""
        self.link(worker, Kind.WIPED, messages.Wiped(wiped_bytes=4096, answered=1, refused=0))

    def end(self, worker: int, how: str = "killed by SIGKILL") -> None:
        """A worker's process ends, and is collected."""
        process = self.workers[worker]
        if process.alive:
            process.alive = False
            process.holds.clear()
            process.used.clear()
            self.controller.collected(worker, CollectedProcess(how, 1 << 20))

    def pong(self, connection: int) -> None:
        """A client answers the newest PING."""
        self.say(connection, Kind.PONG, self.clients[connection].last(Kind.PING))

    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.now_s += seconds
        self.controller.tick()

    def serving(self, connection: int) -> int:
        """The worker that a connection has."""
        enclave = self.controller.tenants[connection].enclave
        assert enclave is not None
        return enclave.number

    def state(self) -> State:
        """What an operator is told."""
        connection = self.connect(handshake=False)
        self.controller.received(connection, one_frame(plain_frame(Kind.STATUS, encode(messages.Empty()))))
        state: State = self.clients[connection].last(Kind.STATE)
        self.controller.disconnected(connection)
        return state

    def record(self, connection: int) -> Cleaning:
        """The cleaning record that a client got, verified."""
        client = self.clients[connection]
        assert client.session is not None
        token = client.last(Kind.CLEANED).record
        return open_cleaning(token, self.provider.public_key, client.session.session_id, len(client.secrets) - 1)


def refused(fake: FakeEnvironment, connection: int) -> HeteeError | Any:
    """The code that a connection was refused with; None if it was not."""
    failure = fake.clients[connection].last(Kind.FAIL) or fake.clients[connection].last(Kind.ERROR)
    return failure and failure.code
