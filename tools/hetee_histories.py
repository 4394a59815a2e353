"""Random histories of the real allocator and the real controller: no rule of isolation may be broken in any.

Hypothesis draws the steps, with lying workers, crashing workers and crashing hosts among them, and shows the shortest
history that breaks a rule. Run it from a checkout::

    .venv/bin/python tools/hetee_histories.py --histories 10000

Its exit code is 1 if a rule was broken.
"""
# ruff: noqa: D102  # the names of steps and invariants say what they are

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import Counter

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hetee_fake_environment import FakeEnvironment
from hetee_session_pair import one_frame
from sectum.hetee.controller.allocation import Grant, Halt, Holder, Insecure, Request, Resetting, Revoke, Secure, Terms
from sectum.hetee.controller.allocator import Allocator
from sectum.hetee.controller.enclaves import EnclaveState
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.tenants import SessionState
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind, Plane


def pick(numbers: list[int], choice: int) -> int:
    """One of the numbers, or 0."""
    return numbers[choice % len(numbers)] if numbers else 0


class ControllerHistory(RuleBasedStateMachine):
    """Random events in sessions, workers and jobs of the real controller, with lying workers and crashing hosts."""

    @initialize(cpus=st.integers(1, 3), gpus=st.integers(0, 2), spares=st.integers(1, 3), enclaves=st.integers(1, 4))
    def build(self, cpus: int, gpus: int, spares: int, enclaves: int) -> None:
        self.fake = FakeEnvironment(
            Settings(
                accelerators={"cpu": cpus, "cuda": gpus}, spares=spares, enclaves=enclaves, sessions=6, idle_s=30.0
            )
        )
        self.keys = [Ed25519PrivateKey.generate() for _ in range(2)]
        self.collected: set[int] = set()
        self.resizes: dict[int, int] = {}  # that each client asked for
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
            and revoked in (None, bool(self.fake.controller.pool.allocator.asked(Secure(number))))
        ]
        return pick(found, choice)

    choices = st.integers(0, 99)

    @rule(whose=st.integers(0, 2))
    def connect(self, whose: int) -> None:
        """A client comes, with an identity that others have, too, or with its own."""
        self.fake.connect(identity=self.keys[whose] if whose < 2 else None)

    @rule(
        choice=choices,
        count=st.integers(1, 3),
        wait_ms=st.sampled_from([0, 100, 5000]),
        kind=st.sampled_from(["cpu", "cpu", "cuda"]),
    )
    def configure(self, choice: int, count: int, wait_ms: int, kind: str) -> None:
        if connection := self.client(choice, SessionState.OPEN):
            self.fake.configure(connection, count, wait_ms, kind)

    @rule(choice=choices, count=st.integers(1, 3), wait_ms=st.sampled_from([0, 100, 5000]))
    def resize(self, choice: int, count: int, wait_ms: int) -> None:
        """A client wants more or fewer accelerators, whether there are so many or not, with an enclave or without."""
        connection = self.client(choice, SessionState.OPEN, SessionState.WAITING, SessionState.SERVING)
        if connection:
            self.resizes[connection] = self.resizes.get(connection, 0) + 1
            self.fake.say(connection, Kind.RESIZE, messages.Resize(count=count, wait_ms=wait_ms))

    @rule(choice=choices, deadline_ms=st.sampled_from([0, 1000]))
    def terminate(self, choice: int, deadline_ms: int) -> None:
        if connection := self.client(choice, SessionState.OPEN, SessionState.WAITING, SessionState.SERVING):
            self.fake.say(connection, Kind.TERMINATE, messages.Deadline(deadline_ms=deadline_ms))

    @rule(choice=choices)
    def hang_up(self, choice: int) -> None:
        if connection := self.client(choice, *SessionState):
            self.fake.clients[connection].closed = True
            self.fake.controller.disconnected(connection)

    @rule()
    def crash_host(self) -> None:
        """The host ends, and with it all connections."""
        for connection in list(self.fake.controller.tenants):
            self.fake.clients[connection].closed = True
            self.fake.controller.disconnected(connection)

    @rule(
        count=st.integers(1, 2), kind=st.sampled_from(["cpu", "cpu", "cuda"]), priority=st.sampled_from([-1, -1, 0, 1])
    )
    def a_job_comes(self, count: int, kind: str, priority: int) -> None:
        self.fake.job(self.fake.connect(handshake=False), kind, count, priority)

    @rule(choice=choices)
    def a_job_asks_again(self, choice: int) -> None:
        connection = self.client(choice, SessionState.JOB)
        if connection and self.fake.controller.tenants[connection].job is None:
            self.fake.job(connection)

    @rule(choice=choices)
    def a_job_gives_back(self, choice: int) -> None:
        """All of its processes have ended; or it has nothing, and lies."""
        if connection := self.client(choice, SessionState.JOB):
            self.fake.job_returned(connection)

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
            names = tuple(self.fake.controller.pool.allocator.owned(Secure(number)))
            returned = messages.Accelerators(accelerators=names)
            self.fake.link(number, Kind.RETURNED, returned)

    @rule(choice=choices, names=st.sets(st.sampled_from(["cpu:0", "cpu:1", "cpu:2"]), min_size=1))
    def lie(self, choice: int, names: set[str]) -> None:
        """A worker that gives back what it was not asked for, or what is not its own."""
        number = self.worker(choice, EnclaveState.SERVING, revoked=False)
        if not number:
            number = self.worker(choice, EnclaveState.SERVING, EnclaveState.DRAINING)
            names -= set(self.fake.controller.pool.allocator.owned(Secure(number)))
        if number and names:
            returned = messages.Accelerators(accelerators=tuple(names))
            self.fake.link(number, Kind.RETURNED, returned)
            assert self.fake.workers[number].killed

    @rule(choice=choices)
    def wiped(self, choice: int) -> None:
        if number := self.worker(choice, EnclaveState.DRAINING):
            self.fake.wiped(number)

    @rule(choice=choices, how=st.sampled_from(["killed by SIGKILL", "killed by SIGFPE"]))
    def die(self, choice: int, how: str) -> None:
        if number := self.worker(choice):
            self.collected.add(number)
            self.fake.end(number, how)

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
        allocator = self.fake.controller.pool.allocator
        assert not set(held) & {name for kind in allocator.counts for name in allocator.free(kind)}
        devices = Counter(name for worker in living for name in worker.devices)
        assert all(count == 1 for count in devices.values()), devices
        for name, number in ((name, worker.number) for worker in living for name in worker.holds):
            assert allocator.owner(name) == Secure(number)

    @invariant()
    def what_a_job_has_nobody_else_has(self) -> None:
        """R1: a job's accelerator is its own until it was given back; without that, a GPU is never anybody's again."""
        allocator = self.fake.controller.pool.allocator
        for connection, client in self.fake.clients.items():
            for name in client.job_holds:
                if not client.closed:
                    assert allocator.owner(name) == Insecure(connection)
                elif name.startswith("cuda"):
                    assert allocator.owner(name) == Resetting(Insecure(connection))

    @invariant()
    def an_accelerator_has_one_owner(self) -> None:
        """R1: the allocator's books agree: each accelerator is free, in one lease, or withheld."""
        allocator, numbers = self.fake.controller.pool.allocator, range(1, max(self.fake.workers, default=0) + 50)
        places = [allocator.free(kind) for kind in allocator.counts]
        places += [[*allocator.owned(Secure(n)), *allocator.resetting(Secure(n))] for n in numbers]
        places += [allocator.owned(Insecure(n)) for n in self.fake.clients]
        names = sorted(f"{kind}:{number}" for kind, count in allocator.counts.items() for number in range(count))
        places.append([name for name in names if allocator.withheld(name)])
        assert sorted(name for place in places for name in place) == names

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
        limits = self.fake.settings
        most = limits.enclaves + limits.spares + limits.accelerators["cuda"]  # a worker with devices needs no spare
        assert len(self.fake.controller.pool.enclaves) <= most

    @invariant()
    def what_a_client_was_told_of_its_size_is_true(self) -> None:
        """R1: no RESIZE has two answers, and an enclave never has more than the service has."""
        for connection, tenant in self.fake.controller.tenants.items():
            client = self.fake.clients[connection]
            assert client.kinds().count(Kind.RESIZED) <= self.resizes.get(connection, 0)
            if tenant.enclave is not None:
                owned = self.fake.controller.pool.allocator.owned(Secure(tenant.enclave.number))
                assert len(owned) <= self.fake.controller.pool.allocator.counts[tenant.enclave.kind]

    def teardown(self) -> None:
        """After a drain no session or job is left, every worker is collected, and all that is not withheld is free."""
        if not hasattr(self, "fake"):
            return
        self.fake.controller.drain()
        for _ in range(4):
            self.fake.pass_time(100.0)
            self.collect()
        assert self.fake.controller.drained
        assert not [c for c in self.fake.clients.values() if not c.closed]
        allocator = self.fake.controller.pool.allocator
        for kind, count in allocator.counts.items():
            withheld = sum(allocator.withheld(f"{kind}:{number}") for number in range(count))
            assert len(allocator.free(kind)) == count - withheld


