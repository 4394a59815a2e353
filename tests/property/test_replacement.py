"""The page-replacement model against a simulation that moves one page at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sectum.lab.sgx.networks import trace
from sectum.paging.compiled_replacement import compiled_replacement
from sectum.paging.replacement import (
    ReplacementPolicy,
    RoundCounts,
    Touch,
    simulate,
    steady_state,
    working_set_pages,
)

OPERATORS = 4


@dataclass
class OnePageAtATime:
    """The pager's rule as it is documented, written without regard to speed."""

    epc_pages: int
    policy: ReplacementPolicy
    batch: int
    resident: list[int] = field(default_factory=list)  # oldest first
    mapped: dict[int, bool] = field(default_factory=dict)

    def run_round(self, touches: list[Touch]) -> RoundCounts:
        """Touch every page in turn."""
        loads, evictions, minor_faults = (np.zeros(OPERATORS, dtype=np.int64) for _ in range(3))
        for touch in touches:
            for page in range(touch.first_page, touch.first_page + touch.n_pages):
                if page in self.mapped:
                    if self.policy is ReplacementPolicy.SECOND_CHANCE and not self.mapped[page]:
                        self.mapped[page] = True
                        minor_faults[touch.operator] += 1
                    if self.policy is ReplacementPolicy.LRU:
                        self.resident.remove(page)
                        self.resident.append(page)
                    continue
                while len(self.resident) == self.epc_pages:
                    evictions[touch.operator] += self.reclaim()
                loads[touch.operator] += 1
                self.resident.append(page)
                self.mapped[page] = True
        return RoundCounts(
            loads=int(loads.sum()),
            evictions=int(evictions.sum()),
            minor_faults=int(minor_faults.sum()),
            loads_by_operator=loads,
            evictions_by_operator=evictions,
            minor_faults_by_operator=minor_faults,
            resident_pages=len(self.resident),
        )

    def reclaim(self) -> int:
        """Look at one batch of pages; count those that are evicted."""
        head, self.resident = self.resident[: self.batch], self.resident[self.batch :]
        evicted = 0
        for page in head:
            if self.policy is ReplacementPolicy.SECOND_CHANCE and self.mapped[page]:
                self.mapped[page] = False
                self.resident.append(page)
            else:
                del self.mapped[page]
                evicted += 1
        return evicted


def touch_lists(span: int, longest: int) -> st.SearchStrategy[list[Touch]]:
    one = st.builds(Touch, st.integers(0, OPERATORS - 1), st.integers(0, span), st.integers(0, longest))
    return st.lists(one, max_size=10)


TOUCHES = touch_lists(24, 12) | touch_lists(200, 90) | touch_lists(900, 600)
POLICIES = st.sampled_from(ReplacementPolicy)
BATCHES = st.sampled_from((16, 1, 2, 3, 5, 20))
EPC_PAGES = st.integers(1, 40) | st.integers(1, 700)


def as_text(counts: RoundCounts) -> str:
    return repr(counts)


@given(TOUCHES, EPC_PAGES, POLICIES, BATCHES)
@example([Touch(0, 0, 100)], 40, ReplacementPolicy.SECOND_CHANCE, 16)
@example([Touch(0, 0, 60), Touch(1, 30, 60), Touch(2, 80, 5)], 50, ReplacementPolicy.SECOND_CHANCE, 16)
@example([Touch(0, 1, 33)], 32, ReplacementPolicy.FIFO, 16)
@example([Touch(0, 0, 9)], 3, ReplacementPolicy.LRU, 16)
def test_runs_of_pages_give_exactly_the_counts_of_single_pages(
    touches: list[Touch], epc_pages: int, policy: ReplacementPolicy, batch: int
) -> None:
    """Every count of every round, by operator, equals that of the rule applied page by page."""
    pager = OnePageAtATime(epc_pages, policy, batch)
    expected = [pager.run_round(touches) for _ in range(4)]
    found = simulate(touches, epc_pages, policy, rounds=4, batch=batch, operators=OPERATORS)
    assert [as_text(counts) for counts in found] == [as_text(counts) for counts in expected]


