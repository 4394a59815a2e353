"""Accelerators go round: first come, first served, a quantum each."""

from __future__ import annotations

from controller_world import World
from sectum.hetee.controller.accelerators import Fleet, Waiter, reset
from sectum.hetee.controller.settings import Settings
from sectum.hetee.wire.kinds import Kind


def test_who_waits_is_served_in_order_and_only_what_is_free_is_given() -> None:
    """A fleet gives out what nobody owns, and keeps the order of those who wait."""
    fleet = Fleet({"cpu": 2})
    fleet.grant(1, fleet.free("cpu"))
    assert fleet.free("cpu") == []
    for tenant in (5, 6, 5):
        fleet.wait("cpu", Waiter(tenant, 1))
    assert [waiter.tenant for _, queue in fleet.queues() for waiter in queue] == [5, 6]
    assert fleet.ahead(6) == 1
    fleet.take_back(["cpu:1"])
    assert fleet.owned(1) == ("cpu:0",)
    assert fleet.free("cpu") == ["cpu:1"]


def test_what_was_done_to_an_accelerator_is_said() -> None:
    """A record never says more than was done: memory that ended with a process."""
    assert "process" in reset("cpu:0")
    assert "process" in reset("cuda:1")


def two_on_one() -> tuple[World, int, int]:
    """One accelerator, one session that owns it, one that waits for it."""
    world = World(Settings(accelerators={"cpu": 1}, idle_s=600))
    world.born()
    first, second = world.connect(), world.connect()
    world.configure(first)
    world.configure(second, wait_ms=300_000)
    return world, first, second


def test_nobody_is_asked_before_its_quantum_is_over() -> None:
    """REVOKE comes when the owner had its accelerator for a quantum and somebody waits, and once."""
    world, first, second = two_on_one()
    worker = world.workers[world.serving(first)]
    world.pass_time(0.4)
    assert worker.last(Kind.REVOKE) is None
    world.pass_time(0.2)
    world.pass_time(0.2)
    assert [kind for kind, _ in worker.told].count(Kind.REVOKE) == 1
    assert world.clients[second].last(Kind.VOUCH) is None
    world.give_back(worker.number)
    assert world.workers[world.serving(second)].holds == {"cpu:0"}


def test_while_nobody_waits_everybody_keeps_what_it_has() -> None:
    """A quantum without anybody who waits ends nothing."""
    world = World(Settings(accelerators={"cpu": 1}))
    world.born()
    connection = world.connect()
    world.configure(connection)
    world.pass_time(60 - 1)
    assert world.workers[world.serving(connection)].last(Kind.REVOKE) is None


def test_who_gave_back_with_batches_left_queues_again() -> None:
    """A worker with open batches gets an accelerator again when the others had theirs."""
    world, first, second = two_on_one()
    old = world.serving(first)
    world.beat(old, 3)
    world.pass_time(0.6)
    world.give_back(old)
    new = world.serving(second)
    assert world.workers[new].holds == {"cpu:0"}
    world.pass_time(0.6)
    world.give_back(new)
    assert world.workers[old].holds == {"cpu:0"}
    assert world.workers[new].holds == set()
    world.pass_time(5)
    assert world.workers[old].holds == {"cpu:0"}, "the other one has no batches, so nobody waits"
    world.beat(new, 1)
    world.pass_time(0.1)
    assert [kind for kind, _ in world.workers[old].told].count(Kind.REVOKE) == 2


def test_who_does_not_give_back_is_killed() -> None:
    """5 s and the longest batch after REVOKE the owner is killed, and the one who waits gets the accelerator."""
    world, first, second = two_on_one()
    worker = world.serving(first)
    world.pass_time(0.6)
    world.pass_time(5 + world.settings.longest_batch_s - 0.1)
    assert not world.workers[worker].killed
    world.pass_time(0.2)
    assert world.workers[worker].killed
    assert world.clients[second].last(Kind.VOUCH) is None
    world.end(worker)
    assert world.workers[world.serving(second)].holds == {"cpu:0"}
