"""One identity cannot take what others need: sessions, the controller's time, workers, memory, accelerators."""

from __future__ import annotations

import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_fake_environment import ENDORSEMENT, FakeEnvironment, refused
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import Refusal
from sectum.hetee.installation.manufacture import ENDORSEMENT_LIFE_S
from sectum.hetee.verification.evidence import verify
from sectum.hetee.verification.software import SoftwareVerifier
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Challenge, Deadline, Ping

DAY_S = 24 * 3600


def ready_world(**settings: object) -> FakeEnvironment:
    """A fake environment whose spare workers are ready."""
    fake = FakeEnvironment(Settings(**({"accelerators": {"cpu": 2}, "idle_s": 600.0} | settings)))  # type: ignore[arg-type]
    fake.started()
    return fake


def crash(fake: FakeEnvironment, connection: int, how: str = "killed by SIGFPE") -> None:
    """The worker of a session dies, the client answers the fence, and new spares are ready."""
    fake.end(fake.serving(connection), how)
    fake.pong(connection)
    fake.started()
    fake.pass_time(0.05)
    fake.started()
    fake.pass_time(0.05)


def test_an_identity_has_a_limited_number_of_sessions() -> None:
    """Its next session is refused as BUSY, those of others are not, and a place that becomes free can be taken."""
    fake, key = ready_world(sessions_of_one=3), Ed25519PrivateKey.generate()
    mine = [fake.connect(identity=key) for _ in range(4)]
    assert [refused(fake, one) for one in mine] == [None, None, None, Refusal.BUSY]
    assert refused(fake, fake.connect()) is None
    fake.controller.disconnected(mine[0])
    assert refused(fake, fake.connect(identity=key)) is None


def test_a_session_that_asks_for_nothing_gives_its_place_up() -> None:
    """When all places are taken, the oldest session without an enclave ends, and one that has an enclave does not."""
    fake = ready_world(sessions=3)
    served = fake.connect()
    fake.configure(served)
    idle = [fake.connect() for _ in range(2)]
    assert refused(fake, fake.connect()) is Refusal.BUSY  # nobody has been idle for long
    assert fake.state().problems == ("3 sessions are open, the limit",)
    fake.pass_time(6)
    assert fake.state().problems == ()  # the next one will be served
    late = fake.connect()
    assert (refused(fake, late), refused(fake, idle[0])) == (None, Refusal.BUSY)
    assert [fake.clients[one].closed for one in (served, *idle, late)] == [False, True, False, False]


def test_what_a_fault_leaves_undone_is_done_later() -> None:
    """If one decision of the allocator cannot be carried out, those behind it are, in the next turn."""
    fake = ready_world()
    holders = [fake.connect() for _ in range(2)]
    for holder in holders:
        fake.configure(holder)
    workers = [fake.workers[fake.serving(holder)] for holder in holders]
    fake.pass_time(0.05)
    fake.started()  # the worker of the next session
    fake.configure(fake.connect(), count=2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fake, "send_to_worker", Mock(side_effect=MemoryError))
        with pytest.raises(MemoryError):
            fake.pass_time(1.0)
    assert [worker.last(Kind.REVOKE) for worker in workers] == [None, None]
    fake.pass_time(0.05)
    assert [worker.last(Kind.REVOKE) is not None for worker in workers] == [False, True]


def test_an_identity_that_floods_the_controller_is_cut_off() -> None:
    """Too many messages from all of its sessions together end the session that sends one more; slow ones do not."""
    fake, key = ready_world(messages_per_s=10.0), Ed25519PrivateKey.generate()
    sessions = [fake.connect(identity=key) for _ in range(2)]
    other = fake.connect()
    for number in range(21):
        fake.say(sessions[number % 2], Kind.PING, Ping(number=number))
    assert refused(fake, sessions[0]) is Refusal.UNEXPECTED
    assert refused(fake, sessions[1]) is None
    for number in range(50):
        fake.pass_time(0.11)
        fake.say(sessions[1], Kind.PING, Ping(number=number))
    fake.say(other, Kind.PING, Ping(number=1))
    assert refused(fake, sessions[1]) is refused(fake, other) is None


