"""The parts that enclaves get are the best there are."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawing import examples
from sectum.plan.assignment import LATENCY, THROUGHPUT, ChainCosts, assign

MS = st.one_of(st.floats(0.0, 9.0), st.just(math.inf))


@st.composite
def chain_costs(draw: st.DrawFn) -> ChainCosts:
    """Costs of up to seven units, which need not add up: some parts are impossible, some links slow."""
    n = draw(st.integers(1, 7))
    part = np.full((n + 1, n + 1), math.inf)
    for first in range(n):
        for end in range(first + 1, n + 1):
            part[first, end] = draw(MS)
    occupied = np.array([0.0, *draw(st.lists(st.floats(0.0, 5.0), min_size=n - 1, max_size=n - 1)), 0.0])
    return ChainCosts(part, occupied + draw(st.floats(0.0, 2.0)) * (occupied > 0), occupied)


def figures(costs: ChainCosts, bounds: list[int]) -> tuple[float, float]:
    """Latency, and time between two results, of parts that begin at these points."""
    ends = [*bounds, len(costs.link_ms) - 1]
    parts = [costs.part_ms[begin, end] for begin, end in pairwise(ends)]
    latency = sum(parts) + sum(costs.link_ms[point] for point in bounds[1:])
    return latency, max([*parts, *(costs.occupied_ms[point] for point in bounds[1:])])


def by_brute_force(costs: ChainCosts, enclaves: int) -> list[list[int]]:
    """All ways to cut."""
    inner = range(1, len(costs.link_ms) - 1)
    return [[0, *points] for count in range(enclaves) for points in combinations(inner, count)]


@given(chain_costs(), st.integers(1, 4))
@examples(200)
def test_no_other_parts_have_less_latency(costs: ChainCosts, enclaves: int) -> None:
    """Dynamic programming finds the latency that trying all cuts finds."""
    found = assign(costs, enclaves, LATENCY)
    assert len(found) <= enclaves
    best = min(figures(costs, bounds)[0] for bounds in by_brute_force(costs, enclaves))
    if best < math.inf:
        assert figures(costs, found)[0] == pytest.approx(best)


@given(chain_costs(), st.integers(1, 4))
@examples(200)
def test_no_other_parts_give_results_more_often(costs: ChainCosts, enclaves: int) -> None:
    """For throughput it finds the shortest time between results and, of those, the least latency."""
    found = assign(costs, enclaves, THROUGHPUT)
    all_figures = [figures(costs, bounds) for bounds in by_brute_force(costs, enclaves)]
    best = min(interval for _, interval in all_figures)
    if best < math.inf:
        latency, interval = figures(costs, found)
        assert interval == pytest.approx(best)
        assert latency == pytest.approx(min(ms for ms, each in all_figures if each <= best * (1 + 1e-9)))
