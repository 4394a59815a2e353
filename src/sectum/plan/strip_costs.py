"""What a strip takes, looked up once for operators that are alike: networks repeat their blocks, and so do searches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from sectum.graph.ir import Operator
from sectum.ort.optimized import OptimizedGraph

_MOST = 100_000
"""Strips that are kept; a few hundred bytes each."""


@dataclass(slots=True)
class StripCost:
    """What one strip of consecutive operators takes.

    Attributes:
        least_bytes: of memory that it takes at least while it runs, beside what was alive before.
        copied_bytes: copied into it and out of it.
        work: for each operator, the rows that it makes over all rows of its result.
        n_bytes: what it takes, as `least_bytes`; None where that was not worked out yet.
    """

    least_bytes: int
    copied_bytes: int
    work: tuple[float, ...]
    n_bytes: int | None = None


class StripCosts:
    """Costs of strips by what decides them: the operators with their tensors, and what else reads those tensors.

    One object may serve the networks of a whole search.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[tuple[int, ...], StripCost | None] = {}

    def numbers(self, graph: OptimizedGraph, blocked: frozenset[str], threads: int) -> list[int]:
        """A number for each operator. Operators in a row with the numbers of others cost what those cost.

        Args:
            graph: what the runtime executes.
            blocked: its tensors in the blocked layout.
            threads: that compute.
        """
        same = (graph.cpu, threads)
        return [self._number((same, _described(op, place, graph, blocked))) for place, op in enumerate(graph.operators)]

    def _number(self, described: Hashable) -> int:
        try:
            return self._numbers.setdefault(described, len(self._numbers))
        except TypeError:  # an attribute that has no hash: the operator is like no other
            return self._numbers.setdefault(object(), len(self._numbers))

    def of(self, key: tuple[int, ...], made: Callable[[], StripCost | None]) -> StripCost | None:
        """The cost of a strip.

        Args:
            key: its rows, and the numbers of its operators.
            made: works it out where it is not known.
        """
        if key not in self._known:
            if len(self._known) == _MOST:
                self._known.clear()
            self._known[key] = made()
        return self._known[key]


def _described(op: Operator, place: int, graph: OptimizedGraph, blocked: frozenset[str]) -> Hashable:
    """All of an operator that decides what strips of it take, without names."""
    lifetimes, outputs = graph.lifetimes, frozenset(graph.outputs)

    def tensor(name: str) -> Hashable:
        if not name:
            return None
        found = graph.tensors[name]
        if name in graph.weight_names:
            return found.shape, found.dtype
        maker = lifetimes.written.get(name)
        return (
            found.shape,
            found.dtype,
            name in blocked,
            graph.inputs.index(name) if maker is None else (place - maker, _slot(graph.operators[maker], name)),
            _distance(lifetimes.last_read, name, place),
            _distance(lifetimes.end, name, place),
            name in outputs,
        )

    return (
        op.qualified_type,
        tuple(sorted(op.attributes.items())),
        tuple(map(tensor, op.inputs)),
        tuple(map(tensor, op.outputs)),
    )


def _slot(maker: Operator, name: str) -> tuple[int]:
    return (maker.outputs.index(name),)  # a tuple, so that it is like no position among the inputs of the network


def _distance(places: Mapping[str, int], name: str, place: int) -> int | None:
    return places[name] - place if name in places else None
