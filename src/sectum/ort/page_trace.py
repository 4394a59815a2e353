"""The page trace: the pages that one steady-state inference of an optimized graph touches, in order.

The rules come from traces of ONNX Runtime 1.31's allocations and of the pager's faults. Every weight is an allocation
of its own. Weights of matrix products are packed into panels, and the first copy is freed. All activations lie in one
block of the arena, at the offsets of the memory plan. Graph inputs are allocations of their own, and so is what MLAS
keeps for each thread. Graph outputs and scratch memory are chunks of the arena. Allocations under 64 KiB stay in the C
library's heap, which is not paged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from sectum.graph.ir import Operator
from sectum.ort.access_pattern import KernelMemory, Span, Spans, Weight, accesses, as_array
from sectum.ort.arena import BLOCK, ArenaLayout, arena_layout
from sectum.ort.memory_plan import MemoryPlan, Storage, memory_plan
from sectum.ort.operators import describe
from sectum.ort.optimized import OptimizedGraph
from sectum.paging.replacement import Touches, working_set_pages
from sectum.units import PAGE_BYTES, pages

MIN_PAGED_BYTES = 64 << 10
"""Smaller allocations are not in the region that is paged (``SOFTEPC_MIN_BYTES``)."""

DETAILED_SHARE = 0.25
"""Of the EPC: an operator that needs more is followed pass by pass. Of 13 cases of four networks of the onnx package
that page, the loads of 7 are within 5 % of those counted and all within 13 %; at one, of 6 and within 37 %."""


@dataclass(frozen=True, eq=False)
class PageTrace:
    """One inference as page touches.

    Attributes:
        touches: ranges of pages in the order of use; the operator indexes the runtime graph's operators.
        pages: distinct pages touched.
        weight_pages: that hold weights: those below this number.
        used_weight_pages: how many of these are touched.
        plan: where activations are.
    """

    touches: Touches
    pages: int
    weight_pages: int
    used_weight_pages: int
    plan: MemoryPlan = field(repr=False)
    _graph: OptimizedGraph = field(repr=False)
    _memories: Sequence[KernelMemory] = field(repr=False)

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """For each operator, all weights and the activations alive while it runs."""
        weight_bytes = self.weight_pages * PAGE_BYTES
        return tuple([weight_bytes + n_bytes for n_bytes in self._graph.lifetimes.live_bytes])

    def touches_under(self, epc_pages: int | None) -> Touches:
        """The touches that count with an EPC of that size.

        An operator that needs a small part of the EPC may be taken to touch its tensors one after the other, and
        each once. In what order a larger one goes through them decides what is left of them when the next one
        begins, so for those every pass is listed.
        """
        if epc_pages is None:
            return self.touches
        operators, _, n_pages = self.touches.T
        pages_of = np.bincount(operators, n_pages)
        parts, done = [], 0
        for operator in np.flatnonzero(pages_of > DETAILED_SHARE * epc_pages).tolist():
            memory = self._memories[operator]
            in_detail = accesses(memory, describe(memory.op).access)
            if in_detail is not None:
                start, stop = np.searchsorted(operators, [operator, operator + 1])
                parts += [self.touches[done:start], _touches(operator, as_array(in_detail(epc_pages * PAGE_BYTES)))]
                done = stop
        return np.concatenate([*parts, self.touches[done:]]) if parts else self.touches


def _touches(operators: int | NDArray[np.int64], spans: Spans) -> Touches:
    """The pages that spans lie in."""
    start, n_bytes = spans.T
    touches = np.empty((len(spans), 3), dtype=np.int64)
    touches[:, 0] = operators
    touches[:, 1] = start // PAGE_BYTES
    touches[:, 2] = (start + np.maximum(n_bytes, 1) - 1) // PAGE_BYTES - touches[:, 1] + 1
    return touches


class _Space:
    """Gives each allocation pages of its own, as the pager's region does."""

    def __init__(self, first_page: int) -> None:
        self.next_page = first_page
        self.first_page: dict[str, int] = {}
        self.in_arena: list[int] = []

    def allocate(self, name: str, n_bytes: int) -> int:
        """Address of the allocation of that name, made at its first mention."""
        if name not in self.first_page:
            self.first_page[name] = self.next_page
            self.next_page += pages(n_bytes)
        return self.first_page[name] * PAGE_BYTES


