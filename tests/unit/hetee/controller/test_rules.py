"""The rules of isolation as invariants of the controller, whatever clients, hosts and workers do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hetee_fake_environment import FakeEnvironment
from hetee_session_pair import one_frame
from sectum.hetee.controller.enclaves import EnclaveState
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.tenants import SessionState
from sectum.hetee.errors import HeteeError
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind, Plane
from sectum.hetee.wire.messages import encode

pytestmark = pytest.mark.slow


def pick(numbers: list[int], choice: int) -> int:
    """One of the numbers, or 0."""
    return numbers[choice % len(numbers)] if numbers else 0


class WorkerPool(RuleBasedStateMachine):
    """Random sequences of events in sessions and workers."""

    @initialize(cpus=st.integers(1, 3), spares=st.integers(1, 3), enclaves=st.integers(1, 4))
    def build(self, cpus: int, spares: int, enclaves: int) -> None:
        self.fake = FakeEnvironment(
            Settings(accelerators={"cpu": cpus}, spares=spares, enclaves=enclaves, sessions=6, idle_s=30.0)
        )
        self.collected: set[int] = set()
        self.fake.started()
        for _ in range(2):
            self.fake.configure(self.fake.connect(), wait_ms=5000)

    def client(self, choice: int, *stages: SessionState) -> int:
        """A connection in one of these states; 0 if there is none: then the rule does nothing."""
        return pick([n for n, tenant in self.fake.controller.tenants.items() if tenant.state in stages], choice)

    def worker(self, choice: int, *states: EnclaveState, revoked: bool | None = None) -> int:
        """A living worker in one of these states, and asked for its accelerators or not; 0 if there is none."""
        found = [
            number
            for number, enclave in self.fake.controller.pool.enclaves.items()
            if self.fake.workers[number].alive
            and enclave.state in (states or EnclaveState)
            and revoked in (None, enclave.revoked_s is not None)
        ]
        return pick(found, choice)

    choices = st.integers(0, 99)

    @rule()
    def connect(self) -> None:
        self.fake.connect()

    @rule(choice=choices, count=st.integers(1, 3), wait_ms=st.sampled_from([0, 100, 5000]))
    def configure(self, choice: int, count: int, wait_ms: int) -> None:
        if connection := self.client(choice, SessionState.OPEN):
            self.fake.configure(connection, count, wait_ms)

    @rule(choice=choices, deadline_ms=st.sampled_from([0, 1000]))
    def terminate(self, choice: int, deadline_ms: int) -> None:
        if connection := self.client(choice, SessionState.OPEN, SessionState.WAITING, SessionState.SERVING):
            self.fake.say(connection, Kind.TERMINATE, messages.Deadline(deadline_ms=deadline_ms))

    @rule(choice=choices)
    def hang_up(self, choice: int) -> None:
        if connection := self.client(choice, *SessionState):
            self.fake.clients[connection].closed = True
            self.fake.controller.disconnected(connection)

    @rule(choice=choices)
    def pong(self, choice: int) -> None:
        connection = self.client(choice, SessionState.WAITING)
        if connection and self.fake.controller.tenants[connection].fence is not None:
            self.fake.pong(connection)

    @rule(choice=choices, kind=st.sampled_from([Kind.HELLO, Kind.PROOF, Kind.PING, Kind.CONFIGURE, Kind.TERMINATE]))
    def forge(self, choice: int, kind: Kind) -> None:
        """A host that makes up a frame."""
        if not (connection := self.client(choice, *SessionState)):
            return
        client = self.fake.clients[connection]
        session = client.session.session_id if client.session else bytes(15) + b"\1"
        n_bytes = 1250 if kind is Kind.HELLO else 40
        header = Header(kind, n_bytes, session=bytes(16) if kind is Kind.HELLO else session)
        self.fake.controller.received(connection, one_frame(header.pack() + bytes(n_bytes)))

    @rule()
    def started(self) -> None:
        self.fake.started()

    @rule(choice=choices, open_streams=st.integers(0, 2))
    def heartbeat(self, choice: int, open_streams: int) -> None:
        if number := self.worker(choice, EnclaveState.SERVING, EnclaveState.DRAINING):
            self.fake.heartbeat(number, open_streams)

    @rule(choice=choices, all_of_them=st.booleans(), stops=st.booleans())
    def give_back(self, choice: int, all_of_them: bool, stops: bool) -> None:
        if number := self.worker(choice, EnclaveState.SERVING, EnclaveState.DRAINING, revoked=True):
            self.fake.give_back(number, all_of_them=all_of_them, stops=stops)

    @rule(choice=choices)
    def stops(self, choice: int) -> None:
        """The kernel stops a process that it was told to stop."""
        if number := self.worker(choice):
            self.fake.stops(number)

    @rule(choice=choices, seconds=st.sampled_from([0.01, 0.5]))
    def compute(self, choice: int, seconds: float) -> None:
        """A worker computes, whether it may or not."""
        if number := self.worker(choice):
            self.fake.workers[number].processor_s += seconds

    @rule(choice=choices)
    def give_back_at_the_end(self, choice: int) -> None:
        """A worker that is wiped says that it gives back: until it is collected it may still touch them."""
        if number := self.worker(choice, EnclaveState.DRAINING, revoked=False):
            names = tuple(self.fake.controller.pool.accelerators.owned(number))
            returned = messages.Accelerators(accelerators=names)
            self.fake.link(number, Kind.RETURNED, returned)

    @rule(choice=choices, names=st.sets(st.sampled_from(["cpu:0", "cpu:1", "cpu:2"]), min_size=1))
    def lie(self, choice: int, names: set[str]) -> None:
        """A worker that gives back what it was not asked for, or what is not its own."""
        number = self.worker(choice, EnclaveState.SERVING, revoked=False)
        if not number:
            number = self.worker(choice, EnclaveState.SERVING, EnclaveState.DRAINING)
            names -= set(self.fake.controller.pool.accelerators.owned(number))
        if number and names:
            returned = messages.Accelerators(accelerators=tuple(names))
            self.fake.link(number, Kind.RETURNED, returned)
            assert self.fake.workers[number].killed

    @rule(choice=choices)
    def wiped(self, choice: int) -> None:
        if number := self.worker(choice, EnclaveState.DRAINING):
            self.fake.wiped(number)

    @rule(choice=choices)
    def die(self, choice: int) -> None:
        if number := self.worker(choice):
            self.collected.add(number)
            self.fake.end(number)

    @rule()
    def collect(self) -> None:
        """The kernel gives back every process that was killed."""
        for number, worker in list(self.fake.workers.items()):
            if worker.killed and worker.alive:
                self.collected.add(number)
                self.fake.end(number)

    @rule(seconds=st.sampled_from([0.05, 0.6, 6.0, 80.0]))
    def pass_time(self, seconds: float) -> None:
        self.fake.pass_time(seconds)

    @invariant()
    def an_accelerator_is_owned_by_at_most_one_worker(self) -> None:
        """R1: no two living workers reach the same accelerator, and none that one reaches is free."""
        living = [worker for worker in self.fake.workers.values() if worker.alive]
        held = Counter(name for worker in living for name in worker.holds | worker.used)
        assert all(count == 1 for count in held.values()), held
        accelerators = self.fake.controller.pool.accelerators
        assert not set(held) & set(accelerators.free("cpu"))

    @invariant()
    def a_worker_serves_one_session_in_its_life(self) -> None:
        """R1, R7: one RELEASE, one route, and no session has two workers that were not collected."""
        routes = Counter(number for client in self.fake.clients.values() for number in client.routes)
        assert all(count == 1 for count in routes.values())
        living = Counter(
            session for worker in self.fake.workers.values() if worker.alive for session, _ in worker.secrets
        )
        assert all(count == 1 for count in living.values())
        assert all(len(worker.secrets) <= 1 for worker in self.fake.workers.values())

    @invariant()
    def keys_are_of_one_session_and_one_worker(self) -> None:
        """R3, R5: what a worker got is what its own client derived, and no two workers have the same."""
        released = [secret for worker in self.fake.workers.values() for _, secret in worker.secrets]
        assert len(set(released)) == len(released)
        for client in self.fake.clients.values():
            for number, secret in zip(client.routes, client.secrets, strict=True):
                assert client.session is not None
                assert self.fake.workers[number].secrets == [(client.session.session_id, secret)]

    @invariant()
    def keys_are_released_to_the_measured_worker_only(self) -> None:
        """R6: the worker that got keys is the one whose fresh key the evidence names."""
        for client in self.fake.clients.values():
            vouches = [message for kind, message in client.heard if kind is Kind.VOUCH]
            for number, vouch in zip(client.routes, vouches, strict=True):
                assert vouch.worker_key == self.fake.workers[number].key.public

    @invariant()
    def cleaning_is_signed_when_the_process_is_gone(self) -> None:
        """R7: a session gets its cleaning record only after its worker was collected, and it names the process."""
        for connection, client in self.fake.clients.items():
            if client.last(Kind.CLEANED) is not None:
                assert client.routes[-1] in self.collected
                assert self.fake.record(connection).pid == 40_000 + client.routes[-1]

    @invariant()
    def workers_hear_only_what_is_meant_for_them(self) -> None:
        """R2, R5: nothing of another class goes to a worker's link, nothing of the class WORKER_LINK to a host."""
        assert all(
            kind.plane is Plane.WORKER_LINK for worker in self.fake.workers.values() for kind, _ in worker.received
        )
        assert all(
            kind.plane is not Plane.WORKER_LINK for client in self.fake.clients.values() for kind, _ in client.heard
        )

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """A session that has ended has no secrets, and its worker is being torn down."""
        tenants = self.fake.controller.tenants
        for number, enclave in self.fake.controller.pool.enclaves.items():
            if enclave.session and enclave.tenant is None:
                assert enclave.state >= EnclaveState.DRAINING or self.fake.workers[number].killed
            if enclave.tenant is not None:
                assert tenants[enclave.tenant].enclave is enclave
        assert len(self.fake.controller.pool.enclaves) <= self.fake.settings.enclaves + self.fake.settings.spares

    def teardown(self) -> None:
        """After a drain no session is left, every worker is collected, and every accelerator is free."""
        if not hasattr(self, "fake"):
            return
        self.fake.controller.drain()
        for _ in range(4):
            self.fake.pass_time(100.0)
            self.collect()
        assert self.fake.controller.drained
        assert not [c for c in self.fake.clients.values() if not c.closed]
        accelerators = self.fake.controller.pool.accelerators
        assert len(accelerators.free("cpu")) == accelerators.counts["cpu"]


