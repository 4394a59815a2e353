"""RETURNED is the worker's own word: what it gave back is free when the kernel has stopped it, or has collected it."""

from __future__ import annotations

import pytest

from hetee_fake_environment import FakeEnvironment
from sectum.hetee.controller.allocation import Secure
from sectum.hetee.controller.settings import Settings
from sectum.hetee.wire.kinds import Kind


def two_on_one(kind: str = "cpu") -> tuple[FakeEnvironment, int, int]:
    """One accelerator, one session whose worker was asked to give it back, one session that waits for it."""
    fake = FakeEnvironment(Settings(accelerators={kind: 1}, idle_s=600))
    fake.started()
    first, second = fake.connect(), fake.connect()
    fake.configure(first, kind=kind)
    fake.configure(second, wait_ms=300_000, kind=kind)
    fake.started()
    fake.pass_time(0.6)
    return fake, fake.serving(first), second


def test_what_was_given_back_is_nobody_s_until_the_kernel_has_stopped_the_process() -> None:
    """The next session gets the accelerator after the stop, not after RETURNED; then the process goes on."""
    fake, liar, second = two_on_one()
    fake.give_back(liar, stops=False)
    pool = fake.controller.pool.allocator
    assert (pool.owned(Secure(liar)), pool.resetting(Secure(liar)), pool.free("cpu")) == ((), ("cpu:0",), [])
    assert fake.workers[liar].stopping
    assert fake.clients[second].last(Kind.VOUCH) is None
    fake.stops(liar)
    assert fake.workers[fake.serving(second)].holds == {"cpu:0"}
    assert not fake.workers[liar].stopped


def test_a_worker_that_cannot_be_stopped_is_killed() -> None:
    """If the kernel does not stop a process within seconds, it is killed, and its accelerator is free afterwards."""
    fake, liar, second = two_on_one()
    fake.give_back(liar, stops=False)
    fake.pass_time(4.9)
    assert not fake.workers[liar].killed
    fake.pass_time(0.2)
    assert fake.workers[liar].killed
    assert fake.clients[second].last(Kind.VOUCH) is None
    fake.end(liar)
    assert fake.workers[fake.serving(second)].holds == {"cpu:0"}


def test_a_gpu_is_given_on_only_after_its_process_was_collected() -> None:
    """Nothing shows that a living process left a GPU clean: RETURNED ends the process."""
    fake, worker, second = two_on_one("cuda")
    fake.give_back(worker)
    assert fake.workers[worker].killed
    assert fake.clients[second].last(Kind.VOUCH) is None
    fake.end(worker)
    fake.pass_time(0)
    fake.started()
    assert fake.workers[fake.serving(second)].holds == {"cuda:0"}


def compute_for(fake: FakeEnvironment, worker: int, seconds: float, processors: int) -> float:
    """The processor time that a worker gets that computes whenever it is not stopped."""
    process, begun_s = fake.workers[worker], fake.workers[worker].processor_s
    for _ in range(round(seconds / 0.05)):
        fake.stops(worker)
        if not process.stopped:
            process.processor_s += 0.05 * processors
        fake.pass_time(0.05)
    return process.processor_s - begun_s


@pytest.mark.parametrize(("processors", "at_most"), [(1, 0.21), (4, 0.21), (64, 64 / 20)])
def test_a_worker_without_accelerators_gets_a_fifth_of_a_processor(processors: int, at_most: float) -> None:
    """One that computes on what it gave back is stopped until it used no more than its share, or a 20th of all."""
    fake, liar, _ = two_on_one()
    fake.give_back(liar)
    used_s = compute_for(fake, liar, 60, processors)
    assert 0 < used_s / 60 <= at_most
    assert not fake.workers[liar].killed


def test_a_worker_that_keeps_to_its_share_is_never_stopped() -> None:
    """Receiving batches and answering PINGs takes little, and goes on."""
    fake, worker, _ = two_on_one()
    fake.give_back(worker)
    for _ in range(1000):
        fake.workers[worker].processor_s += 0.009
        fake.pass_time(0.05)
        assert not fake.workers[worker].stopping


def test_a_stopped_worker_goes_on_when_it_is_needed() -> None:
    """It goes on within a second for its PINGs, and at once with a GRANT, after which it uses what it needs."""
    fake, worker, second = two_on_one()
    other = fake.workers[fake.serving(second)] if fake.clients[second].last(Kind.VOUCH) else None
    assert other is None
    fake.give_back(worker)
    fake.workers[worker].processor_s += 5
    fake.pass_time(0.05)
    fake.stops(worker)
    assert fake.workers[worker].stopped
    fake.pass_time(0.9)
    assert fake.workers[worker].stopped
    fake.pass_time(0.2)
    assert not fake.workers[worker].stopped
    fake.pass_time(0.05)
    fake.stops(worker)
    fake.heartbeat(worker, 1)
    fake.pass_time(0.6)
    fake.give_back(fake.serving(second))
    assert fake.workers[worker].holds == {"cpu:0"}
    assert not fake.workers[worker].stopped
    fake.workers[worker].processor_s += 5
    fake.pass_time(0.05)
    assert not fake.workers[worker].stopping


def test_who_is_to_wipe_is_not_stopped() -> None:
    """A stopped worker goes on to wipe its memory when its session ends."""
    fake, worker, _ = two_on_one()
    fake.give_back(worker)
    fake.workers[worker].processor_s += 5
    fake.pass_time(0.05)
    fake.stops(worker)
    connection = next(
        n for n, tenant in fake.controller.tenants.items() if tenant.enclave and tenant.enclave.number == worker
    )
    fake.controller.disconnected(connection)
    fake.pass_time(0.05)
    assert not fake.workers[worker].stopped
    fake.workers[worker].processor_s += 0.5
    fake.pass_time(0.05)
    assert not fake.workers[worker].stopping
