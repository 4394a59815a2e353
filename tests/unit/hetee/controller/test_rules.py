"""The rules of isolation as invariants of the controller, whatever clients, hosts and workers do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings

from hetee_fake_environment import FakeEnvironment
from hetee_histories import AllocatorHistory, ControllerHistory
from hetee_session_pair import one_frame
from sectum.hetee.controller.allocation import Secure
from sectum.hetee.controller.enclaves import EnclaveState
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import HeteeError
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import encode

pytestmark = pytest.mark.slow

ControllerHistory.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
AllocatorHistory.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestRules = ControllerHistory.TestCase
TestAllocator = AllocatorHistory.TestCase


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
                if fake.controller.pool.allocator.asked(Secure(number)):
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
