"""The order of the batches of one training job."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from sectum.hetee.worker.lane import Lane


@given(st.permutations(range(8)))
def test_batches_go_on_in_the_order_in_which_they_were_opened(ready: list[int]) -> None:
    """Whichever is ready first, each goes on once, in its turn, and as soon as all before it have."""
    lane: Lane[int] = Lane()
    for number in range(8):
        lane.open(number)
    passed: list[int] = []
    for count, number in enumerate(ready, 1):
        lane.ready(number, passed.append)
        done = set(ready[:count])
        assert passed == list(range(next((n for n in range(8) if n not in done), 8)))


def test_a_batch_that_is_ready_while_another_is_passed_on_goes_after_it() -> None:
    """Who passes a batch on, and may compute it, passes on afterwards what became ready meanwhile, in order."""
    lane: Lane[str] = Lane()
    for name in "abc":
        lane.open(name)
    told: list[str] = []

    def pass_on(name: str) -> None:
        told.append(f"begin {name}")
        if name == "a":
            lane.ready("c", pass_on)
            lane.ready("b", pass_on)
        told.append(f"end {name}")

    lane.ready("a", pass_on)
    assert told == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]