def page_trace(graph: OptimizedGraph, *, threads: int = 1) -> PageTrace:
    """Lay out memory as the runtime does and list what each operator touches: inputs, weights, scratch, outputs.

    Args:
        graph: what the runtime executes.
        threads: compute threads; each has scratch memory of its own.
    """
    weights = _Space(0)
    weight_spans = [_weight_spans(op, graph, weights) for op in graph.operators]
    plan = memory_plan(graph)
    scratch_bytes = [describe(op).scratch(op, graph, threads) for op in graph.operators]
    arena = arena_layout(graph, plan, scratch_bytes, weights.in_arena)
    first_page = weights.next_page
    buffers = _ThreadBuffers(graph, first_page + arena.n_pages, threads)
    activations = _Activations(graph, plan, arena, first_page, buffers.end_page)
    spans: list[Span] = []
    n_spans: list[int] = []
    memories: list[KernelMemory] = []
    for index, op in enumerate(graph.operators):
        read = activations.read_by(op)
        loaded = weight_spans[index]
        scratch = [
            Span(first_page * PAGE_BYTES + address, n_bytes)
            for address, n_bytes in zip(arena.scratch[index], scratch_bytes[index], strict=True)
        ]
        scratch += buffers.used_by(index)
        written = [span for name in op.outputs if name and (span := activations.span(name))]
        used = [*read.values(), *chain.from_iterable(loaded.values()), *scratch, *written]
        spans += used
        n_spans.append(len(used))
        memories.append(KernelMemory(op, graph, read, loaded, scratch, written))
    touches = _touches(np.arange(len(n_spans)).repeat(n_spans), as_array(spans))
    in_weights = touches[:, 1] < weights.next_page
    of_weights = working_set_pages(touches[in_weights])
    return PageTrace(
        touches=touches,
        pages=of_weights + working_set_pages(touches[~in_weights]),
        weight_pages=weights.next_page,
        used_weight_pages=of_weights,
        plan=plan,
        _graph=graph,
        _memories=memories,
    )


def _weight_spans(op: Operator, graph: OptimizedGraph, space: _Space) -> dict[int, Weight]:
    """The bytes that an operator reads of its weights, by position of the input."""
    weights, row = graph.weight_names, describe(op)
    spans: dict[int, Weight] = {}
    for position, name in enumerate(op.inputs):
        if name not in weights:
            continue
        packing = row.packs.get(position)
        packed_bytes = packing.n_bytes(op, position, graph) if packing else None
        n_bytes = graph.n_bytes[name] if packed_bytes is None else packed_bytes
        in_arena = packing is not None and packing.in_arena and packed_bytes is not None
        if n_bytes >= MIN_PAGED_BYTES or in_arena:
            if in_arena:
                space.in_arena.append(n_bytes)
            address = space.allocate(name if packed_bytes is None else f"{name} packed", n_bytes)
            used = row.reads(op, graph, position, n_bytes)
            spans[position] = [Span(address + start, size) for start, size in used]
    return spans


class _ThreadBuffers:
    """The memory that MLAS keeps for each thread: as large as the largest kernel asks for, and shared by all."""

    def __init__(self, graph: OptimizedGraph, first_page: int, threads: int) -> None:
        self._uses = [describe(op).buffer(op, graph) for op in graph.operators]
        n_bytes = max([use.n_bytes for use in self._uses if use], default=0)
        self._each = pages(n_bytes) if n_bytes >= MIN_PAGED_BYTES else 0
        self._starts = [
            (first_page + number * self._each) * PAGE_BYTES for number in range(threads if self._each else 0)
        ]
        self.end_page = first_page + len(self._starts) * self._each

    def used_by(self, index: int) -> list[Span]:
        """What an operator touches."""
        use = self._uses[index]
        return [Span(start + offset, size) for start in self._starts for offset, size in use.parts] if use else []


class _Activations:
    """Where activations lie: in the arena, and behind all else the inputs of the graph."""

    def __init__(
        self, graph: OptimizedGraph, plan: MemoryPlan, arena: ArenaLayout, first_page: int, end_page: int
    ) -> None:
        self._first = first_page * PAGE_BYTES
        self._inputs = _Space(end_page)
        self._graph, self._plan, self._arena = graph, plan, arena
        self._spans: dict[str, Span | None] = {}

    def span(self, name: str) -> Span | None:
        """Where an activation lies; None where it is not in the region."""
        if name not in self._spans:
            self._spans[name] = self._place(name)
        return self._spans[name]

    def read_by(self, op: Operator) -> dict[int, Span]:
        """Where the activations that an operator reads lie, by position of the input."""
        weights = self._graph.weight_names
        read: dict[int, Span] = {}
        for position, name in enumerate(op.inputs):
            if name and name not in weights and (span := self.span(name)) is not None:
                read[position] = span
        return read

    def _place(self, name: str) -> Span | None:
        placement = self._plan.placements[name]
        n_bytes = self._graph.n_bytes[name]
        storage = placement.storage
        if storage is Storage.PATTERN:
            # The arena grows by a megabyte and more at a time, so that even small tensors of the block are paged.
            return Span(self._first + self._arena.address[BLOCK] + placement.offset_bytes, n_bytes)
        if storage is Storage.OUTPUT:
            return Span(self._first + self._arena.address[placement.buffer], n_bytes)
        if storage is Storage.CALLER and placement.n_bytes >= MIN_PAGED_BYTES:
            return Span(self._inputs.allocate(placement.buffer, placement.n_bytes), n_bytes)
        return None
