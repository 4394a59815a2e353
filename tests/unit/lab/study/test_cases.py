"""The study's plan: each sweep varies what its name says."""

from __future__ import annotations

from collections import defaultdict

from sectum.lab.study.cases import POLICIES, STEPS, WORKING_SETS_OVER_EPC, StudyCase, Sweep, plan
from sectum.lab.study.networks import Kind, Order
from sectum.units import MIB, PAGE_BYTES


def of(sweep: Sweep) -> list[StudyCase]:
    return [case for case in plan() if case.sweep is sweep]


def test_a_plan_is_the_same_for_the_same_seed_and_names_each_case_once() -> None:
    """A study that was stopped goes on with what is left."""
    assert plan() == plan()
    assert len({case.key for case in plan()}) == len(plan())
    assert not {case.key for case in plan()} & {case.key for case in (*plan(seed=1), *plan(threads=2))}


def test_sweeps_are_mixed() -> None:
    """A machine that becomes slower does not slow one sweep alone."""
    positions = defaultdict(list)
    for index, case in enumerate(plan()):
        positions[case.sweep].append(index / len(plan()))
    large = [found for found in positions.values() if len(found) >= 10]
    assert len(large) >= 4
    assert all(min(found) < 0.4 and max(found) > 0.6 for found in large)


def test_memory_is_varied_on_both_sides_of_each_epc_and_computation_is_not() -> None:
    """Near the EPC there is a network that just fits, and one that just does not."""
    cases = of(Sweep.MEMORY)
    assert {case.network.steps for case in cases} == {STEPS}
    for epc_bytes in {size for case in cases for size in case.epc_sizes}:
        sizes = [case.network.distinct * MIB / epc_bytes for case in cases if epc_bytes in case.epc_sizes]
        assert any(0.93 < size < 1 for size in sizes)
        assert any(1 < size < 1.07 for size in sizes)
        assert all(0.4 < size < 2.2 for size in sizes)


def test_orders_are_compared_under_equal_conditions() -> None:
    """The same networks under both policies, at the same ratios of working set to EPC."""
    cases = of(Sweep.ORDER)
    assert len(cases) == len(POLICIES) * (len(Order) + 2)
    assert {case.working_sets_over_epc for case in cases} == {WORKING_SETS_OVER_EPC}
    assert len({(case.network.kind, case.network.distinct, case.network.steps) for case in cases}) == len(Kind)


def test_sizes_of_epc_are_whole_pages_the_largest_first() -> None:
    """What the pager takes, in the order in which it is quickest."""
    case = of(Sweep.ORDER)[0]
    sizes = case.epcs(24 * MIB + PAGE_BYTES)
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == len(WORKING_SETS_OVER_EPC)
    assert all(size % PAGE_BYTES == 0 for size in sizes)
    for size, ratio in zip(reversed(sizes), reversed(WORKING_SETS_OVER_EPC), strict=True):
        assert 0 <= (24 * MIB + PAGE_BYTES) / size - ratio < 0.01 * ratio


def test_with_more_threads_only_what_depends_on_them_is_measured() -> None:
    """Cases with two threads have a counterpart with one."""
    one = {(case.network, case.working_sets_over_epc) for case in plan()}
    more = plan(threads=2)
    assert 0 < len(more) < len(plan())
    assert all(case.threads == 2 and (case.network, case.working_sets_over_epc) in one for case in more)
