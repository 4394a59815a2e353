"""The allocator: who gets what, in which order, who gives back, and how long anybody waits at most."""

from __future__ import annotations

from collections import Counter

import pytest

from sectum.hetee.controller.allocation import FREE, Grant, Halt, Insecure, Request, Resetting, Revoke, Secure, Terms
from sectum.hetee.controller.allocator import Allocator

TERMS = Terms(quantum_s=1.0, term_s=100.0, grace_s=5.0, job_grace_s=2.0)


def secure(asker: int, count: int = 1, *, identity: bytes = b"", priority: int = 0, enclave: int = 0) -> Request:
    """A request of a session, for an enclave that it has or for the next one."""
    holder = Secure(enclave) if enclave else None
    return Request(asker, "gpu", count, identity or str(asker).encode(), priority, holder)


def job(asker: int, count: int = 1, *, priority: int = 0) -> Request:
    """A request of a job."""
    return Request(asker, "gpu", count, str(asker).encode(), priority, Insecure(asker))


def with_workers(gpus: int, workers: int, terms: Terms = TERMS) -> Allocator:
    """An allocator with clean workers 101, 102, ..."""
    allocator = Allocator({"gpu": gpus}, terms)
    for number in range(workers):
        allocator.clean(101 + number)
    return allocator


def give_back(allocator: Allocator, revoke: Revoke) -> None:
    """A holder complies, and what it gave back is reset."""
    allocator.returned(revoke.holder, revoke.names)
    allocator.confirm(revoke.holder)


def test_only_free_accelerators_are_granted_and_the_first_clean_worker_gets_them() -> None:
    """An accelerator goes from free to one holder, to resetting, to free, and the idle queue is first in, first out."""
    allocator = with_workers(2, 2)
    allocator.ask(secure(1, 2))
    allocator.ask(secure(2))
    assert allocator.decide(0) == [Grant(1, Secure(101), ("gpu:0", "gpu:1"))]
    assert (allocator.owner("gpu:0"), allocator.free("gpu")) == (Secure(101), [])
    assert allocator.decide(0.5) == []
    (revoke,) = allocator.decide(1.0)
    assert revoke == Revoke(Secure(101), ("gpu:0", "gpu:1"), 6.0)
    allocator.returned(Secure(101), ["gpu:1"])
    assert (allocator.owner("gpu:1"), allocator.decide(1.0)) == (Resetting(Secure(101)), [])
    allocator.confirm(Secure(101))
    assert allocator.decide(1.0) == [Grant(2, Secure(102), ("gpu:1",))]
    assert (allocator.owner("gpu:0"), allocator.owner("gpu:1")) == (Secure(101), Secure(102))


def test_what_is_not_owned_cannot_be_given_back() -> None:
    """An event about an accelerator that its holder does not own is a fault of the caller, and is not carried out."""
    allocator = with_workers(1, 2)
    allocator.ask(secure(1))
    allocator.decide(0)
    for holder in (Secure(102), Insecure(101)):
        with pytest.raises((AssertionError, KeyError)):
            allocator.returned(holder, ["gpu:0"])
    assert allocator.owner("gpu:0") == Secure(101)


def test_nobody_is_served_before_a_request_ahead_of_it() -> None:
    """A large request is not starved by small ones that come later, though these would fit."""
    allocator = with_workers(3, 4)
    allocator.ask(secure(1, 2))
    allocator.decide(0)
    allocator.ask(secure(2, 2))
    allocator.ask(secure(3, 1))
    assert [allocator.decide(0.5), allocator.ahead(2), allocator.ahead(3)] == [[], 0, 1]
    (revoke,) = allocator.decide(1.0)
    assert isinstance(revoke, Revoke)
    give_back(allocator, revoke)
    assert [grant.asker for grant in allocator.decide(1.0) if isinstance(grant, Grant)] == [2, 3]


