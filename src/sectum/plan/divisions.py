"""Which operators are divided by rows, so that activations take at most so many bytes: dynamic programming."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sectum.ort.operators import describe
from sectum.plan.rows import Division, Divider, height_of
from sectum.plan.strip_memory import strip_memory
from sectum.units import MIB

COPY_MS_PER_MIB = 0.15
"""To copy rows into and out of strips, which lie apart: measured on one virtual core of an AMD EPYC."""
_PAGED_MS_PER_MIB = 6.0
"""What exceeds the target is paged out and in again: what a MiB of it costs at least."""
_STRIPS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_MOST_OPERATORS = 12


def division_ms(division: Division, compute_ms: Sequence[float], stage_ms: float) -> float:
    """What a division takes: its operators with all rows that are computed twice, copies, and the runtime's calls.

    Args:
        division: of some operators.
        compute_ms: of each of them, undivided.
        stage_ms: to start a stage; the first strip's start is that of the stage and does not count.
    """
    computing = sum(ms * share for ms, share in zip(compute_ms, division.work, strict=True))
    return computing + division.copied_bytes / MIB * COPY_MS_PER_MIB + (len(division.strips) - 1) * stage_ms


def divisions(
    divider: Divider, compute_ms: Sequence[float], target_bytes: int, stage_ms: float, threads: int
) -> tuple[Division, ...]:
    """The cheapest divisions with which activations take so many bytes; where that is impossible, the least above.

    Args:
        divider: of the graph.
        compute_ms: time of each operator in the enclave, without paging.
        target_bytes: that activations may take.
        stage_ms: to start a stage.
        threads: that compute.
    """
    search = _Search(divider, compute_ms, target_bytes, stage_ms, threads)
    count = len(compute_ms)
    best, came = [0.0] + [math.inf] * count, [(0, 0)] * (count + 1)  # where the last step begins, and its rows
    for place in range(count):
        alone = best[place] + search.paging_ms(search.needs[place])
        if alone < best[place + 1]:
            best[place + 1], came[place + 1] = alone, (place, 0)
        for option in search.starting_at(place):
            cost = best[place] + option.cost_ms
            if cost < best[option.end] - 1e-9:
                best[option.end], came[option.end] = cost, (place, option.rows)
    found: list[Division] = []
    end = count
    while end:
        first, rows = came[end]
        if rows and (division := divider.divided(first, end - 1, rows)) is not None:
            found.append(division)
        end = first
    return tuple(found[::-1])


def activation_bytes(divider: Divider, chosen: Sequence[Division], threads: int) -> int:
    """Estimate the most bytes of activations alive at once, with some divisions."""
    search = _Search(divider, [0.0] * len(divider.graph.operators), 0, 0.0, threads)
    inside = {place for one in chosen for place in range(one.first, one.first + len(one.operators))}
    return max(
        [need for place, need in enumerate(search.needs) if place not in inside]
        + [search.bytes_of(one, one.first + len(one.operators) - 1) for one in chosen],
        default=0,
    )


@dataclass(frozen=True, slots=True)
class _Option:
    """Operators up to but without `end`, in strips of so many rows, and what that costs beside their arithmetic."""

    end: int
    rows: int
    cost_ms: float


class _Search:
    """What operators and divisions need, and cost.

    Args:
        divider: of the graph.
        compute_ms: time of each operator.
        target_bytes: that activations may take.
        stage_ms: to start a stage.
        threads: that compute.
    """

    def __init__(
        self, divider: Divider, compute_ms: Sequence[float], target_bytes: int, stage_ms: float, threads: int
    ) -> None:
        graph = divider.graph
        self._divider, self._compute_ms, self._target = divider, compute_ms, target_bytes
        self._stage_ms, self._threads = stage_ms, threads
        self._ends = graph.lifetimes.end
        change = [0] * (len(graph.operators) + 1)
        made = [0] * len(graph.operators)
        for name, place in graph.lifetimes.written.items():  # inputs of the network are the caller's
            change[place] += graph.n_bytes[name]
            made[place] += graph.n_bytes[name]
            change[self._ends[name] + 1] -= graph.n_bytes[name]
        alive = list(accumulate(change[:-1]))
        self._before = [one - own for one, own in zip(alive, made, strict=True)]
        self.needs = [
            one + sum(describe(op).scratch(op, graph, threads)) for one, op in zip(alive, graph.operators, strict=True)
        ]
        """Bytes alive while each operator runs undivided."""
        self._too_large = [need > target_bytes for need in self.needs]

    def paging_ms(self, n_bytes: int) -> float:
        """What it costs that more bytes are needed than there may be."""
        return max(0, n_bytes - self._target) / MIB * _PAGED_MS_PER_MIB

    def starting_at(self, first: int) -> Iterator[_Option]:
        """Divisions that begin with an operator and hold one that needs too much undivided."""
        worth = False
        for last in range(first, min(first + _MOST_OPERATORS, len(self.needs))):
            if not self._divider.divides[last]:
                return
            worth |= self._too_large[last]
            if worth and (option := self._option(first, last)) is not None:
                yield option

    def _option(self, first: int, last: int) -> _Option | None:
        """The fewest strips that fit, or the best that do not."""
        graph = self._divider.graph
        height = height_of(graph, graph.operators[last].result)
        best: _Option | None = None
        for count in _STRIPS:
            rows = -(-height // count)
            if rows >= height:
                continue
            one = self._divider.one_strip(first, last, rows)
            if one is None:
                return best
            strips = -(-height // rows)
            paging_ms = self.paging_ms(self.bytes_of(one, last))
            extra = sum(
                ms * max(0.0, strips * share - 1)
                for ms, share in zip(self._compute_ms[first : last + 1], one.work, strict=True)
            )
            copying_ms = one.copied_bytes * strips / MIB * COPY_MS_PER_MIB
            cost_ms = paging_ms + extra + copying_ms + strips * self._stage_ms
            if best is None or cost_ms < best.cost_ms:
                best = _Option(last + 1, rows, cost_ms)
            if not paging_ms or rows == 1:
                break
        return best

    def bytes_of(self, division: Division, last: int) -> int:
        """Bytes alive while a division runs."""
        graph = division.graph
        ends = {name: int(self._ends[name] > last) for name in division.sources}
        over = division.over(ends, 0)
        wholes = sum(graph.n_bytes[name] for name in division.results if name not in over)
        return self._before[division.first] + wholes + sum(strip_memory(division, self._threads).pieces)
