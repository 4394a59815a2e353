"""Each role is killed while batches are in flight."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from hetee_kills import ROLES, run
from hetee_rack import Rack, adding_model, until
from sectum.hetee.errors import Refusal, ServiceRefused


def test_every_batch_is_answered_once_or_ends_in_a_clear_error(rack: Rack) -> None:
    """After SIGKILL to a role, batches get their own results or clear errors within 2 s, and the service recovers."""
    tally = run(rack, kills=len(ROLES), seed=7)
    assert dict(tally.kills) == dict.fromkeys(ROLES, 1)
    assert tally.errors, "no batch was on its way when the roles were killed"
    assert not tally.wrong


def test_a_killed_worker_leaves_a_record_and_a_spare_takes_its_place(rack: Rack) -> None:
    """The controller collects a killed worker and starts another; nothing of it is left as a process."""
    until(rack.ready, what="a clean worker")
    before = set(rack.worker_pids())
    tally = run(rack, kills=1, seed=3, roles=("worker",))
    assert not tally.wrong
    pid = until(lambda: rack.events("worker_collected"))[-1]["pid"]
    assert pid not in rack.worker_pids()
    until(lambda: rack.ready() and set(rack.worker_pids()) - before, what="a new clean worker")


def test_batches_after_a_new_enclave_came_say_that_the_model_was_lost(rack: Rack) -> None:
    """A client that sends a batch after its worker was replaced is told to load the model again, and can continue."""
    batch = np.zeros((1, 64), np.float32)
    with rack.connect() as session:
        session.load(adding_model())
        os.kill(rack.serving_pid(), signal.SIGKILL)
        until(lambda: session.index == 1, what="a new enclave")
        with pytest.raises(ServiceRefused) as caught:
            session.infer(batch)
        assert caught.value.code is Refusal.WORKER_LOST
        session.load(adding_model())
        (output,) = session.infer(batch).outputs.values()
        assert np.array_equal(output, batch + 1)
