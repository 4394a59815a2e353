"""RESIZE: an enclave grows by a request like any other, and what it gives back is reset before another has it."""

from __future__ import annotations

from typing import Any

import pytest

from hetee_fake_environment import FakeEnvironment, refused
from sectum.hetee.controller.allocation import Secure
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import Refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Deadline


def serving(accelerators: dict[str, int], count: int = 1, kind: str = "cpu") -> tuple[FakeEnvironment, int, int]:
    """A session with an enclave of so many accelerators: the environment, its connection and its worker."""
    fake = FakeEnvironment(Settings(accelerators=accelerators, idle_s=600, spares=3))
    fake.started()
    connection = fake.connect()
    fake.configure(connection, count, kind=kind)
    fake.started()
    return fake, connection, fake.serving(connection)


def resize(fake: FakeEnvironment, connection: int, count: int, wait_ms: int = 5000) -> None:
    fake.say(connection, Kind.RESIZE, messages.Resize(count=count, wait_ms=wait_ms))


def answers(fake: FakeEnvironment, connection: int) -> list[Any]:
    """What came of each RESIZE: the code of its refusal, or the accelerators."""
    told = [message for kind, message in fake.clients[connection].heard if kind is Kind.RESIZED]
    return [message.refused[0].code if message.refused else message.accelerators for message in told]


def test_an_enclave_gets_what_is_free_at_once() -> None:
    """Growth is granted in the moment in which RESIZE comes, and the same worker gets it."""
    fake, connection, worker = serving({"cpu": 4})
    resize(fake, connection, 4)
    assert fake.workers[worker].holds == {f"cpu:{number}" for number in range(4)}
    assert answers(fake, connection) == [("cpu:0", "cpu:1", "cpu:2", "cpu:3")]
    assert fake.clients[connection].routes == [worker]


def test_growth_that_nobody_makes_room_for_is_refused_and_changes_nothing() -> None:
    """After its wait a growing enclave is told BUSY, keeps what it has, and is given nothing later."""
    fake, connection, worker = serving({"cpu": 2})
    other = fake.connect()
    fake.configure(other)
    resize(fake, connection, 2, wait_ms=300)
    fake.pass_time(0.2)
    assert answers(fake, connection) == []
    fake.pass_time(0.2)
    assert answers(fake, connection) == [Refusal.BUSY]
    fake.say(other, Kind.TERMINATE, Deadline(deadline_ms=0))
    fake.end(fake.serving(other))
    fake.pass_time(1)
    assert fake.workers[worker].holds == {"cpu:0"}


def test_growth_takes_turns_with_others() -> None:
    """While another session has what is missing, a growing enclave gets it when the other's turn is over, and reset."""
    fake, connection, worker = serving({"cpu": 2})
    other = fake.connect()
    fake.configure(other)
    giver = fake.serving(other)
    resize(fake, connection, 2)
    fake.pass_time(0.6)
    assert fake.workers[giver].last(Kind.REVOKE).accelerators == ("cpu:1",)
    fake.give_back(giver, stops=False)
    assert answers(fake, connection) == []
    fake.stops(giver)
    assert answers(fake, connection) == [("cpu:0", "cpu:1")]
    assert fake.workers[worker].holds == {"cpu:0", "cpu:1"}


def test_what_an_enclave_gives_back_is_granted_after_its_reset() -> None:
    """Who waits gets what an enclave gave back when the kernel has stopped its process, not when that says so."""
    fake, connection, worker = serving({"cpu": 4}, 4)
    other = fake.connect()
    resize(fake, connection, 2)
    fake.configure(other, 2)
    assert fake.workers[worker].last(Kind.REVOKE).accelerators == ("cpu:2", "cpu:3")
    returned = messages.Accelerators(accelerators=("cpu:2", "cpu:3"))
    fake.link(worker, Kind.RETURNED, returned)
    fake.pass_time(0.05)
    allocator = fake.controller.pool.allocator
    assert allocator.resetting(Secure(worker)) == returned.accelerators
    assert (answers(fake, connection), fake.clients[other].routes) == ([], [])
    fake.stops(worker)
    fake.pass_time(0.05)
    assert answers(fake, connection) == [("cpu:0", "cpu:1")]
    assert fake.workers[fake.serving(other)].holds == {"cpu:2", "cpu:3"}
    assert not fake.workers[worker].stopped