@pytest.mark.slow
@given(TOUCHES, EPC_PAGES, POLICIES, BATCHES)
def test_the_compiled_rule_counts_the_same(
    touches: list[Touch], epc_pages: int, policy: ReplacementPolicy, batch: int
) -> None:
    """The compiled rule gives the counts of the rule in Python, for every round and for the steady state."""
    compiled = compiled_replacement()
    assert compiled is not None, "the machine that tests run on has a C compiler"
    options = {"batch": batch, "operators": OPERATORS}
    expected = simulate(touches, epc_pages, policy, rounds=4, **options)
    found = simulate(touches, epc_pages, policy, rounds=4, compiled=compiled, **options)
    assert [as_text(counts) for counts in found] == [as_text(counts) for counts in expected]
    steady = steady_state(touches, epc_pages, policy, compiled=compiled, **options)
    assert repr(steady) == repr(steady_state(touches, epc_pages, policy, **options))


@pytest.mark.parametrize("epc_pages", [1000, 4096, 9000])
def test_a_whole_network_gives_exactly_the_counts_of_single_pages(epc_pages: int) -> None:
    """The same is true for AlexNet's convolutions, with their thousands of pages."""
    touches = [Touch(t.operator % OPERATORS, t.first_page, t.n_pages) for t in trace("simple_alex", 1)]
    pager = OnePageAtATime(epc_pages, ReplacementPolicy.SECOND_CHANCE, 16)
    expected = [pager.run_round(touches) for _ in range(3)]
    found = simulate(touches, epc_pages, rounds=3, operators=OPERATORS)
    assert [as_text(counts) for counts in found] == [as_text(counts) for counts in expected]


@given(TOUCHES, EPC_PAGES, POLICIES, BATCHES)
def test_steady_state_is_the_mean_of_the_last_simulated_rounds(
    touches: list[Touch], epc_pages: int, policy: ReplacementPolicy, batch: int
) -> None:
    """The steady state is the mean of simulated rounds, and says of how many."""
    found = steady_state(touches, epc_pages, policy, batch=batch, operators=OPERATORS)
    last = simulate(touches, epc_pages, policy, rounds=found.rounds, batch=batch, operators=OPERATORS)
    last = last[-found.period :]
    assert found.loads == np.mean([counts.loads for counts in last])
    assert found.evictions == np.mean([counts.evictions for counts in last])
    assert found.minor_faults == np.mean([counts.minor_faults for counts in last])
    for name in ("loads_by_operator", "evictions_by_operator", "minor_faults_by_operator"):
        np.testing.assert_array_equal(getattr(found, name), np.mean([getattr(c, name) for c in last], axis=0))


@given(TOUCHES, POLICIES, BATCHES)
def test_loads_stop_where_the_working_set_fits(touches: list[Touch], policy: ReplacementPolicy, batch: int) -> None:
    """If the EPC holds the working set nothing is loaded; with one page less, every round loads something."""
    smallest = max(1, working_set_pages(touches))
    assert steady_state(touches, smallest, policy, batch=batch).loads == 0
    if smallest > 1:
        less = simulate(touches, smallest - 1, policy, rounds=6, batch=batch)
        assert all(counts.loads > 0 for counts in less[1:])


@given(TOUCHES)
def test_working_set_counts_each_page_once(touches: list[Touch]) -> None:
    """The working set is the number of distinct pages."""
    pages = {page for t in touches for page in range(t.first_page, t.first_page + t.n_pages)}
    assert working_set_pages(touches) == len(pages)


@given(TOUCHES, EPC_PAGES, POLICIES, BATCHES)
def test_pages_are_conserved(touches: list[Touch], epc_pages: int, policy: ReplacementPolicy, batch: int) -> None:
    """Pages that were loaded and not evicted are resident, and never more than the budget."""
    present = 0
    for counts in simulate(touches, epc_pages, policy, rounds=4, batch=batch):
        present += counts.loads - counts.evictions
        assert present == counts.resident_pages <= epc_pages


@given(TOUCHES, EPC_PAGES, POLICIES)
def test_cutting_a_touch_in_two_changes_nothing(
    touches: list[Touch], epc_pages: int, policy: ReplacementPolicy
) -> None:
    """Counts depend on the order of pages, not on how it is divided into touches."""
    halves = [
        part
        for t in touches
        for part in (
            Touch(t.operator, t.first_page, t.n_pages // 2),
            Touch(t.operator, t.first_page + t.n_pages // 2, t.n_pages - t.n_pages // 2),
        )
    ]
    whole = simulate(touches, epc_pages, policy, rounds=3, operators=OPERATORS)
    cut = simulate(halves, epc_pages, policy, rounds=3, operators=OPERATORS)
    assert [as_text(counts) for counts in whole] == [as_text(counts) for counts in cut]
