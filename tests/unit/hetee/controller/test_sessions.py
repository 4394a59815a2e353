"""Sessions, as the controller sees them: from the greeting to the cleaning record."""

from __future__ import annotations

import time

import pytest

from hetee_fake_environment import ENDORSEMENT, MEASUREMENT, FakeEnvironment, refused
from hetee_session_pair import one_frame
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import Refusal
from sectum.hetee.verification.evidence import verify
from sectum.hetee.verification.software import SoftwareVerifier
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Deadline, Empty, Ping, encode


def ready_world(**settings: object) -> FakeEnvironment:
    """A fake environment whose spare workers are ready."""
    fake = FakeEnvironment(Settings(accelerators={"cpu": 2}, **settings))  # type: ignore[arg-type]
    fake.started()
    return fake


def test_an_enclave_is_vouched_for_released_and_routed() -> None:
    """A session gets VOUCH, the worker the secret that follows from it, the host the worker's socket, in this order."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    client, worker = fake.clients[connection], fake.serving(connection)
    assert client.kinds() == [Kind.ACCEPT, Kind.VOUCH, Kind.ROUTE]
    assert client.routes == [worker]
    assert [secret for _, secret in fake.workers[worker].secrets] == client.secrets
    assert fake.workers[worker].last(Kind.GRANT).accelerators == client.last(Kind.VOUCH).accelerators


def test_spares_are_as_many_as_were_asked_for_when_a_session_has_taken_one() -> None:
    """A session that was just served no longer waits for a worker."""
    fake = ready_world(spares=2)
    fake.configure(fake.connect())
    for _ in range(3):
        fake.controller.tick()
        fake.started()
    assert len(fake.workers) == 3


def test_evidence_of_a_worker_holds_what_was_measured_before_its_start() -> None:
    """The measurement in the evidence of VOUCH was taken before the process was started."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    client = fake.clients[connection]
    vouch = client.last(Kind.VOUCH)
    assert client.session is not None
    nonce = client.session.worker_nonce(0, vouch.worker_key, vouch.receipt_key)
    claims = verify(vouch.evidence, nonce, [SoftwareVerifier([ENDORSEMENT.root])], time.time())
    assert claims.role == "worker"
    assert claims.measurement == MEASUREMENT
    assert claims.signer == fake.provider.public_key


def test_a_session_that_terminates_gets_a_record_signed_after_the_process_was_collected() -> None:
    """CLEANED comes when the kernel gave the process back, not when the worker says that it has wiped."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    worker = fake.serving(connection)
    fake.say(connection, Kind.TERMINATE, Deadline(deadline_ms=1000))
    assert fake.workers[worker].last(Kind.WIPE).deadline_ms == 1000
    fake.wiped(worker)
    assert fake.workers[worker].killed
    assert fake.clients[connection].last(Kind.CLEANED) is None
    fake.end(worker)
    record = fake.record(connection)
    assert (record.ended, record.exit, record.pid) == ("asked", "killed by SIGKILL", 40_000 + worker)
    assert record.peak_bytes == 1 << 20
    assert set(record.accelerators) == {"cpu:0"}
    assert fake.clients[connection].closed


def test_a_worker_that_does_not_wipe_in_time_is_killed_and_the_record_says_so() -> None:
    """WIPE's deadline and a second are the most; the record says ``killed``."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    worker = fake.serving(connection)
    fake.say(connection, Kind.TERMINATE, Deadline(deadline_ms=500))
    fake.pass_time(1.4)
    assert not fake.workers[worker].killed
    fake.pass_time(0.2)
    assert fake.workers[worker].killed
    fake.end(worker)
    assert fake.record(connection).ended == "killed"


def test_a_lost_worker_is_replaced_behind_a_fence() -> None:
    """After LOST the next enclave is given only when the client's PONG shows that nothing old is on its way."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    first = fake.serving(connection)
    fake.end(first)
    client = fake.clients[connection]
    assert client.kinds()[-3:] == [Kind.UNROUTE, Kind.LOST, Kind.PING]
    fake.started()
    fake.pass_time(0.1)
    assert client.routes == [first]
    fake.pong(connection)
    assert len(client.routes) == 2
    assert client.last(Kind.VOUCH).index == 1
    assert client.secrets[0] != client.secrets[1]


def test_a_pong_that_nobody_asked_for_ends_the_session() -> None:
    """Any PONG but the expected one is refused as UNEXPECTED."""
    fake = ready_world()
    connection = fake.connect()
    fake.say(connection, Kind.PONG, Ping(number=7))
    assert refused(fake, connection) is Refusal.UNEXPECTED
    assert fake.clients[connection].closed


def test_waiting_is_told_and_ends() -> None:
    """A waiting session gets its place in the queue, and BUSY when its time is over; it stays open."""
    fake = ready_world(enclaves=2)
    for _ in range(2):
        fake.configure(fake.connect())
    third = fake.connect()
    fake.configure(third, wait_ms=300)
    fake.pass_time(0.1)
    assert fake.clients[third].last(Kind.QUEUED).ahead == 0
    fake.pass_time(0.3)
    assert refused(fake, third) is Refusal.BUSY
    assert not fake.clients[third].closed
    fake.say(third, Kind.PING, Ping(number=1))
    assert fake.clients[third].last(Kind.PONG).number == 1


def test_more_accelerators_than_there_are_cannot_be_waited_for() -> None:
    """NO_ACCELERATOR comes at once, and the session goes on."""
    fake = ready_world()
    connection = fake.connect()
    for count, kind in ((3, "cpu"), (1, "cuda")):
        fake.configure(connection, count=count, kind=kind)
        assert refused(fake, connection) is Refusal.NO_ACCELERATOR
    fake.configure(connection, count=2)
    assert fake.clients[connection].last(Kind.VOUCH) is not None


def test_a_host_that_goes_takes_the_session_and_its_enclave_with_it() -> None:
    """When a connection ends its secrets are wiped and its worker is told to wipe at once."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    tenant, worker = fake.controller.tenants[connection], fake.serving(connection)
    fake.controller.disconnected(connection)
    assert fake.workers[worker].last(Kind.WIPE).deadline_ms == 0
    assert tenant.session is not None
    assert "wiped" in repr(tenant.session.sealer)
    assert connection not in fake.controller.tenants