def test_who_floods_comes_back_to_the_same_allowance() -> None:
    """An identity that ends its sessions and opens others has no more messages for that."""
    fake, key = ready_world(messages_per_s=10.0), Ed25519PrivateKey.generate()
    first = fake.connect(identity=key)
    for number in range(20):
        fake.say(first, Kind.PING, Ping(number=number))
    fake.controller.disconnected(first)
    assert refused(fake, fake.connect()) is None
    assert refused(fake, fake.connect(identity=key)) is Refusal.BUSY
    fake.pass_time(1.0)
    assert refused(fake, fake.connect(identity=key)) is None


def test_a_session_of_any_identity_that_floods_is_cut_off() -> None:
    """A session may send 40 messages at once and 10 a second, whatever its identity may."""
    fake = ready_world()
    flooding, other = fake.connect(), fake.connect()
    for number in range(41):
        fake.say(flooding, Kind.PING, Ping(number=number))
    assert refused(fake, flooding) is Refusal.UNEXPECTED
    assert len([kind for kind in fake.clients[flooding].kinds() if kind is Kind.PONG]) == 40
    for number in range(100):
        fake.pass_time(0.11)
        fake.say(other, Kind.PING, Ping(number=number))
    assert refused(fake, other) is None


def test_a_worker_that_floods_its_controller_is_killed() -> None:
    """A worker that sends HEARTBEAT without end costs itself, not the others."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    worker = fake.serving(connection)
    for _ in range(201):
        fake.heartbeat(worker, 1)
    assert fake.workers[worker].killed
    assert [number for number, process in fake.workers.items() if process.killed] == [worker]


def test_a_worker_that_crashes_after_its_session_ended_counts() -> None:
    """A tenant whose worker crashes only when its session is gone is paused after the next crash like any other."""
    fake, key = ready_world(), Ed25519PrivateKey.generate()
    leaving = fake.connect(identity=key)
    fake.configure(leaving)
    worker = fake.serving(leaving)
    fake.controller.disconnected(leaving)
    fake.pass_time(0.1)  # meanwhile it has all of its allowance again
    staying = fake.connect(identity=key)
    fake.end(worker, "killed by SIGFPE")
    fake.started()
    fake.configure(staying)
    crash(fake, staying)
    assert len(fake.clients[staying].routes) == 1
    fake.pass_time(2.0)
    fake.started()
    fake.pass_time(0.05)
    assert len(fake.clients[staying].routes) == 2


def test_crashes_cost_ever_longer_pauses() -> None:
    """After a second crash the next worker comes 2 s later, then 8 s, also in a new session; others do not wait."""
    fake, key = ready_world(), Ed25519PrivateKey.generate()
    connection = fake.connect(identity=key)
    fake.configure(connection, wait_ms=1000)
    crash(fake, connection)
    assert len(fake.clients[connection].routes) == 2
    crash(fake, connection)
    assert len(fake.clients[connection].routes) == 2
    before = len(fake.workers)
    fake.pass_time(1.0)
    assert refused(fake, connection) is Refusal.BUSY
    assert "crashed" in fake.clients[connection].last(Kind.FAIL).detail
    fake.controller.disconnected(connection)
    again, other = fake.connect(identity=key), fake.connect()
    fake.configure(again)
    fake.configure(other)
    assert (fake.clients[again].routes, len(fake.clients[other].routes)) == ([], 1)
    fake.started()
    fake.pass_time(1.0)
    assert len(fake.clients[again].routes) == 1
    assert len(fake.workers) <= before + 2  # none was started for who pauses
    crash(fake, again)
    fake.pass_time(7.5)
    assert len(fake.clients[again].routes) == 1
    fake.pass_time(0.5)
    assert len(fake.clients[again].routes) == 2


def test_a_worker_killed_from_outside_is_no_crash() -> None:
    """A worker that the machine kills is replaced at once, however often."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    for number in range(4):
        crash(fake, connection, "killed by SIGKILL")
        assert len(fake.clients[connection].routes) == number + 2


