"""Jobs of the insecure world, as the controller sees them: connections that have accelerators until they are told."""

from __future__ import annotations

from typing import Any

import pytest

from hetee_fake_environment import FakeEnvironment, refused
from hetee_session_pair import one_frame
from sectum.hetee.controller.allocation import Insecure, Resetting, Secure
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import Refusal
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Empty, Job, Message, encode
from sectum.hetee.wire.state import State


def world(**settings: Any) -> FakeEnvironment:
    """A fake environment with ready workers and, by default, two CPU accelerators."""
    fake = FakeEnvironment(Settings(**{"accelerators": {"cpu": 2}, "job_grace_s": 3.0, **settings}))
    fake.started()
    return fake


def tell(fake: FakeEnvironment, connection: int, kind: Kind, message: Message) -> None:
    """The program that runs a job says something."""
    fake.controller.received(connection, one_frame(plain_frame(kind, encode(message))))


def job(fake: FakeEnvironment, connection: int = 0, **wish: Any) -> int:
    """A job asks for accelerators, on a new connection or on one that it has."""
    connection = connection or fake.connect(handshake=False)
    tell(fake, connection, Kind.JOB_REQUEST, Job(**{"accelerator": "cpu", **wish}))
    return connection


def has(fake: FakeEnvironment, connection: int) -> tuple[str, ...]:
    """What a job was granted last."""
    grant = fake.clients[connection].last(Kind.JOB_GRANT)
    return () if grant is None else grant.accelerators


def state(fake: FakeEnvironment) -> State:
    """What operators are told."""
    return fake.state()


def test_a_session_preempts_a_job_and_the_job_comes_back() -> None:
    """The job is told its grace time; the session is served when it has given back, and the job when that ends."""
    fake = world()
    first = job(fake, count=2)
    assert has(fake, first) == ("cpu:0", "cpu:1")
    owner = fake.connect()
    fake.configure(owner, count=2)
    assert fake.clients[first].last(Kind.JOB_REVOKE).deadline_ms == 3000
    assert fake.clients[owner].last(Kind.VOUCH) is None
    tell(fake, first, Kind.JOB_RETURNED, Empty())
    assert fake.clients[owner].last(Kind.VOUCH).accelerators == ("cpu:0", "cpu:1")
    job(fake, first, count=2)
    assert len([kind for kind in fake.clients[first].kinds() if kind is Kind.JOB_GRANT]) == 1
    worker = fake.serving(owner)
    fake.controller.disconnected(owner)
    fake.end(worker)
    assert len([kind for kind in fake.clients[first].kinds() if kind is Kind.JOB_GRANT]) == 2
    assert state(fake).preemptions == 1


def test_a_job_that_does_not_give_back_keeps_a_session_waiting_for_a_limited_time() -> None:
    """After the grace time and 2 s the job's connection ends, and the session has its accelerators."""
    fake = world()
    deaf, owner = job(fake, count=2), fake.connect()
    fake.configure(owner, count=2, wait_ms=60_000)
    fake.pass_time(4.9)
    assert fake.clients[owner].last(Kind.VOUCH) is None
    fake.pass_time(0.2)
    assert refused(fake, deaf) is Refusal.BUSY
    assert fake.clients[deaf].closed
    fake.pass_time(0.05)
    assert fake.clients[owner].last(Kind.VOUCH) is not None


@pytest.mark.parametrize("how", ["late", "gone"])
def test_a_gpu_of_a_job_that_did_not_give_it_back_goes_to_nobody(how: str) -> None:
    """Nothing shows that a GPU is unused: it is withheld, operators are told, and others are still served."""
    fake = world(accelerators={"cuda": 2})
    deaf = job(fake, accelerator="cuda")
    if how == "late":
        owner = fake.connect()
        fake.configure(owner, count=2, kind="cuda")
        fake.pass_time(100.0)
        assert not fake.clients[deaf].closed
        assert fake.clients[owner].last(Kind.VOUCH) is None
    fake.controller.disconnected(deaf)
    fake.pass_time(100.0)
    allocator = fake.controller.pool.allocator
    assert allocator.owner("cuda:0") == Resetting(Insecure(deaf))
    assert [status.world for status in state(fake).accelerators] == ["withheld", "free"]
    assert "1 accelerators are withheld" in state(fake).warnings[0]
    for _ in range(2):  # the other GPU is still shared: turns count what is withheld as gone
        fake.configure(fake.connect(), kind="cuda", wait_ms=600_000)
        fake.pass_time(0.0)
    (worker,) = [number for number, process in fake.workers.items() if process.devices]
    assert allocator.owner("cuda:1") == Secure(worker)
    fake.started()
    fake.pass_time(1.0)
    assert fake.workers[worker].last(Kind.REVOKE) is not None


