"""What it costs to open weights, by the size of a stage."""

from __future__ import annotations

import pytest

from sectum.plan.opening import LARGE_BYTES, MEASURED, SMALL_BYTES, OpeningCosts, measured_costs
from sectum.units import MIB

COSTS = OpeningCosts(0.1, 0.2, 0.05)


@pytest.mark.parametrize(("mib", "expected"), [(1, 0.1), (8, 0.1), (16, 0.15), (32, 0.2), (400, 0.2)])
def test_a_mib_costs_more_in_a_large_stage(mib: int, expected: float) -> None:
    """Up to the small size and from the large one on the cost of a MiB is the same; halfway it is between them."""
    assert (SMALL_BYTES, LARGE_BYTES) == (8 * MIB, 32 * MIB)
    assert COSTS.open_ms(mib * MIB, int8=False) == pytest.approx(mib * expected)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("costs", [COSTS, OpeningCosts(0.2, 0.1, 0.3)])
def test_no_stage_costs_less_than_the_least(costs: OpeningCosts, int8: bool) -> None:
    """The least cost of a MiB is a lower bound for stages of all sizes, also where a measurement is upside down."""
    for mib in (0, 1, 7, 8, 9, 20, 31, 33, 500):
        assert costs.open_ms(mib * MIB, int8=int8) >= mib * costs.least_ms_per_mib(int8=int8) * (1 - 1e-12)


def test_costs_are_measured() -> None:
    """Costs that are measured here are positive, and say that they are measured."""
    costs = measured_costs()
    assert costs.kind == MEASURED
    assert min(costs.small_ms_per_mib, costs.large_ms_per_mib) > 0
    assert costs.stage_ms == OpeningCosts().stage_ms


def test_a_plan_says_which_costs_it_used() -> None:
    """A plan's file has the cost of a MiB at both sizes, of the weights that it stores."""
    assert COSTS.to_json(int8=False) == {
        "small_ms_per_mib": pytest.approx(0.1), "large_ms_per_mib": pytest.approx(0.2), "stage_ms": COSTS.stage_ms,
        "kind": "default",
    }  # fmt: skip
    assert COSTS.to_json(int8=True)["large_ms_per_mib"] == pytest.approx(0.05)


def test_opening_beside_computing_takes_longer() -> None:
    """A thread that opens while others compute shares the memory with them; starting a stage costs the same."""
    beside = COSTS.beside_computing()
    for size, int8 in ((4 * MIB, False), (40 * MIB, False), (40 * MIB, True)):
        assert beside.open_ms(size, int8=int8) > 1.2 * COSTS.open_ms(size, int8=int8)
    assert beside.stage_ms == COSTS.stage_ms
