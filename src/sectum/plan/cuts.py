"""Where a network is cut into stages, and which stages keep their weights in the enclave: dynamic programming."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from sectum.plan.opening import OpeningCosts
from sectum.plan.units import Unit
from sectum.units import MIB

_MANY_UNITS, _OF_A_BUFFER = 48, 8
_LEVELS = 64
"""The room for weights that stay is counted in so many steps."""
_WIDTH = 2 * (_LEVELS + 1)
_COLUMNS = np.arange(_LEVELS + 1, _WIDTH)
_ALIKE_MS = 1e-12
_ROUNDING = 1 - 1e-9
"""Sums of the same times in another order differ by less."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One stage: groups from `first` up to but without `end`, and whether its weights are streamed."""

    first: int
    end: int
    streamed: bool


@dataclass(frozen=True, slots=True)
class StageCosts:
    """What a stage costs beside its arithmetic.

    Attributes:
        opening: to open its weights, and to start it.
        int8: whether its weights are stored as int8.
        hidden: whether a thread opens while the stage before computes, so that only what takes longer counts.
    """

    opening: OpeningCosts
    int8: bool = False
    hidden: bool = False

    def of(self, weight_bytes: int, compute_ms: float, *, streamed: bool) -> float:
        """Milliseconds of a stage, without its arithmetic."""
        opening_ms = self.opening.open_ms(weight_bytes, int8=self.int8) if streamed else 0.0
        return self.opening.stage_ms + (max(0.0, opening_ms - compute_ms) if self.hidden else opening_ms)


def grouped(units: Sequence[Unit], buffer_bytes: int) -> list[list[Unit]]:
    """Join neighbours that are small beside a buffer, where there are many units: the fewer, the faster is `cut`."""
    if len(units) <= _MANY_UNITS:
        return [[unit] for unit in units]
    groups: list[list[Unit]] = []
    weight_bytes = limit = max(buffer_bytes // _OF_A_BUFFER, sum(unit.weight_bytes for unit in units) // _MANY_UNITS)
    limit = min(limit, buffer_bytes)
    for unit in units:
        alone = unit.must_stay or unit.alone
        if groups and not alone and weight_bytes + unit.weight_bytes <= limit:
            groups[-1].append(unit)
            weight_bytes += unit.weight_bytes
        else:
            groups.append([unit])
            weight_bytes = limit + 1 if alone else unit.weight_bytes
    return groups


def levels_of(weight_bytes: int, room_bytes: int) -> int:
    """Steps of the room that weights take; more than there are if they do not fit."""
    if not weight_bytes:
        return 0
    return _LEVELS + 1 if weight_bytes > room_bytes else math.ceil(weight_bytes * _LEVELS / room_bytes)


def least_room_bytes(units: Sequence[Unit]) -> int:
    """Room for weights that stay in which there is certainly a step for each part of what must stay."""
    weights = [unit.weight_bytes for unit in units if unit.must_stay and unit.weight_bytes]
    return math.ceil(sum(weights) * _LEVELS / max(1, _LEVELS - len(weights)))


def at_least_ms(units: Sequence[Unit], buffer_bytes: int, room_bytes: int, costs: StageCosts) -> float:
    """What no stages of these units take less than; 0 where it is not sure that `cut` finds stages in this room.

    Args:
        units: in order.
        buffer_bytes: most weights of a streamed stage.
        room_bytes: of all weights that stay in the enclave.
        costs: of a stage.
    """
    if any(unit.weight_bytes > (0 if unit.must_stay else buffer_bytes) for unit in units):
        return 0.0
    computing = math.fsum(unit.compute_ms for unit in units)
    streamed = max(0, sum(unit.weight_bytes for unit in units) - room_bytes)
    stages = max(1, -(-streamed // buffer_bytes))
    opening = streamed / MIB * costs.opening.least_ms_per_mib(int8=costs.int8)
    starting = stages * costs.opening.stage_ms
    took = max(computing + starting, opening) if costs.hidden else computing + starting + opening
    return took * _ROUNDING


def cut(groups: Sequence[Sequence[Unit]], buffer_bytes: int, room_bytes: int, costs: StageCosts) -> list[Cut] | None:
    """The cheapest stages of whole groups; None where the weights that must stay do not fit.

    Args:
        groups: of units, in order.
        buffer_bytes: most weights of a streamed stage.
        room_bytes: of all weights that stay in the enclave.
        costs: of a stage.
    """
    count = len(groups)
    weights = [0, *accumulate(sum(unit.weight_bytes for unit in group) for group in groups)]
    computing = [0.0, *accumulate(sum(unit.compute_ms for unit in group) for group in groups)]
    stays = [any(unit.must_stay for unit in group) for group in groups]
    alone = [any(unit.alone for unit in group) for group in groups]
    # The least cost of the groups before each end, by the levels that their weights may take. Levels below 0 cost
    # infinitely much, so that a stage that takes some levels looks as many columns to the left.
    best = np.full((count + 1, _WIDTH), np.inf)
    best[0, _LEVELS + 1 :] = 0.0
    came: list[tuple[list[tuple[int, int]], NDArray[np.intp]]] = []
    for end in range(1, count + 1):
        options: list[tuple[int, int]] = []  # first group of the last stage, and its levels
        own: list[float] = []
        must_stay = divided = False
        for first in range(end - 1, -1, -1):
            must_stay |= stays[first]
            divided |= alone[first]
            if divided and end - first > 1:
                break
            weight_bytes = weights[end] - weights[first]
            if weight_bytes > max(buffer_bytes, room_bytes):
                break
            took_ms = computing[end] - computing[first]
            if weight_bytes <= buffer_bytes and not (must_stay and weight_bytes):
                options.append((first, 0))
                own.append(costs.of(weight_bytes, took_ms, streamed=bool(weight_bytes)))
            levels = levels_of(weight_bytes, room_bytes)
            if 0 < levels <= _LEVELS:
                options.append((first, levels))
                own.append(costs.of(0, took_ms, streamed=False))
        if not options:
            return None  # the group before this end neither fits into a buffer nor into the room
        firsts, levels_taken = np.array(options, dtype=np.intp).T
        found = best[firsts[:, None], _COLUMNS - levels_taken[:, None]] + np.array(own)[:, None]
        least = found.min(axis=0)
        chosen = (found <= least + _ALIKE_MS).argmax(axis=0)  # of those that are alike, the shortest last stage
        best[end, _LEVELS + 1 :] = found[chosen, np.arange(_LEVELS + 1)]
        came.append((options, chosen))
    return _traced(best, came, weights)


def _traced(
    best: NDArray[np.float64], came: Sequence[tuple[list[tuple[int, int]], NDArray[np.intp]]], weights: Sequence[int]
) -> list[Cut] | None:
    end, level = len(best) - 1, _LEVELS
    if not np.isfinite(best[end, -1]):
        return None
    cuts: list[Cut] = []
    while end:
        options, chosen = came[end - 1]
        first, levels = options[int(chosen[level])]
        cuts.append(Cut(first, end, streamed=not levels and weights[end] > weights[first]))
        end, level = first, level - levels
    return cuts[::-1]
