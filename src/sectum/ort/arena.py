"""The runtime's arena: where activations, graph outputs and scratch memory lie in a steady-state inference.

A kernel gives its scratch memory back when it ends, so that later kernels, and graph outputs, get the same chunks.
Rules learned from onnxruntime/core/framework/bfc_arena.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sectum.ort.memory_plan import ALIGNMENT_BYTES, MemoryPlan, Storage
from sectum.ort.optimized import OptimizedGraph
from sectum.units import MIB, PAGE_BYTES, pages

_LARGE_OUTPUT_BYTES = 64 << 10
"""Only outputs of this size and more are likely to be given a chunk that was scratch memory."""

_FIRST_REGION_BYTES, _LARGEST_REGION_BYTES = 1 * MIB, 1024 * MIB
_BESIDE_WEIGHTS_BYTES = 256 << 10
"""Smaller scratch memory finds room in the first region, what is larger gets chunks of its own."""

BLOCK = "pattern block"


@dataclass(frozen=True)
class ArenaLayout:
    """Addresses within the arena.

    Attributes:
        address: of the block of activations (`BLOCK`) and of each graph output.
        scratch: for each operator, addresses of its scratch memory.
        n_pages: of the arena.
    """

    address: dict[str, int]
    scratch: list[list[int]]
    n_pages: int


def arena_layout(
    graph: OptimizedGraph, plan: MemoryPlan, scratch: Sequence[Sequence[int]], weights: Sequence[int]
) -> ArenaLayout:
    """Lay out the arena.

    Args:
        graph: what the runtime executes.
        plan: where its activations are.
        scratch: bytes of each operator's scratch memory.
        weights: bytes of the packed weights that lie in the arena; they stay there.
    """
    outputs = set(graph.outputs)
    kept = [name for op in graph.operators for name in op.outputs if name in outputs and _kept(plan, name)]
    if any(graph.n_bytes[name] >= _LARGE_OUTPUT_BYTES for name in kept):
        return _Inferences(graph, plan, scratch, weights).steady()
    return _chunk_by_number(plan, scratch, kept)


def _made(graph: OptimizedGraph, plan: MemoryPlan) -> list[list[str]]:
    """For each operator, the buffers that are allocated for it."""
    placements = plan.placements
    return [[name for name in op.outputs if name and placements[name].buffer == name] for op in graph.operators]


def _kept(plan: MemoryPlan, name: str) -> bool:
    return plan.placements[name].storage is Storage.OUTPUT


def _chunk_by_number(plan: MemoryPlan, scratch: Sequence[Sequence[int]], kept: Sequence[str]) -> ArenaLayout:
    """A chunk for the first buffers of all kernels, one for their second buffers, and so on; outputs apart."""
    sizes: dict[tuple[int, bool], int] = {}
    for buffers in scratch:
        for number, n_bytes in enumerate(buffers):
            key = (number, n_bytes >= _BESIDE_WEIGHTS_BYTES)
            sizes[key] = max(sizes.get(key, 0), n_bytes)
    end_page = pages(plan.block_bytes)
    first: dict[tuple[int, bool], int] = {}
    for key, n_bytes in sizes.items():
        first[key] = end_page * PAGE_BYTES
        end_page += pages(n_bytes)
    address = {BLOCK: 0}
    for name in kept:
        address[name] = end_page * PAGE_BYTES
        end_page += pages(plan.placements[name].n_bytes)
    starts = [[first[number, n >= _BESIDE_WEIGHTS_BYTES] for number, n in enumerate(buffers)] for buffers in scratch]
    return ArenaLayout(address, starts, end_page)


class _Chunks:
    """The arena's chunks: the smallest free one that fits is taken, and divided if it is twice as large or more."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []  # address, size; sorted
        self._used: dict[int, int] = {}
        self._starts: set[int] = set()  # of regions: chunks of two regions are never joined
        self._region_bytes = _FIRST_REGION_BYTES
        self.end = 0

    def take(self, n_bytes: int) -> int:
        n_bytes = max(-(-n_bytes // ALIGNMENT_BYTES), 1) * ALIGNMENT_BYTES
        fits = [(size, address) for address, size in self._free if size >= n_bytes]
        if not fits:
            fits = [self._extend(n_bytes)]
        size, address = min(fits)
        self._free.remove((address, size))
        if size >= 2 * n_bytes:
            self._free.append((address + n_bytes, size - n_bytes))
            size = n_bytes
        self._used[address] = size
        return address

    def give(self, address: int) -> None:
        joined: list[tuple[int, int]] = []
        for start, size in sorted([*self._free, (address, self._used.pop(address))]):
            if joined and sum(joined[-1]) == start and start not in self._starts:
                joined[-1] = (joined[-1][0], joined[-1][1] + size)
            else:
                joined.append((start, size))
        self._free = joined

    def _extend(self, n_bytes: int) -> tuple[int, int]:
        enough = n_bytes <= self._region_bytes
        while n_bytes > self._region_bytes:
            self._region_bytes *= 2
        size, address = self._region_bytes, self.end
        if enough:
            self._region_bytes = min(2 * self._region_bytes, _LARGEST_REGION_BYTES)
        self._free.append((address, size))
        self._starts.add(address)
        self.end += size
        return size, address


class _Inferences:
    """Runs inferences as the arena sees them: the first one tensor by tensor, the others with the block."""

    def __init__(
        self, graph: OptimizedGraph, plan: MemoryPlan, scratch: Sequence[Sequence[int]], weights: Sequence[int]
    ) -> None:
        self._graph, self._plan, self._scratch = graph, plan, scratch
        self._made = _made(graph, plan)
        self._chunks = _Chunks()
        for n_bytes in weights:
            self._chunks.take(n_bytes)
        last_read: dict[str, int] = {}
        for name, index in graph.lifetimes.last_read.items():
            buffer = plan.placements[name].buffer
            last_read[buffer] = max(index, last_read.get(buffer, index))
        self._released: dict[int, list[str]] = {}
        for buffer, index in last_read.items():
            self._released.setdefault(index, []).append(buffer)

    def steady(self) -> ArenaLayout:
        """The layout of the third inference, and of all later ones."""
        self._run(planned=False)
        self._run(planned=True)
        return self._run(planned=True)

    def _run(self, *, planned: bool) -> ArenaLayout:
        chunks, placements = self._chunks, self._plan.placements
        address: dict[str, int] = {}
        scratch: list[list[int]] = []
        if planned and self._plan.block_bytes:
            address[BLOCK] = chunks.take(self._plan.block_bytes)
        for index, (made, sizes) in enumerate(zip(self._made, self._scratch, strict=True)):
            for name in made:
                if _kept(self._plan, name) or not planned:
                    address[name] = chunks.take(placements[name].n_bytes)
            scratch.append([chunks.take(n_bytes) for n_bytes in sizes])
            for start in scratch[-1]:
                chunks.give(start)
            for name in self._released.get(index, ()):
                if not planned and name in address and not _kept(self._plan, name):
                    chunks.give(address.pop(name))
        for start in address.values():
            chunks.give(start)
        return ArenaLayout(address, scratch, pages(chunks.end))
