"""Cuts are the cheapest, compared with the same rule written without arrays."""

from __future__ import annotations

import random

import pytest

from sectum.plan.cuts import Cut, StageCosts, at_least_ms, cut, least_room_bytes, levels_of
from sectum.plan.opening import OpeningCosts
from sectum.plan.units import Unit

STEP = 64 << 10
"""Buffers are of 3 to 31 MiB: opening costs more for each MiB in larger ones."""


def drawn(rng: random.Random, count: int) -> list[list[Unit]]:
    """Groups of one unit or two, a few of which must stay."""
    return [
        [
            Unit(place, None, rng.choice([0, rng.randint(1, 200) * STEP]), rng.random(), rng.random() < 0.05)
            for _ in range(rng.choice([1, 1, 2]))
        ]
        for place in range(count)
    ]


def cheapest(groups: list[list[Unit]], buffer_bytes: int, room_bytes: int, costs: StageCosts) -> float | None:
    """What the cheapest stages take, without their arithmetic: each last stage with each number of levels."""
    best: dict[tuple[int, int], float] = {(0, level): 0.0 for level in range(65)}
    for end in range(1, len(groups) + 1):
        for first in range(end):
            units = [unit for group in groups[first:end] for unit in group]
            n_bytes, took_ms = sum(one.weight_bytes for one in units), sum(one.compute_ms for one in units)
            if any(one.alone for one in units) and end - first > 1:
                continue
            stays = any(one.must_stay for one in units)
            choices = []
            if n_bytes <= buffer_bytes and not (stays and n_bytes):
                choices.append((0, costs.of(n_bytes, took_ms, streamed=n_bytes > 0)))
            if n_bytes:
                choices.append((levels_of(n_bytes, room_bytes), costs.of(0, took_ms, streamed=False)))
            for levels, cost in choices:
                for level in range(levels, 65):
                    if (first, level - levels) in best:
                        found = best[first, level - levels] + cost
                        best[end, level] = min(best.get((end, level), found), found)
    return best.get((len(groups), 64))


def cost_of(cuts: list[Cut], groups: list[list[Unit]], costs: StageCosts) -> float:
    """What these stages take, without their arithmetic."""
    total = 0.0
    for one in cuts:
        units = [unit for group in groups[one.first : one.end] for unit in group]
        n_bytes, took_ms = sum(unit.weight_bytes for unit in units), sum(unit.compute_ms for unit in units)
        total += costs.of(n_bytes, took_ms, streamed=one.streamed)
    return total


@pytest.mark.parametrize("hidden", [False, True])
def test_cuts_are_the_cheapest(hidden: bool) -> None:
    """No other stages of the same groups take less, and where there are none, none are found."""
    rng = random.Random(1)
    costs = StageCosts(OpeningCosts(0.2, 0.5, stage_ms=0.1), hidden=hidden)
    for _ in range(25):
        groups = drawn(rng, rng.randint(1, 9))
        buffer_bytes, room_bytes = rng.randint(50, 500) * STEP, rng.randint(1, 700) * STEP
        found = cut(groups, buffer_bytes, room_bytes, costs)
        least = cheapest(groups, buffer_bytes, room_bytes, costs)
        assert (found is None) == (least is None)
        if found is not None:
            assert cost_of(found, groups, costs) == pytest.approx(least)
            assert [one.first for one in found] == [0, *(one.end for one in found[:-1])]


@pytest.mark.parametrize("hidden", [False, True])
def test_the_least_time_is_a_lower_bound(hidden: bool) -> None:
    """What is said beforehand that no stages take less than, none do."""
    rng = random.Random(2)
    costs = StageCosts(OpeningCosts(0.2, 0.5, stage_ms=0.1), hidden=hidden)
    for _ in range(40):
        units = [unit for group in drawn(rng, rng.randint(1, 30)) for unit in group]
        groups = [[unit] for unit in units]
        buffer_bytes, room_bytes = rng.randint(50, 500) * STEP, rng.randint(1, 2000) * STEP
        found = cut(groups, buffer_bytes, room_bytes, costs)
        least_ms = at_least_ms(units, buffer_bytes, room_bytes, costs)
        if found is None:
            assert least_ms == 0
        else:
            assert least_ms <= cost_of(found, groups, costs) + sum(unit.compute_ms for unit in units)


def test_what_must_stay_fits_into_the_least_room() -> None:
    """In the least room there are cuts, whatever must stay, if the rest fits into the buffer."""
    rng = random.Random(3)
    costs = StageCosts(OpeningCosts(0.2, 0.5, stage_ms=0.1))
    for _ in range(40):
        units = [unit for group in drawn(rng, rng.randint(1, 30)) for unit in group]
        room_bytes = max(1, least_room_bytes(units))
        assert cut([[unit] for unit in units], 200 * STEP, room_bytes, costs) is not None
