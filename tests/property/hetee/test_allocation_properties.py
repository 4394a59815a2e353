"""How long anybody waits at most, and what anybody gets at least, whoever else asks for what."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from sectum.hetee.controller.allocation import Grant, Request, Revoke, Secure, Terms
from sectum.hetee.controller.allocator import Allocator
from sectum.hetee.controller.demand import Demand

STEP_S, RESET_S = 0.25, 0.5
TERMS = Terms(quantum_s=1.0, term_s=50.0, grace_s=2.0, job_grace_s=1.0)
TURN_S = TERMS.quantum_s + TERMS.grace_s + RESET_S


@dataclass
class Session:
    """One session, which has an enclave and wants its accelerators again and again."""

    number: int
    identity: int
    priority: int
    count: int
    asks_s: float | None = 0.0
    asked_s: float | None = None
    at_most_s: float = 0.0

    @property
    def holder(self) -> Secure:
        return Secure(self.number)


class Crowd:
    """Identities, each with a priority and sessions that ask for so many accelerators; holders that take their time."""

    def __init__(self, gpus: int, identities: list[tuple[int, list[int]]], seed: int) -> None:
        self.allocator, self.rng = Allocator({"gpu": gpus}, TERMS), random.Random(seed)
        pairs = [(i, priority, count) for i, (priority, counts) in enumerate(identities) for count in counts]
        self.sessions = [Session(n, i, priority, min(count, gpus)) for n, (i, priority, count) in enumerate(pairs, 1)]
        self.equal = len({session.count for session in self.sessions}) == 1
        self.last: Counter[int] = Counter()  # accelerators that each identity was granted last
        self.returns: list[tuple[float, Revoke]] = []
        self.resets: list[tuple[float, Session]] = []
        self.turns: Counter[int] = Counter()

    def bound_s(self, me: Session) -> float:
        """The bound of docs/spec/allocation.md, when this session asks."""
        weights = {session.identity: 2.0**session.priority for session in self.sessions}
        ahead = [s.count for s in self.sessions if s.identity == me.identity and s.asked_s is not None and s is not me]
        debt = (sum(ahead) + self.last[me.identity]) / weights[me.identity]
        others = sum(
            1 + floor(debt * weight / min(s.count for s in self.sessions if s.identity == identity))
            for identity, weight in weights.items()
            if identity != me.identity
        )
        served_before = len(ahead) + others
        return ((1 if self.equal else 2) * served_before + 1) * TURN_S

    def run(self, steps: int) -> None:
        """Let time pass, and hold everybody to the bound."""
        for step in range(steps):
            now_s = step * STEP_S
            for due_s, revoke in [each for each in self.returns if each[0] <= now_s]:
                self.returns.remove((due_s, revoke))
                self.allocator.returned(revoke.holder, revoke.names)
                assert isinstance(revoke.holder, Secure)
                self.resets.append((now_s + RESET_S, self.sessions[revoke.holder.enclave - 1]))
            for due_s, session in [each for each in self.resets if each[0] <= now_s]:
                self.resets.remove((due_s, session))
                self.allocator.confirm(session.holder)
                session.asks_s = now_s + STEP_S * self.rng.randrange(8)
            for session in self.sessions:
                if session.asks_s is not None and session.asks_s <= now_s:
                    session.asks_s, session.asked_s, session.at_most_s = None, now_s, self.bound_s(session)
                    name = session.identity.to_bytes(1)
                    self.allocator.ask(
                        Request(session.number, "gpu", session.count, name, session.priority, session.holder)
                    )
            for decision in self.allocator.decide(now_s):
                if isinstance(decision, Grant):
                    session = self.sessions[decision.asker - 1]
                    assert session.asked_s is not None
                    assert now_s - session.asked_s <= session.at_most_s, session
                    self.last[session.identity] = session.count
                    self.turns[session.identity] += 1
                    session.asked_s = None
                elif isinstance(decision, Revoke):
                    late_s = STEP_S * self.rng.randrange(floor(TERMS.grace_s / STEP_S) + 1)
                    self.returns.append((now_s + late_s, decision))
            for session in self.sessions:
                assert session.asked_s is None or now_s - session.asked_s <= session.at_most_s, session


GROUPS = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.sampled_from([1, 1, 2, 4]), min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(gpus=st.integers(1, 5), crowd=GROUPS, seed=st.integers(0, 1 << 16))
def test_nobody_waits_longer_than_the_bound(gpus: int, crowd: list[tuple[int, list[int]]], seed: int) -> None:
    """Whatever others ask for, with whatever priority, a request is served within the time that the formula gives."""
    Crowd(gpus, crowd, seed).run(200)


@settings(max_examples=30, deadline=None)
@given(many=st.integers(1, 12), seed=st.integers(0, 1 << 16))
def test_turns_do_not_depend_on_the_number_of_sessions(many: int, seed: int) -> None:
    """On one accelerator, an identity with many sessions gets half of the turns if another one always waits."""
    crowd = Crowd(1, [(0, [1] * many), (0, [1] * 3)], seed)
    crowd.run(600)
    assert crowd.turns[0] <= crowd.turns[1] + 3, crowd.turns


@settings(deadline=None)
@given(takes=st.lists(st.floats(0, 100), max_size=60), start_s=st.floats(-1e-9, 30))
def test_the_idle_queue_stays_within_its_limits(takes: list[float], start_s: float) -> None:
    """It is never smaller or larger than was configured, and is smallest again when nobody has come for long."""
    demand, now_s = Demand(2, 8), 0.0
    demand.started(start_s)
    for gap_s in takes:
        now_s += gap_s
        demand.took(now_s)
        assert 2 <= demand.wanted(now_s) <= 8
    assert demand.wanted(now_s + 3600) == 2


def test_the_idle_queue_follows_demand() -> None:
    """One session a second and two seconds for a start: five workers wait; before and long afterwards, two."""
    demand = Demand(2, 8)
    demand.started(2.0)
    assert demand.wanted(0.0) == 2
    for second in range(600):
        demand.took(float(second))
    assert demand.wanted(600.0) == 5
    assert demand.wanted(1200.0) == 2