def test_crashes_are_forgotten() -> None:
    """After five minutes without one, a crash costs nothing again."""
    fake = ready_world()
    connection = fake.connect()
    fake.configure(connection)
    for number in range(3):
        crash(fake, connection)
        assert len(fake.clients[connection].routes) == number + 2
        fake.pass_time(301)


def test_who_holds_most_memory_ends_first() -> None:
    """Over the limit, the largest worker of the identity with most memory is killed, and its client learns why."""
    fake, key = ready_world(memory_bytes=1000 << 20, accelerators={"cpu": 3}, spares=3), Ed25519PrivateKey.generate()
    greedy = [fake.connect(identity=key) for _ in range(2)]
    modest = fake.connect()
    for one in (*greedy, modest):
        fake.configure(one)
    workers = [fake.serving(one) for one in (*greedy, modest)]
    fake.memory = dict(zip(workers, (300 << 20, 350 << 20, 360 << 20), strict=True))
    fake.pass_time(0.2)
    assert [fake.workers[one].killed for one in workers] == [False, True, False]
    fake.pass_time(0.2)  # it is not collected yet, and no other one ends for it
    assert [fake.workers[one].killed for one in workers] == [False, True, False]
    fake.end(workers[1])
    assert "held most" in fake.clients[greedy[1]].last(Kind.LOST).detail


def test_a_spare_worker_does_not_end_for_memory() -> None:
    """A limit below what spare workers hold kills none of them again and again."""
    fake = ready_world(memory_bytes=1 << 20)
    fake.memory = dict.fromkeys(fake.workers, 50 << 20)
    fake.pass_time(0.2)
    assert not any(worker.killed for worker in fake.workers.values())


def test_an_owner_that_is_ending_takes_turns() -> None:
    """A session that ends gives its accelerator to one that waits, gets it back for the rest, and is not killed."""
    fake = ready_world(accelerators={"cpu": 1})
    first, second = fake.connect(), fake.connect()
    fake.configure(first)
    ending = fake.serving(first)
    fake.heartbeat(ending, 2)
    fake.say(first, Kind.TERMINATE, Deadline(deadline_ms=60_000))
    fake.configure(second, wait_ms=60_000)
    assert fake.workers[ending].last(Kind.REVOKE) is None  # its quantum has just begun
    fake.pass_time(0.6)
    assert fake.workers[ending].last(Kind.REVOKE).accelerators == ("cpu:0",)
    fake.give_back(ending)
    assert len(fake.clients[second].routes) == 1
    fake.heartbeat(ending, 1)
    fake.pass_time(0.6)
    fake.give_back(fake.serving(second))
    assert fake.workers[ending].holds == {"cpu:0"}
    fake.wiped(ending)
    fake.end(ending)
    assert fake.record(first).ended == "asked"


def test_an_owner_that_is_ending_cannot_keep_what_others_need() -> None:
    """A session that has ten minutes to end and does not give its accelerator back is killed after five seconds."""
    fake = ready_world(accelerators={"cpu": 1})
    first, second = fake.connect(), fake.connect()
    fake.configure(first)
    ending = fake.serving(first)
    fake.heartbeat(ending, 1)
    fake.say(first, Kind.TERMINATE, Deadline(deadline_ms=600_000))
    fake.configure(second, wait_ms=60_000)
    fake.pass_time(0.6)
    fake.pass_time(4.0)
    assert not fake.workers[ending].killed
    fake.pass_time(1.1)
    assert fake.workers[ending].killed


def test_an_end_that_was_asked_for_does_not_keep_a_worker_s_place() -> None:
    """When all workers are taken, one that is ending makes room for a session that waits."""
    fake = ready_world(enclaves=2, spares=0)
    fake.started()
    first, second, third = (fake.connect() for _ in range(3))
    for one in (first, second):
        fake.configure(one, wait_ms=60_000)
        fake.started()
    ending = fake.serving(first)
    fake.heartbeat(ending, 1)
    fake.say(first, Kind.TERMINATE, Deadline(deadline_ms=600_000))
    fake.configure(third, wait_ms=60_000)
    fake.pass_time(5.0)
    assert not fake.workers[ending].killed
    fake.pass_time(0.6)
    assert fake.workers[ending].killed