@pytest.mark.parametrize("handshake", [False, True])
def test_a_slow_handshake_is_ended(handshake: bool) -> None:
    """A client that sends no HELLO within 5 s, or no PROOF within 5 s more, is disconnected."""
    fake = ready_world()
    connection = fake.connect(handshake=False)
    if handshake:
        client = fake.clients[connection]
        hello = client.handshake.hello()
        client.handshake.receive = lambda _frame: b""  # type: ignore[method-assign, assignment]
        fake.controller.received(connection, one_frame(hello))
    fake.pass_time(5.1)
    assert refused(fake, connection) is Refusal.HANDSHAKE_LATE


def test_a_silent_client_is_let_go() -> None:
    """After ``idle_s`` without a frame the session ends with IDLE, not before."""
    fake = ready_world()
    connection = fake.connect()
    fake.pass_time(59)
    assert not fake.clients[connection].closed
    fake.pass_time(1.1)
    assert refused(fake, connection) is Refusal.IDLE


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Kind.CONFIGURE, messages.Configure(accelerator="cpu")),
        (Kind.CLEANED, messages.Cleaned(record=b"")),
    ],
)
def test_what_a_state_does_not_list_ends_the_session(kind: Kind, message: messages.Message) -> None:
    """A second CONFIGURE, or a message of the controller sent to it, is UNEXPECTED."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    fake.say(connection, kind, message)
    assert refused(fake, connection) is Refusal.UNEXPECTED
    assert fake.clients[connection].closed


def test_who_is_not_admitted_gets_no_session() -> None:
    """With a list of keys, a client with another key is NOT_ADMITTED."""
    fake = FakeEnvironment(Settings(admitted={b"k" * 32: 0}))
    assert refused(fake, fake.connect()) is Refusal.NOT_ADMITTED


def test_draining_ends_what_waits_and_warns_who_is_served() -> None:
    """Drain refuses new sessions, ends idle ones, tells the others how long they have, and then ends them."""
    fake = ready_world(drain_s=10)
    idle, served = fake.connect(), fake.connect()
    fake.configure(served)
    fake.controller.drain()
    assert refused(fake, idle) is Refusal.DRAINING
    assert fake.clients[served].last(Kind.DRAIN).deadline_ms == 10_000
    assert refused(fake, fake.connect()) is Refusal.DRAINING
    assert not fake.controller.drained
    worker = fake.serving(served)
    fake.pass_time(10.1)
    assert refused(fake, served) is Refusal.DRAINING
    fake.end(worker)
    assert fake.controller.drained


def test_counts_name_no_session_and_no_key() -> None:
    """STATE has counts only: nothing in it is a session id or a key of somebody."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    asking = fake.connect(handshake=False)
    fake.controller.received(asking, one_frame(plain_frame(Kind.STATUS, encode(Empty()))))
    state = fake.clients[asking].last(Kind.STATE)
    assert (state.sessions, state.waiting, state.draining) == (1, 0, False)
    assert [worker.state for worker in state.workers if worker.accelerators] == ["serving"]
    session = fake.clients[connection].session
    assert session is not None
    assert session.session_id not in encode(state)


def test_a_worker_that_breaks_the_protocol_is_killed() -> None:
    """A worker that sends WIPED unasked, or returns accelerators that it does not own, is killed."""
    for kind, message in (
        (Kind.WIPED, messages.Wiped(wiped_bytes=0, answered=0, refused=0)),
        (Kind.RETURNED, messages.Accelerators(accelerators=("cpu:1",))),
        (Kind.RETURNED, messages.Accelerators(accelerators=("cpu:0",))),
    ):
        fake = ready_world()
        connection = fake.connect()
        fake.configure(connection)
        worker = fake.serving(connection)
        fake.link(worker, kind, message)
        assert fake.workers[worker].killed


def test_workers_that_do_not_start_are_tried_again_ever_more_slowly() -> None:
    """A worker that cannot be started is tried at once, then after 0.1, 0.2 s, ...: not in a busy loop."""
    fake = FakeEnvironment(fails=True)
    failures = 0
    for _ in range(200):
        fake.pass_time(0.05)
        failures = sum(event == "worker_not_started" for event, _ in fake.events)
    assert 8 <= failures <= 20
    fake.fails = False
    fake.pass_time(2.1)
    assert fake.workers
