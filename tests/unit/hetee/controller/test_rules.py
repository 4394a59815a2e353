"""The rules of isolation as invariants of the controller, whatever clients, hosts and workers do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller_world import World
from sectum.hetee.controller.enclaves import Life
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.tenants import Stage
from sectum.hetee.errors import HeteeError
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind, Plane
from sectum.hetee.wire.messages import encode
from sectum.testing.session_pair import one_frame

pytestmark = pytest.mark.slow


def pick(numbers: list[int], choice: int) -> int:
    """One of the numbers, or 0."""
    return numbers[choice % len(numbers)] if numbers else 0


class Rack(RuleBasedStateMachine):
    """Random lives of sessions and workers."""

    @initialize(cpus=st.integers(1, 3), spares=st.integers(1, 3), enclaves=st.integers(1, 4))
    def build(self, cpus: int, spares: int, enclaves: int) -> None:
        self.world = World(
            Settings(accelerators={"cpu": cpus}, spares=spares, enclaves=enclaves, sessions=6, idle_s=30.0)
        )
        self.collected: set[int] = set()
        self.world.born()
        for _ in range(2):
            self.world.configure(self.world.connect(), wait_ms=5000)

    def client(self, choice: int, *stages: Stage) -> int:
        """A connection in one of these states; 0 if there is none: then the rule does nothing."""
        return pick([n for n, tenant in self.world.controller.tenants.items() if tenant.stage in stages], choice)

    def worker(self, choice: int, *lives: Life, revoked: bool | None = None) -> int:
        """A living worker in one of these states, and asked for its accelerators or not; 0 if there is none."""
        found = [
            number
            for number, enclave in self.world.controller.rack.enclaves.items()
            if self.world.workers[number].alive
            and enclave.life in (lives or Life)
            and revoked in (None, enclave.revoked_s is not None)
        ]
        return pick(found, choice)

    choices = st.integers(0, 99)

    @rule()
    def connect(self) -> None:
        self.world.connect()

    @rule(choice=choices, count=st.integers(1, 3), wait_ms=st.sampled_from([0, 100, 5000]))
    def configure(self, choice: int, count: int, wait_ms: int) -> None:
        if connection := self.client(choice, Stage.OPEN):
            self.world.configure(connection, count, wait_ms)

    @rule(choice=choices, deadline_ms=st.sampled_from([0, 1000]))
    def terminate(self, choice: int, deadline_ms: int) -> None:
        if connection := self.client(choice, Stage.OPEN, Stage.WAITING, Stage.SERVING):
            self.world.say(connection, Kind.TERMINATE, messages.Deadline(deadline_ms=deadline_ms))

    @rule(choice=choices)
    def hang_up(self, choice: int) -> None:
        if connection := self.client(choice, *Stage):
            self.world.clients[connection].closed = True
            self.world.controller.disconnected(connection)

    @rule(choice=choices)
    def pong(self, choice: int) -> None:
        connection = self.client(choice, Stage.WAITING)
        if connection and self.world.controller.tenants[connection].fence is not None:
            self.world.pong(connection)

    @rule(choice=choices, kind=st.sampled_from([Kind.HELLO, Kind.PROOF, Kind.PING, Kind.CONFIGURE, Kind.TERMINATE]))
    def forge(self, choice: int, kind: Kind) -> None:
        """A host that makes up a frame."""
        if not (connection := self.client(choice, *Stage)):
            return
        client = self.world.clients[connection]
        session = client.session.session_id if client.session else bytes(15) + b"\1"
        n_bytes = 1250 if kind is Kind.HELLO else 40
        header = Header(kind, n_bytes, session=bytes(16) if kind is Kind.HELLO else session)
        self.world.controller.received(connection, one_frame(header.pack() + bytes(n_bytes)))

    @rule()
    def born(self) -> None:
        self.world.born()

    @rule(choice=choices, open_streams=st.integers(0, 2))
    def beat(self, choice: int, open_streams: int) -> None:
        if number := self.worker(choice, Life.SERVING, Life.DRAINING):
            self.world.beat(number, open_streams)

    @rule(choice=choices, all_of_them=st.booleans())
    def give_back(self, choice: int, all_of_them: bool) -> None:
        if number := self.worker(choice, Life.SERVING, Life.DRAINING, revoked=True):
            self.world.give_back(number, all_of_them=all_of_them)

    @rule(choice=choices)
    def give_back_at_the_end(self, choice: int) -> None:
        """A worker that is wiped says that it gives back: until it is collected it may still touch them."""
        if number := self.worker(choice, Life.DRAINING, revoked=False):
            names = tuple(self.world.controller.rack.fleet.owned(number))
            returned = messages.Returned(accelerators=names, cleaning=tuple("" for _ in names))
            self.world.link(number, Kind.RETURNED, returned)

    @rule(choice=choices, names=st.sets(st.sampled_from(["cpu:0", "cpu:1", "cpu:2"]), min_size=1))
    def lie(self, choice: int, names: set[str]) -> None:
        """A worker that gives back what it was not asked for, or what is not its own."""
        number = self.worker(choice, Life.SERVING, revoked=False)
        if not number:
            number = self.worker(choice, Life.SERVING, Life.DRAINING)
            names -= set(self.world.controller.rack.fleet.owned(number))
        if number and names:
            returned = messages.Returned(accelerators=tuple(names), cleaning=tuple("" for _ in names))
            self.world.link(number, Kind.RETURNED, returned)
            assert self.world.workers[number].killed

    @rule(choice=choices)
    def wiped(self, choice: int) -> None:
        if number := self.worker(choice, Life.DRAINING):
            self.world.wiped(number)

    @rule(choice=choices)
    def die(self, choice: int) -> None:
        if number := self.worker(choice):
            self.collected.add(number)
            self.world.end(number)

    @rule()
    def collect(self) -> None:
        """The kernel gives back every process that was killed."""
        for number, worker in list(self.world.workers.items()):
            if worker.killed and worker.alive:
                self.collected.add(number)
                self.world.end(number)

    @rule(seconds=st.sampled_from([0.05, 0.6, 6.0, 80.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def an_accelerator_is_owned_by_at_most_one_worker(self) -> None:
        """R1: of those that live, no two hold the same; and the controller gives away nothing that somebody holds."""
        held = Counter(name for worker in self.world.workers.values() if worker.alive for name in worker.holds)
        assert all(count == 1 for count in held.values()), held
        fleet = self.world.controller.rack.fleet
        assert not set(held) & set(fleet.free("cpu"))

    @invariant()
    def a_worker_serves_one_session_in_its_life(self) -> None:
        """R1, R7: one RELEASE, one route, and no session has two workers that were not collected."""
        routes = Counter(number for client in self.world.clients.values() for number in client.routes)
        assert all(count == 1 for count in routes.values())
        living = Counter(
            session for worker in self.world.workers.values() if worker.alive for session, _ in worker.secrets
        )
        assert all(count == 1 for count in living.values())
        assert all(len(worker.secrets) <= 1 for worker in self.world.workers.values())

    @invariant()
    def keys_are_of_one_session_and_one_worker(self) -> None:
        """R3, R5: what a worker got is what its own client derived, and no two workers have the same."""
        released = [secret for worker in self.world.workers.values() for _, secret in worker.secrets]
        assert len(set(released)) == len(released)
        for client in self.world.clients.values():
            for number, secret in zip(client.routes, client.secrets, strict=True):
                assert client.session is not None
                assert self.world.workers[number].secrets == [(client.session.session_id, secret)]

    @invariant()
    def keys_are_released_to_the_measured_worker_only(self) -> None:
        """R6: the worker that got keys is the one whose fresh key the evidence names."""
        for client in self.world.clients.values():
            vouches = [message for kind, message in client.heard if kind is Kind.VOUCH]
            for number, vouch in zip(client.routes, vouches, strict=True):
                assert vouch.worker_key == self.world.workers[number].key.public

    @invariant()
    def cleaning_is_signed_when_the_process_is_gone(self) -> None:
        """R7: who has a record has a worker that was collected, and the record names its process."""
        for connection, client in self.world.clients.items():
            if client.last(Kind.CLEANED) is not None:
                assert client.routes[-1] in self.collected
                assert self.world.record(connection).pid == 40_000 + client.routes[-1]

    @invariant()
    def workers_hear_only_what_is_meant_for_them(self) -> None:
        """R2, R5: nothing of another class goes to a worker's link, nothing of the class INSIDE to a host."""
        assert all(kind.plane is Plane.INSIDE for worker in self.world.workers.values() for kind, _ in worker.told)
        assert all(kind.plane is not Plane.INSIDE for client in self.world.clients.values() for kind, _ in client.heard)

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """A session that has ended has no secrets; a worker without a session is on its way out."""
        tenants = self.world.controller.tenants
        for number, enclave in self.world.controller.rack.enclaves.items():
            if enclave.session and enclave.tenant is None:
                assert enclave.life >= Life.DRAINING or self.world.workers[number].killed
            if enclave.tenant is not None:
                assert tenants[enclave.tenant].enclave is enclave
        assert len(self.world.controller.rack.enclaves) <= self.world.settings.enclaves + self.world.settings.spares

    def teardown(self) -> None:
        """Whatever happened, after a drain everybody is gone, every worker collected, every accelerator free."""
        if not hasattr(self, "world"):
            return
        self.world.controller.drain()
        for _ in range(4):
            self.world.pass_time(100.0)
            self.collect()
        assert self.world.controller.drained
        assert not [c for c in self.world.clients.values() if not c.closed]
        fleet = self.world.controller.rack.fleet
        assert len(fleet.free("cpu")) == fleet.counts["cpu"]


