"""Where a network is cut into stages, and which stages keep their weights in the enclave: dynamic programming."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from sectum.plan.units import Unit

_MANY_UNITS, _OF_A_BUFFER = 48, 8
_LEVELS = 64
"""The room for weights that stay is counted in so many steps."""


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
        stage_ms: to start it.
        open_ms_per_byte: to open its weights.
        hidden: whether a thread opens while the stage before computes, so that only what takes longer counts.
    """

    stage_ms: float
    open_ms_per_byte: float
    hidden: bool = False

    def of(self, weight_bytes: int, compute_ms: float, *, streamed: bool) -> float:
        """Milliseconds of a stage, without its arithmetic."""
        opening = weight_bytes * self.open_ms_per_byte if streamed else 0.0
        return self.stage_ms + (max(0.0, opening - compute_ms) if self.hidden else opening)


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
    best = np.full((count + 1, _LEVELS + 1), np.inf)
    best[0] = 0.0
    came = np.full((count + 1, _LEVELS + 1, 2), -1, dtype=int)  # first unit of the last stage, and its levels
    for end in range(1, count + 1):
        must_stay = divided = False
        for first in range(end - 1, -1, -1):
            must_stay |= any(unit.must_stay for unit in groups[first])
            divided |= any(unit.alone for unit in groups[first])
            if divided and end - first > 1:
                break
            weight_bytes = weights[end] - weights[first]
            if weight_bytes > max(buffer_bytes, room_bytes):
                break
            took_ms = computing[end] - computing[first]
            options = []
            if weight_bytes <= buffer_bytes and not (must_stay and weight_bytes):
                options.append((0, costs.of(weight_bytes, took_ms, streamed=bool(weight_bytes))))
            if weight_bytes:
                options.append((levels_of(weight_bytes, room_bytes), costs.of(0, took_ms, streamed=False)))
            for levels, cost in options:
                if levels > _LEVELS:
                    continue
                found = best[first, : _LEVELS + 1 - levels] + cost
                better = found < best[end, levels:] - 1e-12
                best[end, levels:][better] = found[better]
                came[end, levels:][better] = first, levels
    return _traced(best, came, weights)


def _traced(best: np.ndarray, came: np.ndarray, weights: Sequence[int]) -> list[Cut] | None:
    end, level = len(best) - 1, _LEVELS
    if not np.isfinite(best[end, level]):
        return None
    cuts: list[Cut] = []
    while end:
        first, levels = came[end, level].tolist()
        cuts.append(Cut(first, end, streamed=not levels and weights[end] > weights[first]))
        end, level = first, level - levels
    return cuts[::-1]
