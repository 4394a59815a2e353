"""Accelerators with device nodes: a worker is started for those that it gets, and sees no others."""

from __future__ import annotations

from hetee_fake_environment import FakeEnvironment
from sectum.hetee.controller.settings import Settings
from sectum.hetee.wire.kinds import Kind


def rack() -> FakeEnvironment:
    """Two GPUs and a CPU, with one spare worker."""
    fake = FakeEnvironment(Settings(accelerators={"cuda": 2, "cpu": 1}, spares=1))
    fake.started()
    return fake


def ask(fake: FakeEnvironment, count: int = 1) -> int:
    """A client that asks for GPUs."""
    connection = fake.connect()
    fake.configure(connection, count, kind="cuda")
    return connection


def test_spares_have_no_device() -> None:
    """A worker that is kept ready has no device, and is not given to a session that asks for one."""
    fake = rack()
    (spare,) = fake.workers.values()
    assert spare.devices == ()
    ask(fake)
    assert fake.controller.pool.allocator.idle() == 1
    assert [worker.devices for worker in fake.workers.values()] == [(), ("cuda:0",)]


def test_a_worker_has_the_devices_that_it_owns() -> None:
    """Each session's worker was started with exactly the devices that GRANT names; none is with two workers."""
    fake = rack()
    first, second = ask(fake), ask(fake)
    fake.started()
    for connection, name in ((first, "cuda:0"), (second, "cuda:1")):
        worker = fake.workers[fake.serving(connection)]
        assert (worker.devices, worker.holds) == ((name,), {name})
        assert fake.clients[connection].last(Kind.VOUCH).accelerators == (name,)
    third = ask(fake, 2)
    for connection in (first, second):
        worker_number = fake.serving(connection)
        fake.controller.disconnected(connection)
        fake.wiped(worker_number)
        assert fake.clients[third].last(Kind.VOUCH) is None
        fake.end(worker_number)
    fake.started()
    assert fake.workers[fake.serving(third)].devices == ("cuda:0", "cuda:1")


def test_a_worker_for_whom_nobody_waits_any_more_ends() -> None:
    """Devices do not stay with a worker whose session left before it had started."""
    fake = rack()
    connection = ask(fake)
    (worker,) = [number for number, worker in fake.workers.items() if worker.devices]
    fake.controller.disconnected(connection)
    fake.started()
    assert fake.workers[worker].killed
    fake.end(worker)
    assert fake.controller.pool.failures == 0
    assert fake.controller.pool.allocator.free("cuda") == ["cuda:0", "cuda:1"]


def test_a_worker_with_devices_that_does_not_start_gives_them_back() -> None:
    """The devices are free again when its process has been collected, and the next worker gets them."""
    fake = rack()
    connection = ask(fake)
    (worker,) = [number for number, worker in fake.workers.items() if worker.devices]
    fake.end(worker, "exit code 46")
    fake.pass_time(0.2)
    fake.started()
    assert fake.serving(connection) != worker
    assert fake.workers[fake.serving(connection)].holds == {"cuda:0"}
