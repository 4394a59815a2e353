"""Orders of a graph's operators: the one with the least memory alive at once, and the one that the runtime takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from sectum.enclave.streaming.node_order import runtime_order
from sectum.graph.ir import Operator
from sectum.ort.optimized import OptimizedGraph

_MOST_STATES = 4_000
"""Sets of finished operators that dynamic programming may hold for one region; a greedy rule orders larger regions."""


def in_order(graph: OptimizedGraph, order: Sequence[int]) -> OptimizedGraph:
    """A graph with its operators in another order.

    Args:
        graph: what the runtime executes.
        order: positions of its operators, in an order in which they can run.
    """
    return replace(
        graph,
        operators=tuple(graph.operators[place] for place in order),
        carried_out=tuple(graph.carried_out[place] for place in order),
        layer_names=tuple(graph.layer_names[place] for place in order),
    )


def in_runtime_order(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators of a stage in the order in which its session executes them."""
    return tuple(operators[place] for place in runtime_order(reads_of(operators)))


def reads_of(operators: Sequence[Operator]) -> list[list[int]]:
    """For each operator, positions of those whose results it reads."""
    makers = {name: place for place, op in enumerate(operators) for name in op.outputs if name}
    return [[makers[name] for name in op.inputs if name in makers] for op in operators]


def can_run(operators: Sequence[Operator], order: Sequence[int]) -> bool:
    """Whether an order has each operator once, after those whose results it reads."""
    if sorted(order) != list(range(len(operators))):
        return False
    place = {position: index for index, position in enumerate(order)}
    return all(place[source] < place[at] for at, sources in enumerate(reads_of(operators)) for source in sources)


@dataclass(frozen=True)
class _Memory:
    """What is alive: for each operator what it makes and reads, and for each value its size and its readers."""

    makes: Sequence[Sequence[str]]
    reads: Sequence[frozenset[str]]
    n_bytes: Mapping[str, int]
    readers: Mapping[str, frozenset[int]]
    kept: frozenset[str]

    def dead(self, place: int, done: frozenset[int]) -> int:
        """Bytes that nobody needs once an operator has run after others."""
        after = done | {place}
        return sum(
            self.n_bytes[name] for name in (*self.reads[place], *self.makes[place])
            if name not in self.kept and self.readers[name] <= after
        )  # fmt: skip

    def made(self, place: int) -> int:
        """Bytes that an operator makes."""
        return sum(self.n_bytes[name] for name in self.makes[place])


def least_peak_order(graph: OptimizedGraph) -> list[int]:
    """An order of the operators with the least peak of activations alive at once.

    The graph is taken apart where only one operator could be next and all before it are done. A small region between
    two such places is ordered by dynamic programming over the sets of operators that may be done, a large one by a
    rule: next comes the operator that leaves the least memory alive. The given order is kept where none is better.
    """
    weights = graph.weight_names
    readers: dict[str, set[int]] = {}
    for place, op in enumerate(graph.operators):
        for name in op.inputs:
            if name and name not in weights:
                readers.setdefault(name, set()).add(place)
    made = [tuple(name for name in op.outputs if name and name not in weights) for op in graph.operators]
    memory = _Memory(
        makes=made,
        reads=[frozenset(name for name in op.inputs if name and name not in weights) for op in graph.operators],
        n_bytes=graph.n_bytes,
        readers={name: frozenset(readers.get(name, ())) for name in (*graph.inputs, *(n for one in made for n in one))},
        kept=frozenset(graph.outputs),
    )
    sources = reads_of(graph.operators)
    order: list[int] = []
    for first, end in pairwise(_region_ends(sources)):
        region = list(range(first, end))
        best = _ordered(region, sources, memory)
        order += best if _peak(best, first, memory) < _peak(region, first, memory) else region
    return order


def _region_ends(sources: Sequence[Sequence[int]]) -> list[int]:
    """Places before which all is done that any later operator does not wait for: no order changes across them."""
    count = len(sources)
    # An operator may move to just after the last that it reads, and to just before the first that reads it.
    earliest = [max(read, default=-1) + 1 for read in sources]
    first_reader = [count] * count
    for place, read in enumerate(sources):
        for source in read:
            first_reader[source] = min(first_reader[source], place)
    closed = [True] * (count + 1)
    for place in range(count):
        for between in range(earliest[place] + 1, place + 1):
            closed[between] = False
        for between in range(place + 1, first_reader[place]):
            closed[between] = False
    return [0, *(place for place in range(1, count) if closed[place]), count]


def _peak(order: Sequence[int], first: int, memory: _Memory) -> int:
    """The most bytes alive, over those alive before, while operators run in an order after all those before."""
    done = frozenset(range(first))
    alive = most = 0
    for place in order:
        alive += memory.made(place)
        most = max(most, alive)
        alive -= memory.dead(place, done)
        done |= {place}
    return most


def _ordered(region: Sequence[int], sources: Sequence[Sequence[int]], memory: _Memory) -> list[int]:
    if len(region) < 2:
        return list(region)
    inside = set(region)
    waits = {place: frozenset(source for source in sources[place] if source in inside) for place in region}
    return _by_dynamic_programming(region, waits, memory) or _by_rule(region, waits, memory)


def _by_dynamic_programming(
    region: Sequence[int], waits: Mapping[int, frozenset[int]], memory: _Memory
) -> list[int] | None:
    """The best order; None where too many sets of operators may be done."""
    before = frozenset(range(region[0]))
    # What is alive after a set of operators does not depend on their order; the peak on the way does.
    found: dict[frozenset[int], tuple[int, int, tuple[int, ...]]] = {frozenset(): (0, 0, ())}
    states = 0
    for _ in region:
        following: dict[frozenset[int], tuple[int, int, tuple[int, ...]]] = {}
        for done, (peak, alive, order) in found.items():
            for place in region:
                if place in done or not waits[place] <= done:
                    continue
                within = alive + memory.made(place)
                reached, most = done | {place}, max(peak, within)
                if reached not in following or most < following[reached][0]:
                    left = within - memory.dead(place, before | done)
                    following[reached] = (most, left, (*order, place))
        found = following
        states += len(found)
        if states > _MOST_STATES:
            return None
    ((_, _, order),) = found.values()
    return list(order)


def _by_rule(region: Sequence[int], waits: Mapping[int, frozenset[int]], memory: _Memory) -> list[int]:
    """Next comes what leaves the least memory alive; of equals, the first."""
    done, order = frozenset(range(region[0])), []
    left = list(region)
    while left:
        ready = [place for place in left if waits[place] <= done]
        place = min(ready, key=lambda one: memory.made(one) - memory.dead(one, done))
        order.append(place)
        left.remove(place)
        done |= {place}
    return order
