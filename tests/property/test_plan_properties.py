"""Cuts are the best there are, and layouts never overlap."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawing import examples
from sectum.plan.cuts import _LEVELS as LEVELS
from sectum.plan.cuts import Cut, StageCosts, cut, levels_of
from sectum.plan.opening import OpeningCosts
from sectum.plan.units import Unit
from sectum.units import MIB

UNITS = st.lists(
    st.builds(
        lambda weight, ms, kind: Unit(0, (0, 1) if kind == 1 else None, weight * MIB, ms, must_stay=kind == 2),
        st.integers(0, 12),
        st.floats(0.0, 3.0),
        st.sampled_from([0, 0, 0, 0, 1, 2]),
    ),
    min_size=1,
    max_size=6,
)


def cost_of(units: list[Unit], cuts: list[Cut], buffer_bytes: int, room_bytes: int, costs: StageCosts) -> float:
    """Milliseconds of stages beside arithmetic; infinite where they are not allowed."""
    total, levels = 0.0, 0
    for one in cuts:
        parts = units[one.first : one.end]
        weight = sum(unit.weight_bytes for unit in parts)
        if len(parts) > 1 and any(unit.channels for unit in parts):
            return math.inf
        if one.streamed and weight and (weight > buffer_bytes or any(unit.must_stay for unit in parts)):
            return math.inf
        if not one.streamed and weight:
            levels += levels_of(weight, room_bytes)
        total += costs.of(weight, sum(unit.compute_ms for unit in parts), streamed=one.streamed and weight > 0)
    return total if levels <= LEVELS else math.inf


def by_brute_force(units: list[Unit], buffer_bytes: int, room_bytes: int, costs: StageCosts) -> float:
    """The least cost over all cuts and all choices of what stays."""
    best = math.inf
    for ends in product([False, True], repeat=len(units) - 1):
        places = [0, *(place + 1 for place, end in enumerate(ends) if end), len(units)]
        pairs = list(pairwise(places))
        for streamed in product([False, True], repeat=len(pairs)):
            cuts = [Cut(first, end, one) for (first, end), one in zip(pairs, streamed, strict=True)]
            best = min(best, cost_of(units, cuts, buffer_bytes, room_bytes, costs))
    return best


@given(UNITS, st.integers(1, 20), st.integers(1, 40), st.booleans())
@examples(120)
def test_no_other_cuts_are_cheaper(units: list[Unit], buffer_mib: int, room_mib: int, hidden: bool) -> None:
    """Dynamic programming finds what trying all cuts finds."""
    buffer_bytes, room_bytes = buffer_mib * MIB, room_mib * MIB
    costs = StageCosts(OpeningCosts(0.2, 0.8, stage_ms=0.3), hidden=hidden)
    found = cut([[unit] for unit in units], buffer_bytes, room_bytes, costs)
    best = by_brute_force(units, buffer_bytes, room_bytes, costs)
    if found is None:
        assert best == math.inf
        return
    assert [one.first for one in found] == [0, *(one.end for one in found[:-1])]
    assert found[-1].end == len(units)
    assert cost_of(units, found, buffer_bytes, room_bytes, costs) == pytest.approx(best)