Rack.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestRules = Rack.TestCase


def test_a_link_frame_of_a_client_is_not_listened_to() -> None:
    """R2: a frame of the class INSIDE that comes from a worker in the wrong state costs that worker its life."""
    world = World()
    world.link(1, Kind.BEAT, messages.Beat(open_streams=0, batches=0, images=0, bytes=0, busy_us=0))
    assert world.workers[1].killed


def test_a_worker_with_a_key_of_low_order_gets_nothing() -> None:
    """R6: a worker whose key would make the released secret readable for anybody is killed, and another is given."""
    world = World()
    for number in list(world.workers):
        born = messages.Born(worker_key=bytes(32), receipt_key=bytes(32), pid=1, confinement=(), unconfined=("all",))
        world.controller.linked(number, one_frame(plain_frame(Kind.BORN, encode(born))))
    connection = world.connect()
    world.configure(connection)
    worker = world.serving(connection)
    assert world.workers[worker].killed
    assert not world.workers[worker].secrets
    world.end(worker)
    world.pong(connection)
    world.pass_time(0.1)


@pytest.mark.parametrize("n_sessions", [6])
def test_everybody_who_waits_is_served(n_sessions: int) -> None:
    """Six sessions with work on two accelerators: each gets its turn again and again, none is left out."""
    world = World(Settings(accelerators={"cpu": 2}, spares=6, idle_s=600))
    for _ in range(4):
        world.born()
        world.pass_time(0.05)
    connections = [world.connect() for _ in range(n_sessions)]
    for connection in connections:
        world.configure(connection, wait_ms=60_000)
    turns: Counter[int] = Counter()
    for _ in range(200):
        world.pass_time(0.1)
        world.born()
        for number, enclave in list(world.controller.rack.enclaves.items()):
            if enclave.life is Life.SERVING:
                world.beat(number, 1)
                if enclave.revoked_s is not None:
                    turns[number] += 1
                    world.give_back(number)
    assert len(turns) == n_sessions
    assert max(turns.values()) - min(turns.values()) <= 2, turns


def test_refusals_carry_their_reason_to_the_client() -> None:
    """A frame that is none is answered with its code, sealed if there are keys, and ends the session."""
    world = World()
    connection = world.connect()
    with pytest.raises(HeteeError) as caught:
        one_frame(b"x" * 64)
    world.controller.refused(connection, caught.value)
    assert world.clients[connection].last(Kind.FAIL).code is caught.value.code
