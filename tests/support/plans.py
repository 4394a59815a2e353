"""Plans that no planner would make, for tests: everything is streamed, and cut where it is least convenient."""

from __future__ import annotations

import itertools

from sectum.ort.optimized import OptimizedGraph
from sectum.plan.rows import Divider
from sectum.plan.stages import PlannedStage
from sectum.plan.units import channels_of, stored_weights

_STEP = 16


def weight_bytes(graph: OptimizedGraph, first: int, last: int) -> int:
    """Bytes of the weights of some operators as they store them."""
    return sum(sum(stored_weights(op, graph).values()) for op in graph.operators[first : last + 1])


def evenly(graph: OptimizedGraph, count: int) -> list[PlannedStage]:
    """Cut a graph into so many stages with the same number of operators."""
    operators = len(graph.operators)
    ends = sorted({round(place * operators / count) for place in range(count + 1)})
    return [
        PlannedStage(first, end - 1, None, 0, streamed=True, weight_bytes=weight_bytes(graph, first, end - 1))
        for first, end in itertools.pairwise(ends)
    ]


def divided(graph: OptimizedGraph) -> list[PlannedStage]:
    """A stage for each operator, and three or so for each that can be divided by output channels."""
    stages: list[PlannedStage] = []
    for index, op in enumerate(graph.operators):
        channels, n_bytes = channels_of(op, graph), weight_bytes(graph, index, index)
        size = max(_STEP, channels // 3 // _STEP * _STEP)
        if channels <= size:
            stages.append(PlannedStage(index, index, None, 0, streamed=True, weight_bytes=n_bytes))
            continue
        for begin in range(0, channels, size):
            end = min(begin + size, channels)
            part = -(-n_bytes * (end - begin) // channels)
            stages.append(PlannedStage(index, index, (begin, end), channels, streamed=True, weight_bytes=part))
    return stages


def by_rows(graph: OptimizedGraph, rows: int, longest: int) -> list[PlannedStage]:
    """Strips of so many rows, of at most so many operators, wherever they can be divided; the others as they are."""
    divider = Divider(graph)
    stages: list[PlannedStage] = []
    place = 0
    while place < len(graph.operators):
        found = (divider.divided(place, last, rows) for last in range(place + longest - 1, place - 1, -1))
        division = next((one for one in found if one is not None), None)
        last = place if division is None else place + len(division.operators) - 1
        n_bytes = weight_bytes(graph, place, last)
        stages.append(PlannedStage(place, last, None, 0, streamed=True, weight_bytes=n_bytes, division=division))
        place = last + 1
    return stages
