"""The page-replacement model on cases whose counts follow from its rule."""

from __future__ import annotations

import pytest

from sectum.errors import UsageError
from sectum.paging.replacement import ReplacementPolicy, Touch, simulate, steady_state, working_set_pages

SWEEP = [Touch(0, 0, 64), Touch(1, 64, 64)]
POLICIES = pytest.mark.parametrize("policy", list(ReplacementPolicy))


@POLICIES
def test_with_room_for_all_only_the_first_round_loads(policy: ReplacementPolicy) -> None:
    """With room for all, each page becomes resident once and stays."""
    cold, warm = simulate(SWEEP, 128, policy, rounds=2)
    assert (cold.loads, cold.evictions) == (128, 0)
    assert (warm.loads, warm.evictions, warm.minor_faults) == (0, 0, 0)


@POLICIES
def test_unlimited_epc_never_pages(policy: ReplacementPolicy) -> None:
    """None means that everything fits."""
    counts = steady_state(SWEEP, None, policy)
    assert counts.loads == counts.evictions == 0
    assert counts.resident_pages == 128
    assert not counts.over_committed


@POLICIES
def test_cyclic_sweep_just_over_the_epc_loads_everything(policy: ReplacementPolicy) -> None:
    """With one page too few, a sweep that loaded nothing loads every page."""
    counts = steady_state(SWEEP, 127, policy)
    assert counts.loads == 128
    assert counts.evictions == pytest.approx(128, abs=16)  # they come in batches
    assert counts.over_committed
    assert counts.loads_by_operator.tolist() == [64, 64]


def test_second_chance_of_a_sweep_by_hand() -> None:
    """40 pages through 32: two reclaims of 16 unmap all, the third evicts the 16 oldest."""
    (cold,) = simulate([Touch(0, 0, 40)], 32, rounds=1)
    assert (cold.loads, cold.evictions, cold.resident_pages) == (40, 16, 24)


def test_an_unmapped_page_that_is_touched_is_a_minor_fault() -> None:
    """A touch of a page that a reclaim unmapped and did not evict is a minor fault, not a load."""
    (cold,) = simulate([Touch(0, 0, 40), Touch(1, 16, 16)], 32, rounds=1)
    assert cold.minor_faults_by_operator.tolist() == [0, 16]
    assert cold.loads_by_operator.tolist() == [40, 0]


def test_second_chance_spares_the_page_in_use_where_fifo_evicts_it() -> None:
    """A page touched between the pages of a sweep stays in under second chance and LRU, not under FIFO."""
    touches = [touch for i in range(40) for touch in (Touch(0, 1000, 1), Touch(1, 16 * i, 16))]
    hot = {policy: steady_state(touches, 64, policy).loads_by_operator[0] for policy in ReplacementPolicy}
    assert hot[ReplacementPolicy.LRU] == 0
    assert hot[ReplacementPolicy.SECOND_CHANCE] < hot[ReplacementPolicy.FIFO]


def test_batch_of_one_evicts_no_more_than_needed() -> None:
    """Evictions come in batches: the EPC has free pages afterwards only if the batch is larger than the need."""
    assert simulate([Touch(0, 0, 33)], 32, ReplacementPolicy.FIFO, rounds=1, batch=1)[0].resident_pages == 32
    assert simulate([Touch(0, 0, 33)], 32, ReplacementPolicy.FIFO, rounds=1, batch=16)[0].resident_pages == 17


def test_alternating_counts_are_averaged_over_their_period() -> None:
    """Where the counts of rounds alternate, the steady state is their mean, and says over how many rounds."""
    touches = [Touch(0, 0, 11), Touch(1, 3, 20)]
    counts = steady_state(touches, 20, ReplacementPolicy.FIFO, batch=3)
    rounds = simulate(touches, 20, ReplacementPolicy.FIFO, rounds=counts.rounds + 3 * counts.period, batch=3)
    repeated = [r.loads for r in rounds[-3 * counts.period :]]
    assert counts.settled
    assert sum(repeated) / len(repeated) == pytest.approx(counts.loads)


def test_counts_that_do_not_settle_say_so() -> None:
    """If there are too few rounds to see a repetition, the result says so."""
    touches = [Touch(0, 0, 500), Touch(1, 100, 300)]
    assert not steady_state(touches, 333, max_rounds=2).settled
    assert steady_state(touches, 333).settled


def test_nothing_touched_costs_nothing() -> None:
    """No touches, and touches of no pages, cause no loads."""
    assert steady_state([], 10).loads == 0
    assert steady_state([Touch(2, 5, 0)], 10).loads_by_operator.tolist() == [0, 0, 0]
    assert working_set_pages([]) == 0


def test_labels_without_touches_have_an_entry_when_asked() -> None:
    """Arrays are as long as the caller asks for."""
    assert steady_state(SWEEP, 100, operators=5).loads_by_operator.shape == (5,)


@pytest.mark.parametrize(
    ("touches", "options", "words"),
    [
        ([Touch(0, -1, 3)], {}, "negative"),
        ([Touch(-1, 1, 3)], {}, "negative"),
        ([Touch(0, 1, -3)], {}, "negative"),
        (SWEEP, {"epc_pages": 0}, "1 page or more"),
        (SWEEP, {"batch": 0}, "1 page or more"),
        (SWEEP, {"operators": 1}, "operator 1 is touched"),
        (SWEEP, {"max_rounds": 1}, "2 or more rounds"),
    ],
)
def test_arguments_out_of_range_are_refused(touches: list[Touch], options: dict[str, int], words: str) -> None:
    """An argument out of its range is a usage error that says what is allowed."""
    with pytest.raises(UsageError, match=words):
        steady_state(touches, **{"epc_pages": 10} | options)


def test_no_rounds_are_refused() -> None:
    """Simulating no rounds is a usage error."""
    with pytest.raises(UsageError, match="1 or more"):
        simulate(SWEEP, 10, rounds=0)
