"""Where a plan's buffers, weights and activations lie in the enclave, and which pages an inference touches."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sectum.ort.memory_plan import ALIGNMENT_BYTES as BLOCK_ALIGNMENT_BYTES
from sectum.ort.optimized import OptimizedGraph
from sectum.paging.replacement import Touch
from sectum.plan.rows import Division
from sectum.plan.stage_memory import StageMemory
from sectum.plan.stages import PlannedStage
from sectum.units import PAGE_BYTES, pages

RUNTIME_BYTES = 1 << 20
"""What the process itself touches in each inference beside the model."""

_ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Layout:
    """The memory of a plan.

    Attributes:
        buffer_bytes: of each buffer.
        resident_weight_bytes: weights that stay.
        arena_bytes: memory of activations.
        input_bytes: of the network's inputs.
        activation_bytes: of activations alive at once in each stage, scratch memory included.
        touches: pages of one inference, in order; ``operator`` is the stage.
    """

    buffer_bytes: tuple[int, ...]
    resident_weight_bytes: int
    arena_bytes: int
    input_bytes: int
    activation_bytes: tuple[int, ...]
    touches: tuple[Touch, ...]

    @property
    def working_set_bytes(self) -> int:
        """All that one inference touches."""
        parts = (*self.buffer_bytes, self.resident_weight_bytes, self.arena_bytes, self.input_bytes, RUNTIME_BYTES)
        return PAGE_BYTES * sum(map(pages, parts))


class _Arena:
    """Hands out the lowest addresses that are free, as native/streaming/allocator.c does."""

    def __init__(self) -> None:
        self._used: list[tuple[int, int]] = []
        self.most = 0

    def take(self, n_bytes: int) -> tuple[int, int]:
        """A free piece: its address and its size."""
        size = -(-max(1, n_bytes) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        start = 0
        for address, used in self._used:
            if address - start >= size:
                break
            start = address + used
        insort(self._used, (start, size))
        self.most = max(self.most, start + size)
        return start, size

    @property
    def used(self) -> int:
        """Bytes in use."""
        return sum(size for _, size in self._used)

    def give_back(self, piece: tuple[int, int]) -> None:
        """Free a piece."""
        self._used.remove(piece)


def lay_out(
    graph: OptimizedGraph,
    stages: Sequence[PlannedStage],
    buffers: int,
    threads: int,
    memory: StageMemory | None = None,
) -> Layout:
    """Lay out the memory of a plan in the steady state.

    Args:
        graph: what the runtime executes.
        stages: of the plan.
        buffers: that streamed weights are opened into, in turn.
        threads: that compute.
        memory: of stages of this graph with so many threads, where it is kept.
    """
    memory = memory or StageMemory(graph, threads)
    streamed = [number for number, stage in enumerate(stages) if stage.streamed]
    sizes = [max([stages[n].weight_bytes for n in streamed[place::buffers]], default=0) for place in range(buffers)]
    starts, end = [], pages(RUNTIME_BYTES)
    for size in sizes:
        starts.append(end)
        end += pages(size)
    weights_at: dict[int, int] = {}
    for number, stage in enumerate(stages):
        if stage.streamed:
            weights_at[number] = starts[streamed.index(number) % buffers]
        else:
            weights_at[number] = end
            end += pages(stage.weight_bytes)
    inputs_at = end
    input_bytes = sum(graph.n_bytes[name] for name in graph.inputs)
    end += pages(input_bytes)
    arena = _Arena()
    touches: list[Touch] = [Touch(0, 0, pages(RUNTIME_BYTES))]
    alive: list[int] = []
    carried: dict[str, tuple[int, int]] = {}
    last_read = last_reads(graph, stages)
    reading_inputs = {last_read[name] for name in graph.inputs if name in last_read}
    for number, stage in enumerate(stages):
        if stage.weight_bytes:
            touches.append(Touch(number, weights_at[number], pages(stage.weight_bytes)))
        if number in reading_inputs:
            touches.append(Touch(number, inputs_at, pages(input_bytes)))
        read = read_by(graph, stages, number)
        pieces = [piece for name, piece in carried.items() if last_read.get(name, -1) >= number and name in read]
        if stage.division is not None:
            made, passing = _divided(stage.division, number, last_read, memory, arena, carried)
        else:
            made, passing = _whole(graph, stage, memory, arena)
        carried |= made
        alive.append(arena.used)
        pieces += [*made.values(), *passing]
        touches += [_touch(number, end, piece) for piece in pieces]
        for piece in passing:
            arena.give_back(piece)
        for name in [name for name in carried if last_read.get(name, -1) <= number]:
            arena.give_back(carried.pop(name))
    resident = sum(stage.weight_bytes for stage in stages if not stage.streamed)
    touched = tuple(touch for touch in touches if touch.n_pages)
    return Layout(tuple(sizes), resident, arena.most, input_bytes, tuple(alive), touched)


def _touch(stage: int, first_page: int, piece: tuple[int, int]) -> Touch:
    address, n_bytes = piece
    first, last = address // PAGE_BYTES, (address + n_bytes - 1) // PAGE_BYTES
    return Touch(stage, first_page + first, last - first + 1)


def last_reads(graph: OptimizedGraph, stages: Sequence[PlannedStage]) -> dict[str, int]:
    """For each value, the last stage that reads it; results of the network are read after the last."""
    last: dict[str, int] = {}
    for number, stage in enumerate(stages):
        for op in graph.operators[stage.first : stage.last + 1]:
            last.update(dict.fromkeys(filter(None, op.inputs), number))
        if stage.channels is not None:
            last.update(dict.fromkeys(_parts_before(graph, stages, number), number))
    return last | dict.fromkeys(graph.outputs, len(stages))


def _parts_before(graph: OptimizedGraph, stages: Sequence[PlannedStage], number: int) -> list[str]:
    """What the earlier parts of the same operator have made."""
    stage = stages[number]
    result = graph.operators[stage.first].result
    earlier = (one for one in stages[:number] if one.first == stage.first)
    return [_name_of_part(result, one.channels) for one in earlier]


def _name_of_part(result: str, channels: tuple[int, int] | None) -> str:
    return f"{result} {channels}"


def read_by(graph: OptimizedGraph, stages: Sequence[PlannedStage], number: int) -> frozenset[str]:
    """Activations that a stage reads."""
    stage = stages[number]
    operators = graph.operators[stage.first : stage.last + 1]
    names = {name for op in operators for name in op.inputs if name and name not in graph.weight_names}
    return frozenset(names if stage.channels is None else names.union(_parts_before(graph, stages, number)))


_Pieces = tuple[dict[str, tuple[int, int]], list[tuple[int, int]]]
"""Memory that a stage takes: of what it hands on, and what is free again after it."""


def _whole(graph: OptimizedGraph, stage: PlannedStage, memory: StageMemory, arena: _Arena) -> _Pieces:
    """Take the memory of a stage that is not divided by rows, in the order in which the runtime does."""
    scratch_bytes = memory.scratch_bytes(stage.first, stage.last)
    if stage.channels is None:
        block_bytes, makes = memory.of_operators(stage.first, stage.last)
    else:
        block_bytes, makes = _of_channels(graph, stage)
    passing = [arena.take(block_bytes)] if block_bytes else []
    made = {name: arena.take(n_bytes) for name, n_bytes in makes.items()}
    passing += [arena.take(scratch_bytes)] if scratch_bytes else []
    return made, passing


def _divided(
    division: Division, number: int, last_read: Mapping[str, int], memory: StageMemory, arena: _Arena,
    carried: dict[str, tuple[int, int]],
) -> _Pieces:  # fmt: skip
    """Take the memory of a stage that is divided by rows; a result may take over that of a source."""
    over = division.over(last_read, number)
    made = {
        name: carried.pop(over[name]) if name in over else arena.take(division.graph.n_bytes[name])
        for name in division.results
    }
    return made, [arena.take(n_bytes) for n_bytes in memory.of_division(division).pieces if n_bytes]


def _of_channels(graph: OptimizedGraph, stage: PlannedStage) -> tuple[int, dict[str, int]]:
    """A part of an operator hands on its channels; the last part joins all of them."""
    begin, end = stage.channels or (0, 0)
    name = graph.operators[stage.first].result
    whole = graph.n_bytes[name]
    own = whole * (end - begin) // max(1, stage.of_channels)
    if end < stage.of_channels:
        return 0, {_name_of_part(name, stage.channels): own}
    return -(-own // BLOCK_ALIGNMENT_BYTES) * BLOCK_ALIGNMENT_BYTES, {name: whole}
