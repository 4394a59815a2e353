"""Each role killed while batches are on their way."""

from __future__ import annotations

from hetee_kills import ROLES, run

from sectum.testing.hetee_rack import Rack, until


def test_every_batch_is_answered_once_or_ends_in_a_clear_error(rack: Rack) -> None:
    """SIGKILL to each role: own results, or errors within 2 s that say what was lost; then it works again."""
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
    pid = rack.events("worker_collected")[-1]["pid"]
    assert pid not in rack.worker_pids()
    until(lambda: rack.ready() and set(rack.worker_pids()) - before, what="a new clean worker")