WorkerPool.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestRules = WorkerPool.TestCase


def test_a_link_frame_of_a_client_is_not_listened_to() -> None:
    """R2: a worker that sends a WORKER_LINK frame in the wrong state is killed."""
    fake = FakeEnvironment()
    fake.link(1, Kind.HEARTBEAT, messages.Heartbeat(open_streams=0, batches=0, images=0, bytes=0, busy_us=0))
    assert fake.workers[1].killed


def test_a_worker_with_a_key_of_low_order_gets_nothing() -> None:
    """R6: a worker whose key would make the released secret readable for anybody is killed, and another is given."""
    fake = FakeEnvironment()
    for number in list(fake.workers):
        started = messages.Started(
            worker_key=bytes(32), receipt_key=bytes(32), pid=1, confinement=(), unconfined=("all",)
        )
        fake.controller.linked(number, one_frame(plain_frame(Kind.STARTED, encode(started))))
    connection = fake.connect()
    fake.configure(connection)
    worker = fake.serving(connection)
    assert fake.workers[worker].killed
    assert not fake.workers[worker].secrets
    fake.end(worker)
    fake.pong(connection)
    fake.pass_time(0.1)


@pytest.mark.parametrize("n_sessions", [6])
def test_everybody_who_waits_is_served(n_sessions: int) -> None:
    """Six sessions with work on two accelerators: each gets its turn again and again, none is left out."""
    fake = FakeEnvironment(Settings(accelerators={"cpu": 2}, spares=6, idle_s=600))
    for _ in range(4):
        fake.started()
        fake.pass_time(0.05)
    connections = [fake.connect() for _ in range(n_sessions)]
    for connection in connections:
        fake.configure(connection, wait_ms=60_000)
    turns: Counter[int] = Counter()
    for _ in range(200):
        fake.pass_time(0.1)
        fake.started()
        for number, enclave in list(fake.controller.pool.enclaves.items()):
            if enclave.state is EnclaveState.SERVING:
                fake.heartbeat(number, 1)
                if enclave.revoked_s is not None:
                    turns[number] += 1
                    fake.give_back(number)
    assert len(turns) == n_sessions
    assert max(turns.values()) - min(turns.values()) <= 2, turns


def test_refusals_carry_their_reason_to_the_client() -> None:
    """Bytes that are not a frame are answered with the right code, sealed if there are keys, and end the session."""
    fake = FakeEnvironment()
    connection = fake.connect()
    with pytest.raises(HeteeError) as caught:
        one_frame(b"x" * 64)
    fake.controller.refused(connection, caught.value)
    assert fake.clients[connection].last(Kind.FAIL).code is caught.value.code