def test_a_fault_ends_one_session() -> None:
    """An error that nobody foresaw, in a frame, in a turn or in a time limit, ends that session and no other."""
    for what in ("frame", "turn", "tick"):
        fake = ready_world()
        broken, whole = fake.connect(), fake.connect()
        tenant = fake.controller.tenants[broken]
        assert tenant.session is not None
        if what == "turn":
            tenant.session.worker_nonce = None  # type: ignore[assignment]
            fake.configure(broken)
        elif what == "tick":
            tenant.last_heard_s = None  # type: ignore[assignment]
            fake.pass_time(0.1)
        else:
            tenant.session.opener = SimpleNamespace(wipe=lambda: None)  # type: ignore[assignment]
            fake.say(broken, Kind.PING, Ping(number=1))
        assert refused(fake, broken) is Refusal.INTERNAL
        assert fake.clients[broken].closed
        fake.started()
        fake.pass_time(0.1)
        fake.configure(whole)
        assert len(fake.clients[whole].routes) == 1


def test_a_session_whose_keys_are_gone_ends_without_a_reason() -> None:
    """If not even the reason can be sealed, the session still ends, and the others go on."""
    fake = ready_world()
    broken, whole = fake.connect(), fake.connect()
    tenant = fake.controller.tenants[broken]
    assert tenant.session is not None
    tenant.session.sealer.wipe()
    fake.pass_time(700)
    assert fake.clients[broken].closed
    assert refused(fake, whole) is Refusal.IDLE


def test_an_endorsement_that_expires_is_announced_and_then_refused() -> None:
    """A month before, operators are warned; afterwards new sessions are refused as STALE, and health says why."""
    fake = ready_world()
    assert fake.state().warnings == fake.state().problems == ()
    fake.later_s = ENDORSEMENT_LIFE_S - 20 * DAY_S
    assert "expires in 20.0 days" in fake.state().warnings[0]
    connection = fake.connect()
    fake.later_s = ENDORSEMENT_LIFE_S + 60
    assert "expired" in fake.state().problems[0]
    late = fake.connect()
    assert refused(fake, late) is Refusal.STALE
    assert "expired" in fake.clients[late].last(Kind.ERROR).detail
    fake.say(connection, Kind.CHALLENGE, Challenge(nonce=bytes(32)))
    assert refused(fake, connection) is Refusal.STALE


def test_a_controller_attests_itself_again() -> None:
    """EVIDENCE answers the client's challenge for this session, also long after the certificates of the start."""
    fake = ready_world()
    connection = fake.connect()
    client = fake.clients[connection]
    assert client.session is not None
    for days in (0, 2, 90):
        fake.later_s = days * DAY_S
        fake.say(connection, Kind.CHALLENGE, Challenge(nonce=b"c" * 32))
        evidence = client.last(Kind.EVIDENCE).evidence
        nonce = client.session.renewal_nonce(b"c" * 32)
        claims = verify(evidence, nonce, [SoftwareVerifier([ENDORSEMENT.root])], time.time() + fake.later_s)
        assert claims.signer == fake.provider.public_key


def test_health_names_what_is_wrong() -> None:
    """A full service, one whose workers do not start, and one that is stopped say so."""
    fake = ready_world(sessions=1)
    fake.connect()
    assert "1 sessions are open" in fake.state().problems[0]
    fake.controller.drain()
    assert "being stopped" in fake.state().problems[0]
    broken = FakeEnvironment(fails=True)
    for _ in range(40):
        broken.pass_time(0.05)
    assert "do not start" in broken.state().problems[0]


def test_a_stranger_gives_way() -> None:
    """The oldest connection without a session is ended on request, and one with a session never."""
    fake = ready_world()
    session = fake.connect()
    strangers = [fake.connect(handshake=False) for _ in range(2)]
    assert fake.controller.end_oldest_stranger()
    assert fake.controller.end_oldest_stranger()
    assert not fake.controller.end_oldest_stranger()
    assert [fake.clients[one].closed for one in (session, *strangers)] == [False, True, True]
    assert isinstance(fake.clients[strangers[0]].last(Kind.ERROR), messages.Failure)
