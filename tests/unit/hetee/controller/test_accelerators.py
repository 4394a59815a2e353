"""Sessions take turns with accelerators, for a quantum each."""

from __future__ import annotations

from hetee_fake_environment import FakeEnvironment
from sectum.hetee.controller.accelerators import reset
from sectum.hetee.controller.settings import Settings
from sectum.hetee.wire.kinds import Kind


def test_what_was_done_to_an_accelerator_is_said() -> None:
    """A record claims for an accelerator what the controller knows: for a GPU, that nothing was verified."""
    assert reset("cpu:0").endswith("the kernel has taken back")
    assert "the kernel had stopped" in reset("cpu:0", before=True)
    assert "not verified" in reset("cuda:1")


def two_on_one() -> tuple[FakeEnvironment, int, int]:
    """One accelerator, one session that owns it, one that waits for it."""
    fake = FakeEnvironment(Settings(accelerators={"cpu": 1}, idle_s=600))
    fake.started()
    first, second = fake.connect(), fake.connect()
    fake.configure(first)
    fake.configure(second, wait_ms=300_000)
    return fake, first, second


def test_nobody_is_asked_before_its_quantum_is_over() -> None:
    """REVOKE is sent once, after the owner had its accelerator for a quantum while another session waits."""
    fake, first, second = two_on_one()
    worker = fake.workers[fake.serving(first)]
    fake.pass_time(0.4)
    assert worker.last(Kind.REVOKE) is None
    fake.pass_time(0.2)
    fake.pass_time(0.2)
    assert [kind for kind, _ in worker.received].count(Kind.REVOKE) == 1
    assert fake.clients[second].last(Kind.VOUCH) is None
    fake.give_back(worker.number)
    assert fake.workers[fake.serving(second)].holds == {"cpu:0"}


def test_while_nobody_waits_everybody_keeps_what_it_has() -> None:
    """Without waiting sessions, nothing is revoked after a quantum."""
    fake = FakeEnvironment(Settings(accelerators={"cpu": 1}))
    fake.started()
    connection = fake.connect()
    fake.configure(connection)
    fake.pass_time(60 - 1)
    assert fake.workers[fake.serving(connection)].last(Kind.REVOKE) is None


def test_who_gave_back_with_batches_left_queues_again() -> None:
    """A worker with open batches gets an accelerator again when the others had theirs."""
    fake, first, second = two_on_one()
    old = fake.serving(first)
    fake.heartbeat(old, 3)
    fake.pass_time(0.6)
    fake.give_back(old)
    new = fake.serving(second)
    assert fake.workers[new].holds == {"cpu:0"}
    fake.pass_time(0.6)
    fake.give_back(new)
    assert fake.workers[old].holds == {"cpu:0"}
    assert fake.workers[new].holds == set()
    fake.pass_time(5)
    assert fake.workers[old].holds == {"cpu:0"}, "the other one has no batches, so nobody waits"
    fake.heartbeat(new, 1)
    fake.pass_time(0.1)
    assert [kind for kind, _ in fake.workers[old].received].count(Kind.REVOKE) == 2


def test_who_does_not_give_back_is_killed() -> None:
    """5 s and the longest batch after REVOKE the owner is killed, and the one who waits gets the accelerator."""
    fake, first, second = two_on_one()
    worker = fake.serving(first)
    fake.pass_time(0.6)
    fake.pass_time(5 + fake.settings.longest_batch_s - 0.1)
    assert not fake.workers[worker].killed
    fake.pass_time(0.2)
    assert fake.workers[worker].killed
    assert fake.clients[second].last(Kind.VOUCH) is None
    fake.end(worker)
    assert fake.workers[fake.serving(second)].holds == {"cpu:0"}