def test_a_shrinking_worker_that_gives_back_something_else_is_killed() -> None:
    """What was not asked back stays the enclave's until its process was collected, and RESIZE is answered first."""
    fake, connection, worker = serving({"cpu": 2}, 2)
    resize(fake, connection, 1)
    fake.link(worker, Kind.RETURNED, messages.Accelerators(accelerators=("cpu:0",)))
    assert fake.workers[worker].killed
    assert fake.controller.pool.allocator.free("cpu") == []
    fake.end(worker)
    heard = fake.clients[connection].kinds()
    assert answers(fake, connection) == [Refusal.WORKER_LOST]
    assert heard.index(Kind.RESIZED) < heard.index(Kind.LOST)


def test_a_worker_that_does_not_shrink_is_killed() -> None:
    """Accelerators that are not given back in time come back with the end of the process."""
    fake, connection, worker = serving({"cpu": 2}, 2)
    resize(fake, connection, 1)
    fake.pass_time(64)
    assert not fake.workers[worker].killed
    fake.pass_time(2)
    assert fake.workers[worker].killed
    fake.end(worker)
    assert answers(fake, connection) == [Refusal.WORKER_LOST]


def test_the_next_enclave_has_as_many_accelerators() -> None:
    """A session whose enclave is lost after RESIZE gets one of the new size; a growth that failed does not count."""
    fake, connection, worker = serving({"cpu": 3})
    resize(fake, connection, 2)
    other = fake.connect()
    fake.configure(other)
    resize(fake, connection, 3)
    fake.end(worker)
    assert answers(fake, connection) == [("cpu:0", "cpu:1"), Refusal.WORKER_LOST]
    fake.pong(connection)
    fake.started()
    assert fake.serving(connection) != worker
    assert len(fake.workers[fake.serving(connection)].holds) == 2


def test_what_cannot_be_is_refused_and_the_session_goes_on() -> None:
    """More than there are, a second RESIZE before an answer, and one without an enclave end nothing."""
    fake, connection, _ = serving({"cpu": 2})
    resize(fake, connection, 3)
    other, third = fake.connect(), fake.connect()
    fake.configure(other)
    resize(fake, third, 2)
    resize(fake, connection, 2)
    resize(fake, connection, 1)
    assert answers(fake, connection) == [Refusal.NO_ACCELERATOR, Refusal.BUSY]
    assert answers(fake, third) == [Refusal.WORKER_LOST]
    assert refused(fake, connection) is None
    assert refused(fake, third) is None


def test_gpus_are_not_added_to_a_worker() -> None:
    """A worker sees the devices of its start only, so RESIZE of such an enclave is refused, and says what to do."""
    fake, connection, worker = serving({"cuda": 2}, kind="cuda")
    resize(fake, connection, 2)
    assert answers(fake, connection) == [Refusal.NO_ACCELERATOR]
    assert "ask for another" in fake.clients[connection].last(Kind.RESIZED).refused[0].detail
    assert fake.workers[worker].devices == ("cuda:0",)


def test_a_flood_of_resizes_ends_its_session() -> None:
    """Who sends more messages than a client needs is cut off; what its enclave had comes back."""
    fake, connection, worker = serving({"cpu": 2})
    for number in range(60):
        if fake.clients[connection].closed:
            break
        resize(fake, connection, 1 + number % 2)
    assert refused(fake, connection) is Refusal.UNEXPECTED
    fake.end(worker)
    assert fake.controller.pool.allocator.free("cpu") == ["cpu:0", "cpu:1"]


@pytest.mark.parametrize("after", [0.0, 0.3])
def test_an_enclave_whose_turn_is_over_can_shrink(after: float) -> None:
    """A worker that has nothing at the moment is asked for nothing, and gets the smaller number in its next turn."""
    fake, connection, worker = serving({"cpu": 2}, 2)
    other = fake.connect()
    fake.configure(other, 2)
    fake.pass_time(0.6)
    fake.give_back(worker)
    fake.heartbeat(worker, 1)
    fake.pass_time(after)
    resize(fake, connection, 1)
    fake.pass_time(0.05)
    assert answers(fake, connection) == [()]
    fake.heartbeat(worker, 1)
    fake.pass_time(0.6)
    fake.give_back(fake.serving(other))
    assert len(fake.workers[worker].holds) == 1