def test_who_waits_for_a_worker_keeps_nobody_else_waiting() -> None:
    """With an empty idle queue an enclave that exists is served, and one more worker is demanded."""
    allocator = with_workers(1, 0)
    allocator.ask(secure(1))
    allocator.ask(secure(2, enclave=7))
    assert allocator.decide(0) == [Grant(2, Secure(7), ("gpu:0",))]
    assert allocator.lacking == 1


def test_an_identity_that_is_paused_gets_no_worker_until_its_pause_is_over() -> None:
    """A pause keeps an identity from new enclaves, nobody else, and ends by itself."""
    allocator = with_workers(2, 2)
    allocator.pause(b"crasher", 10.0)
    allocator.ask(secure(1, identity=b"crasher"))
    allocator.ask(secure(2))
    assert [grant.asker for grant in allocator.decide(0) if isinstance(grant, Grant)] == [2]
    assert (allocator.lacking, allocator.decide(9.9)) == (0, [])
    assert [grant.asker for grant in allocator.decide(10.0) if isinstance(grant, Grant)] == [1]


def test_who_does_not_give_back_in_time_is_halted_once() -> None:
    """After its grace a holder is to be ended; what it had is free when it was, not before."""
    allocator = with_workers(1, 2)
    allocator.ask(secure(1))
    allocator.decide(0)
    allocator.ask(secure(2))
    allocator.decide(1.0)
    assert allocator.decide(5.9) == []
    assert allocator.decide(6.0) == [Halt(Secure(101))]
    assert allocator.decide(7.0) == []
    allocator.ended(Secure(101))
    assert allocator.decide(7.0) == [Grant(2, Secure(102), ("gpu:0",))]


def test_a_secure_request_preempts_a_job_of_lower_priority_at_once() -> None:
    """The job of lowest priority that began last is told, has its grace, is halted, and is served again later."""
    allocator = with_workers(3, 1)
    for asker, priority, now_s in ((11, 0, 0.0), (12, 0, 1.0), (13, 1, 2.0)):
        allocator.ask(job(asker, priority=priority))
        allocator.decide(now_s)
    allocator.ask(secure(1, priority=1))
    assert allocator.decide(3.0) == [Revoke(Insecure(12), ("gpu:1",), 5.0)]
    assert allocator.decide(5.0) == [Halt(Insecure(12))]
    allocator.returned(Insecure(12), ["gpu:1"])
    assert (allocator.owner("gpu:1"), allocator.decide(5.1)) == (Resetting(Insecure(12)), [])
    allocator.confirm(Insecure(12))
    assert allocator.decide(5.2) == [Grant(1, Secure(101), ("gpu:1",))]
    allocator.ask(job(12))
    assert allocator.decide(50.0) == []
    allocator.ended(Secure(101))
    assert allocator.decide(51.0) == [Grant(12, Insecure(12), ("gpu:1",))]


def test_a_job_that_is_not_outranked_keeps_its_accelerators_for_its_term() -> None:
    """A secure request of the same priority waits until the term of the job is over, and no longer."""
    allocator = with_workers(1, 1)
    allocator.ask(job(11, priority=2))
    allocator.decide(0)
    allocator.ask(secure(1, priority=2))
    assert allocator.decide(99.9) == []
    assert allocator.decide(100.0) == [Revoke(Insecure(11), ("gpu:0",), 102.0)]


def test_a_job_is_not_served_while_a_secure_request_outranks_it() -> None:
    """What was taken from one job does not go to another job that has waited longer."""
    allocator = with_workers(2, 2)
    allocator.ask(job(11, 2))
    allocator.decide(0)
    allocator.ask(job(12, 1))
    allocator.ask(secure(1, 2, priority=1))
    (revoke,) = allocator.decide(1.0)
    assert isinstance(revoke, Revoke)
    give_back(allocator, revoke)
    assert allocator.decide(1.0) == [Grant(1, Secure(101), ("gpu:0", "gpu:1"))]