def test_a_late_job_may_still_give_a_gpu_back() -> None:
    """A GPU that comes back after the grace time goes to the session that waits."""
    fake = world(accelerators={"cuda": 1})
    late, owner = job(fake, accelerator="cuda"), fake.connect()
    fake.configure(owner, kind="cuda", wait_ms=600_000)
    fake.pass_time(30.0)
    tell(fake, late, Kind.JOB_RETURNED, Empty())
    assert any(process.devices == ("cuda:0",) for process in fake.workers.values())


def test_a_job_of_equal_priority_is_not_preempted_at_once() -> None:
    """A session takes nothing from a job of its own priority before the job's term is over."""
    fake = world()
    first, owner = job(fake, count=2, priority=0), fake.connect()
    fake.configure(owner, wait_ms=600_000)
    fake.pass_time(50.0)
    assert fake.clients[first].last(Kind.JOB_REVOKE) is None


def test_a_job_that_ends_gives_back_what_it_has() -> None:
    """The end of the connection frees what is only a right to compute, also while the job still waits."""
    fake = world()
    first, second = job(fake, count=2), job(fake)
    fake.controller.disconnected(second)
    fake.controller.disconnected(first)
    assert fake.controller.pool.allocator.free("cpu") == ["cpu:0", "cpu:1"]


def test_a_job_that_waits_may_give_up() -> None:
    """JOB_RETURNED withdraws a request, so that a program that leaves owes nothing, even for a GPU."""
    fake = world(accelerators={"cuda": 1})
    first, second = job(fake, accelerator="cuda"), job(fake, accelerator="cuda")
    tell(fake, second, Kind.JOB_RETURNED, Empty())
    tell(fake, first, Kind.JOB_RETURNED, Empty())
    for connection in (first, second):
        fake.controller.disconnected(connection)
    assert fake.controller.pool.allocator.free("cuda") == ["cuda:0"]
    assert has(fake, second) == ()


def test_what_a_job_may_not_say_ends_it() -> None:
    """Returning nothing, asking twice, or asking for more than there is ends the connection, and nothing else."""
    fake = world()
    owner = fake.connect()
    nothing = job(fake, count=2)
    tell(fake, nothing, Kind.JOB_RETURNED, Empty())
    tell(fake, nothing, Kind.JOB_RETURNED, Empty())
    assert refused(fake, nothing) is Refusal.UNEXPECTED
    twice = job(fake)
    job(fake, twice)
    assert refused(fake, twice) is Refusal.UNEXPECTED
    assert refused(fake, job(fake, count=3)) is Refusal.NO_ACCELERATOR
    assert refused(fake, job(fake, accelerator="cuda")) is Refusal.NO_ACCELERATOR
    session = fake.connect()
    tell(fake, session, Kind.JOB_REQUEST, Job(accelerator="cpu"))
    assert refused(fake, session) is Refusal.UNEXPECTED
    fake.configure(owner, count=2)
    assert fake.clients[owner].last(Kind.VOUCH) is not None


def test_jobs_have_a_limit_and_do_not_give_way() -> None:
    """At most 32 jobs wait or run, and a job is not ended to make place for a connection, however long it is silent."""
    fake = world()
    jobs = [job(fake) for _ in range(32)]
    assert refused(fake, job(fake)) is Refusal.BUSY
    fake.pass_time(100.0)
    stranger = fake.connect(handshake=False)
    assert fake.controller.end_oldest_stranger()
    assert fake.clients[stranger].closed
    assert not fake.controller.end_oldest_stranger()
    assert not any(fake.clients[connection].closed for connection in jobs)


def test_a_service_that_stops_takes_back_what_jobs_have() -> None:
    """Jobs that wait are refused; those that run have their grace time, and the service waits for them."""
    fake = world()
    running, waiting = job(fake, count=2), job(fake)
    fake.controller.drain()
    fake.pass_time(0.0)
    assert refused(fake, waiting) is Refusal.DRAINING
    assert fake.clients[running].last(Kind.JOB_REVOKE).deadline_ms == 3000
    assert not fake.controller.drained
    tell(fake, running, Kind.JOB_RETURNED, Empty())
    assert fake.controller.drained
    job(fake, running)
    assert refused(fake, running) is Refusal.DRAINING


def test_operators_see_worlds_and_jobs() -> None:
    """STATE names the owner of each accelerator, and what each job waits for or has."""
    fake = world(accelerators={"cpu": 3})
    first, second, owner = job(fake), job(fake, count=3), fake.connect()
    fake.configure(owner)
    told = state(fake)
    assert [(one.name, one.world, one.owner) for one in told.accelerators] == [
        ("cpu:0", "insecure", first),
        ("cpu:1", "secure", fake.serving(owner)),
        ("cpu:2", "free", 0),
    ]
    assert [(one.index, one.state, one.count) for one in told.jobs] == [(first, "running", 1), (second, "waiting", 3)]
    fake.configure(fake.connect(), count=2)
    assert state(fake).jobs[0].state == "ending"