TERMS = Terms(quantum_s=1.0, term_s=10.0, grace_s=3.0, job_grace_s=2.0)


class AllocatorHistory(RuleBasedStateMachine):
    """Random events in the allocator alone, with both worlds, growth and shrinkage.

    ``uses`` is what processes may be computing on, whatever they say: it ends with a reset only.
    """

    @initialize(gpus=st.integers(1, 4))
    def build(self, gpus: int) -> None:
        self.allocator = Allocator({"gpu": gpus}, TERMS)
        self.now_s = 0.0
        self.numbers = 0
        self.uses: dict[str, Holder] = {}
        self.turns: dict[Holder, float] = {}
        self.ranks: dict[Holder, int] = {}
        self.due: dict[Holder, float] = {}  # until when each must have given back
        self.waiting: dict[int, Request] = {}
        self.shrinks: set[Holder] = set()

    choices = st.integers(0, 99)
    priorities = st.integers(0, 2)

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def holder(self, choice: int, world: type[Secure] | type[Insecure] | None = None) -> Holder | None:
        """A holder of a world, if there is one."""
        found = [holder for holder in self.turns if world is None or isinstance(holder, world)]
        return found[choice % len(found)] if found else None

    def ask(self, request: Request) -> None:
        self.allocator.ask(request)
        self.waiting.setdefault(request.asker, request)

    @rule()
    def a_worker_is_ready(self) -> None:
        self.allocator.clean(self.number())

    @rule(count=st.integers(1, 4), identity=st.binary(min_size=1, max_size=1), priority=priorities)
    def a_session_asks(self, count: int, identity: bytes, priority: int) -> None:
        if count <= self.allocator.counts["gpu"]:
            self.ask(Request(self.number(), "gpu", count, identity, priority))

    @rule(count=st.integers(1, 2), priority=priorities)
    def a_job_asks(self, count: int, priority: int) -> None:
        if count <= self.allocator.counts["gpu"]:
            number = self.number()
            self.ask(Request(number, "gpu", count, b"job", priority, Insecure(number)))

    @rule(choice=choices, count=st.integers(1, 4), priority=priorities)
    def an_enclave_asks_again_or_grows(self, choice: int, count: int, priority: int) -> None:
        holder = self.holder(choice, Secure)
        if isinstance(holder, Secure) and len(self.allocator.owned(holder)) < count <= self.allocator.counts["gpu"]:
            self.ask(Request(10_000 + holder.enclave, "gpu", count, b"grows", priority, holder))

    @rule(choice=choices, count=st.integers(0, 3))
    def an_enclave_shrinks(self, choice: int, count: int) -> None:
        holder = self.holder(choice, Secure)
        if holder is not None and not self.allocator.asked(holder):
            self.shrinks.add(holder)
            self.allocator.shrink(holder, count)

    @rule(choice=choices)
    def who_waits_gives_up(self, choice: int) -> None:
        if self.waiting:
            asker = sorted(self.waiting)[choice % len(self.waiting)]
            self.allocator.withdraw(asker)
            del self.waiting[asker]

    @rule(identity=st.binary(min_size=1, max_size=1), seconds=st.sampled_from([0.5, 20.0]))
    def an_identity_is_paused(self, identity: bytes, seconds: float) -> None:
        self.allocator.pause(identity, self.now_s + seconds)

    @rule(choice=choices)
    def an_enclave_is_ending(self, choice: int) -> None:
        if holder := self.holder(choice, Secure):
            self.allocator.ending(holder, self.now_s, 1.0)
            self.turns[holder] = self.now_s
            if holder in self.due:
                self.due[holder] = min(self.due[holder], self.now_s + TERMS.quantum_s + 1.0)

    @rule(choice=choices, all_of_them=st.booleans())
    def a_holder_gives_back(self, choice: int, all_of_them: bool) -> None:
        """It may go on using it: ``uses`` does not change."""
        holder = self.holder(choice)
        if holder is not None and (asked := sorted(self.allocator.asked(holder))):
            self.allocator.returned(holder, asked[: None if all_of_them else 1])
            if not self.allocator.asked(holder):
                self.due.pop(holder, None)

    @rule(choice=choices)
    def the_kernel_stops_a_holder(self, choice: int) -> None:
        holder = self.holder(choice)
        if holder is not None:
            for name in self.allocator.resetting(holder):
                del self.uses[name]
            self.allocator.confirm(holder)

    @rule(choice=choices)
    def a_holder_ends(self, choice: int) -> None:
        holder = self.holder(choice)
        if holder is not None:
            self.uses = {name: user for name, user in self.uses.items() if user != holder}
            self.allocator.ended(holder)
            del self.turns[holder]
            self.due.pop(holder, None)
            for asker in [asker for asker, request in self.waiting.items() if request.holder == holder]:
                self.allocator.withdraw(asker)
                del self.waiting[asker]

    @rule(seconds=st.sampled_from([0.1, 1.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def decisions_follow_the_rules(self) -> None:
        """R1, R7: what is granted is used by nobody; nothing is taken too early; nobody keeps it too long."""
        if not hasattr(self, "allocator"):
            return
        secure = [request for request in self.waiting.values() if not isinstance(request.holder, Insecure)]
        rank = max((request.priority for request in secure), default=-1)
        for decision in self.allocator.decide(self.now_s):
            match decision:
                case Grant(asker, holder, names):
                    request = self.waiting.pop(asker)
                    assert not set(names) & set(self.uses), (names, self.uses)
                    assert len(self.allocator.owned(holder)) == request.count
                    self.uses |= dict.fromkeys(names, holder)
                    self.turns[holder], self.ranks[holder] = self.now_s, request.priority
                    self.shrinks.discard(holder)
                case Revoke(holder, names, by_s):
                    assert set(names) <= set(self.allocator.owned(holder))
                    assert by_s >= self.now_s
                    self.due[holder] = min(by_s, self.due.get(holder, by_s))
                    began_s = self.turns[holder]
                    if isinstance(holder, Secure):
                        assert self.now_s >= began_s + TERMS.quantum_s or holder in self.shrinks
                    else:
                        assert self.now_s >= began_s + TERMS.term_s or rank > self.ranks[holder]
                case Halt(holder):
                    assert self.now_s >= self.due.pop(holder)
        late = [holder for holder, by_s in self.due.items() if self.now_s >= by_s]
        assert not late, f"{late} should have been halted"

    @invariant()
    def the_books_agree(self) -> None:
        """R1: each accelerator is free, or in one lease, and what is used is not free."""
        if not hasattr(self, "allocator"):
            return
        places = [self.allocator.free("gpu")]
        for holder in self.turns:
            places.append([*self.allocator.owned(holder), *self.allocator.resetting(holder)])
            assert all(self.uses[name] == holder for name in places[-1])
        assert sorted(name for place in places for name in place) == sorted(
            f"gpu:{number}" for number in range(self.allocator.counts["gpu"])
        )
        assert not set(self.uses) & set(places[0])

    def teardown(self) -> None:
        """When all holders end one after the other, everybody who can be served is, and everything is free at last."""
        if not hasattr(self, "allocator"):
            return
        for request in self.waiting.values():
            if request.holder is None:
                self.allocator.clean(self.number())
        for _ in range(4 * (len(self.waiting) + len(self.turns)) + 4):
            self.now_s += 30.0
            self.decisions_follow_the_rules()
            for _holder in list(self.turns):
                self.a_holder_ends(0)
        assert not self.waiting, self.waiting
        assert len(self.allocator.free("gpu")) == self.allocator.counts["gpu"]


MACHINES: dict[str, type[RuleBasedStateMachine]] = {"allocator": AllocatorHistory, "controller": ControllerHistory}


def run(name: str, histories: int, steps: int) -> float:
    """Run random histories of one machine; returns the seconds that they took.

    Raises:
        AssertionError: a rule was broken. Hypothesis has printed the history.
    """
    began_s = time.monotonic()
    how = settings(
        max_examples=histories,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(MACHINES[name], settings=how)
    return time.monotonic() - began_s


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=10_000, help="how many of each machine")
    parser.add_argument("--steps", type=int, default=50, help="most steps of a history")
    parser.add_argument("--only", choices=MACHINES, help="run one machine only")
    parser.add_argument("--json", action="store_true", help="print one object for programs")
    arguments = parser.parse_args()
    results = {}
    for name in [arguments.only] if arguments.only else MACHINES:
        try:
            seconds = run(name, arguments.histories, arguments.steps)
        except AssertionError as broken:
            traceback.print_exception(broken)  # with the history
            results[name] = {"histories": arguments.histories, "broken": str(broken) or "an invariant"}
        else:
            results[name] = {"histories": arguments.histories, "broken": None, "seconds": round(seconds, 1)}
        if not arguments.json:
            print(f"{name}: {results[name]}", flush=True)
    if arguments.json:
        print(json.dumps(results))
    return int(any(result["broken"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