def test_a_lease_grows_and_shrinks() -> None:
    """Growth adds to what an enclave has; shrinkage asks back no more than the surplus."""
    allocator = with_workers(4, 1)
    allocator.ask(secure(1))
    allocator.decide(0)
    allocator.ask(secure(1, 4, enclave=101))
    assert allocator.decide(1.0) == [Grant(1, Secure(101), ("gpu:1", "gpu:2", "gpu:3"))]
    allocator.shrink(Secure(101), 2)
    assert allocator.decide(2.0) == [Revoke(Secure(101), ("gpu:2", "gpu:3"), 7.0)]
    assert allocator.decide(3.0) == []
    give_back(allocator, Revoke(Secure(101), ("gpu:2", "gpu:3"), 7.0))
    assert (allocator.owned(Secure(101)), allocator.free("gpu")) == (("gpu:0", "gpu:1"), ["gpu:2", "gpu:3"])
    assert allocator.decide(8.0) == []


def test_who_grows_is_not_asked_to_give_back_for_itself() -> None:
    """A lease waits for others to grow; its own accelerators are asked back only for others."""
    allocator = with_workers(2, 2)
    for asker in (1, 2):
        allocator.ask(secure(asker))
    allocator.decide(0)
    allocator.ask(secure(1, 2, enclave=101))
    assert allocator.decide(1.0) == [Revoke(Secure(102), ("gpu:1",), 6.0)]


def test_a_request_that_is_withdrawn_costs_its_identity_nothing() -> None:
    """Who asks and gives up again and again is served like one that has just come."""
    allocator = with_workers(1, 3)
    allocator.ask(secure(9))
    allocator.decide(0)
    allocator.ask(secure(3, identity=b"c"))
    for _ in range(100):
        allocator.ask(secure(1, identity=b"a"))
        allocator.withdraw(1)
    allocator.ask(secure(1, identity=b"a"))
    allocator.ask(secure(2, identity=b"b"))
    allocator.decide(0)
    assert [allocator.ahead(asker) for asker in (3, 1, 2)] == [0, 1, 2]


def test_kinds_do_not_compete() -> None:
    """A request waits for accelerators of its kind only."""
    allocator = Allocator({"cpu": 1, "gpu": 1}, TERMS)
    allocator.ask(secure(1, enclave=1))
    allocator.ask(Request(2, "cpu", 1, holder=Secure(2)))
    assert {grant.names for grant in allocator.decide(0) if isinstance(grant, Grant)} == {("cpu:0",), ("gpu:0",)}
    assert allocator.owner("cpu:0") is not FREE


def turns(identities: dict[bytes, tuple[int, int]], n_turns: int) -> Counter[bytes]:
    """How many turns identities get of one accelerator, each with so many sessions that always wait, and a priority."""
    allocator = Allocator({"gpu": 1}, TERMS)
    enclaves = {
        number: secure(number, identity=identity, priority=priority, enclave=number)
        for number, (identity, priority) in enumerate(
            ((identity, priority) for identity, (sessions, priority) in identities.items() for _ in range(sessions)), 1
        )
    }
    for request in enclaves.values():
        allocator.ask(request)
    served: Counter[bytes] = Counter()
    now_s = 0.0
    while served.total() < n_turns:
        for decision in allocator.decide(now_s):
            if isinstance(decision, Grant):
                served[enclaves[decision.asker].identity] += 1
            elif isinstance(decision, Revoke):
                assert isinstance(decision.holder, Secure)
                give_back(allocator, decision)
                allocator.ask(enclaves[decision.holder.enclave])
        now_s += 0.5
    return served


def test_sessions_of_one_identity_take_no_share_of_another() -> None:
    """Thirty sessions of one identity get as many turns as one session of another."""
    served = turns({b"many": (30, 0), b"one": (1, 0)}, 200)
    assert abs(served[b"many"] - served[b"one"]) <= 2, served


def test_the_share_of_an_identity_doubles_with_each_step_of_priority() -> None:
    """Turns follow the weights 1, 2 and 4 of the priorities 0, 1 and 2, if each always has enough that waits."""
    served = turns({b"low": (4, 0), b"middle": (4, 1), b"high": (8, 2)}, 350)
    assert [round(served[identity] / 50) for identity in (b"low", b"middle", b"high")] == [1, 2, 4], served
