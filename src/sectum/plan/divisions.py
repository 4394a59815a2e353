"""Which operators are divided by rows, so that activations take at most so many bytes: dynamic programming."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sectum.ort.operators import describe
from sectum.plan.rows import Divider, Division, height_of, reads_windows, results_of
from sectum.plan.strip_costs import StripCost, StripCosts
from sectum.plan.strip_memory import strip_memory
from sectum.units import MIB

COPY_MS_PER_MIB = 0.12
"""To copy rows into and out of strips, which lie apart: CPU time of one virtual core of an AMD EPYC (Zen 4), beside
other work."""
_PAGED_MS_PER_MIB = 6.0
"""What exceeds the target is paged out and in again: what a MiB of it costs at least."""
_ROUNDING = 1 - 1e-9
"""Sums of the same times in another order differ by less."""
_MOST_STRIPS = 256
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


@dataclass(frozen=True, slots=True)
class _Option:
    """Operators up to but without `end` in strips of so many rows, and what that costs beside their arithmetic."""

    end: int
    rows: int
    cost_ms: float


class DivisionSearch:
    """Finds divisions of one graph.

    Args:
        divider: of the graph.
        compute_ms: time of each operator in the enclave, without paging.
        stage_ms: to start a stage.
        threads: that compute.
        costs: of strips that are known.
    """

    def __init__(
        self, divider: Divider, compute_ms: Sequence[float], stage_ms: float, threads: int, costs: StripCosts
    ) -> None:
        graph = divider.graph
        self._costs, self._numbers = costs, costs.numbers(graph, divider.blocked, threads)
        self._divider, self._compute_ms = divider, compute_ms
        self._stage_ms, self._threads = stage_ms, threads
        self._ends = graph.lifetimes.end
        self._known: dict[tuple[int, int, int], Division | None] = {}
        change = [0] * (len(graph.operators) + 1)
        made = [0] * len(graph.operators)
        for name, place in graph.lifetimes.written.items():  # inputs of the network are the caller's
            change[place] += graph.n_bytes[name]
            made[place] += graph.n_bytes[name]
            change[self._ends[name] + 1] -= graph.n_bytes[name]
        alive = list(accumulate(change[:-1]))
        self._before = [one - own for one, own in zip(alive, made, strict=True)]
        self._needs = [
            one + sum(describe(op).scratch(op, graph, threads)) for one, op in zip(alive, graph.operators, strict=True)
        ]

    def within(self, target_bytes: int) -> tuple[Division, ...]:
        """The cheapest divisions with which activations take so many bytes; where none are, the best of the others."""
        count = len(self._needs)
        paging = [_paging_ms(need - target_bytes) for need in self._needs]
        best = [0.0, *accumulate(paging)]
        came = [(max(0, place - 1), 0) for place in range(count + 1)]  # where the last step begins, and its rows
        for place in range(count):
            if best[place] + paging[place] < best[place + 1]:
                best[place + 1], came[place + 1] = best[place] + paging[place], (place, 0)
            for option in self._starting_at(place, target_bytes, paging, best):
                if best[place] + option.cost_ms < best[option.end] - 1e-9:
                    best[option.end], came[option.end] = best[place] + option.cost_ms, (place, option.rows)
        found: list[Division] = []
        end = count
        while end:
            first, rows = came[end]
            if rows and (division := self._divider.divided(first, end - 1, rows)) is not None:
                found.append(division)
            end = first
        return tuple(found[::-1])

    def activation_bytes(self, chosen: Sequence[Division]) -> int:
        """Estimate the most bytes of activations alive at once with some divisions."""
        inside = {place for one in chosen for place in range(one.first, one.first + len(one.operators))}
        alone = [need for place, need in enumerate(self._needs) if place not in inside]
        return max([*alone, *(self._bytes_of(one) for one in chosen)], default=0)

    def _starting_at(
        self, first: int, target_bytes: int, paging: Sequence[float], known_ms: Sequence[float]
    ) -> Iterator[_Option]:
        """Divisions that begin with an operator and cost less than all theirs as they are, and than what is known."""
        graph = self._divider.graph
        alone_ms = 0.0
        for last in range(first, min(first + _MOST_OPERATORS, len(paging))):
            if not self._divider.divides[last]:
                return
            alone_ms += paging[last]
            results = sum(graph.n_bytes[name] for name in results_of(graph, first, last))
            # A result may take over what was there before.
            least_over = max(self._before[first], results) - target_bytes
            limit_ms = min(alone_ms, known_ms[last + 1] - known_ms[first])
            if limit_ms > _paging_ms(least_over):
                option = self._option(first, last, target_bytes, least_over, limit_ms)
                if option is not None and option.cost_ms < alone_ms:
                    yield option

    def _option(self, first: int, last: int, target_bytes: int, least_over: int, most_ms: float) -> _Option | None:
        """The fewest strips that fit, or the best that do not; perhaps None where none costs less than `most_ms`.

        Whole results and what was there before need so many bytes more than the target, however many strips there are.
        """
        graph = self._divider.graph
        result = graph.operators[last].result
        height, result_bytes = height_of(graph, result), graph.n_bytes[result]
        shortest = min(height_of(graph, name) for name in results_of(graph, first, last))
        copying_ms = result_bytes / MIB * COPY_MS_PER_MIB * _ROUNDING
        known: list[tuple[float, int, int]] = []  # cost, count and rows
        others: list[tuple[float, int, int]] = []  # the same, with the least that they can cost
        for count, rows in _strips_of(height):
            own_ms = -(-height // rows) * self._stage_ms + copying_ms  # at least
            if own_ms + _paging_ms(least_over) >= most_ms:
                break  # more strips start more stages, so from here on none is cheaper
            over = least_over + result_bytes // height * rows  # the last result's rows are there twice
            if over > 0 and rows * shortest >= height and own_ms + _paging_ms(over) >= most_ms:
                continue
            if (one := self._cost(first, last, rows)) is None:
                break
            own_ms = self._extra_ms(first, last, rows, one)
            over = self._before[first] + one.least_bytes - target_bytes
            if over > 0:
                others.append((own_ms + _paging_ms(over), count, rows))
                continue
            over = self._before[first] + self._needed(first, last, rows, one) - target_bytes
            known.append((own_ms + _paging_ms(over), count, rows))
            most_ms = min(most_ms, known[-1][0])
            if over <= 0:
                break
        for at_least_ms, count, rows in sorted(others):
            if at_least_ms > most_ms:
                break
            if (one := self._cost(first, last, rows)) is not None:
                over = self._before[first] + self._needed(first, last, rows, one) - target_bytes
                known.append((self._extra_ms(first, last, rows, one) + _paging_ms(over), count, rows))
                most_ms = min(most_ms, known[-1][0])
        if not known:
            return None
        cost_ms, _, rows = min(known)
        return _Option(last + 1, rows, cost_ms)

    def _strip(self, first: int, last: int, rows: int) -> Division | None:
        key = (first, last, rows)
        if key not in self._known:
            self._known[key] = self._divider.one_strip(first, last, rows)
        return self._known[key]

    def _cost(self, first: int, last: int, rows: int) -> StripCost | None:
        key = (rows, *self._numbers[first : last + 1])
        return self._costs.of(key, lambda: self._worked_out(first, last, rows))

    def _worked_out(self, first: int, last: int, rows: int) -> StripCost | None:
        """What a strip in the middle takes, but for the memory inside it."""
        one = self._strip(first, last, rows)
        if one is None:
            return None
        strips = sum(map(one.most_bytes, (*one.sources, *one.results)))
        return StripCost(self._whole_bytes(one) + strips + _least_inside(one), one.copied_bytes, one.work)

    def _needed(self, first: int, last: int, rows: int, cost: StripCost) -> int:
        """Bytes of a strip, beside what was alive before."""
        if cost.n_bytes is None:
            one = self._strip(first, last, rows)
            assert one is not None, "it has a cost"
            cost.n_bytes = self._bytes_of(one) - self._before[first]
        return cost.n_bytes

    def _extra_ms(self, first: int, last: int, rows: int, one: StripCost) -> float:
        graph = self._divider.graph
        strips = -(-height_of(graph, graph.operators[last].result) // rows)
        own = self._compute_ms[first : last + 1]
        twice = sum(ms * max(0.0, strips * share - 1) for ms, share in zip(own, one.work, strict=True))
        return twice + one.copied_bytes * strips / MIB * COPY_MS_PER_MIB + strips * self._stage_ms

    def _bytes_of(self, division: Division) -> int:
        pieces = sum(strip_memory(division, self._threads).pieces)
        return self._before[division.first] + self._whole_bytes(division) + pieces

    def _whole_bytes(self, division: Division) -> int:
        """Bytes of results that are not written over a source."""
        graph, last = division.graph, division.first + len(division.operators) - 1
        over = division.over({name: int(self._ends[name] > last) for name in division.sources}, 0)
        return sum(graph.n_bytes[name] for name in division.results if name not in over)


def _strips_of(height: int) -> Iterator[tuple[int, int]]:
    """Numbers of strips that are tried, and the rows of each."""
    count = 2
    while count <= min(height, _MOST_STRIPS):
        yield count, -(-height // count)
        count = max(count + 1, math.ceil(1.3 * count))


def _least_inside(division: Division) -> int:
    """Bytes that the memory inside a strip takes at least: what a kernel with windows reads and what it makes."""
    inner = {op.result for op in division.operators}.difference(division.results)
    return max(
        sum(division.most_bytes(name) for name in {op.result, *op.inputs[: reads_windows(op)]} & inner)
        for op in division.operators
    )


def _paging_ms(n_bytes: int) -> float:
    """What it costs to page so many bytes out and in again."""
    return max(0, n_bytes) / MIB * _PAGED_MS_PER_MIB
