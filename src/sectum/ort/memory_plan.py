"""Where ONNX Runtime places activations: which share a buffer, and at which offset of the one block it allocates.

Two planners follow each other in the graph. The allocation planner decides, walking the operators in order,
whether an output takes over a buffer: an input's, where the kernel works in place or only renames, or that of a
dead tensor of the same shape. The memory-pattern planner then lays out the buffers that remain in one block, best
fit first, as they were allocated and freed in the first inference. Rules learned from
onnxruntime/core/framework/allocation_planner.cc, mem_pattern_planner.h and execution_frame.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sectum.graph.ir import DTYPE_BYTES, Operator, Tensor, TensorKind
from sectum.ort.operators import describe
from sectum.ort.optimized import OptimizedGraph

# Every buffer's size is rounded up to this (kAllocAlignment).
ALIGNMENT_BYTES = 256


class Storage(StrEnum):
    """Where a tensor's bytes are."""

    PATTERN = "pattern"  # at an offset of the block that is allocated for every inference
    OUTPUT = "output"  # in an allocation of its own, handed to the caller
    CALLER = "caller"  # given by the caller: a graph input, or another name for one
    WEIGHT = "weight"  # another name for a weight


class Placement(NamedTuple):
    """Where one activation is.

    Attributes:
        storage: kind of buffer.
        buffer: name of the tensor that the buffer was made for; tensors with the same buffer share bytes.
        offset_bytes: where in the block the buffer begins; 0 outside the pattern block.
        n_bytes: size of the buffer, rounded up to `ALIGNMENT_BYTES`.
    """

    storage: Storage
    buffer: str
    offset_bytes: int
    n_bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """Where the activations of a graph are.

    Attributes:
        placements: by name of the tensor, for all graph inputs and all that operators make.
        block_bytes: size of the one block that holds all tensors with storage `Storage.PATTERN`.
        output_bytes: sum of the separately allocated graph outputs.
    """

    placements: Mapping[str, Placement]
    block_bytes: int
    output_bytes: int


def memory_plan(graph: OptimizedGraph) -> MemoryPlan:
    """Place the activations of a graph as ONNX Runtime's CPU provider does with static shapes.

    Args:
        graph: what the runtime executes, in its order.

    Returns:
        The plan of the second and all later inferences; the first one allocates tensor by tensor. It is exact for
        the given order of operators, which the runtime may vary from session to session: see `sectum.ort.optimize`.
    """
    buffers, made_by = share_buffers(graph)
    offsets, block_bytes = _offsets(graph, buffers, made_by)
    placements: dict[str, Placement] = {}
    outputs = set(graph.outputs)
    tensors = graph.tensors
    for name, buffer in buffers.items():
        n_bytes = _aligned(graph.n_bytes[buffer])
        if buffer in offsets:
            placement = Placement(Storage.PATTERN, buffer, offsets[buffer], n_bytes)
        elif tensors[buffer].kind is TensorKind.WEIGHT:
            placement = Placement(Storage.WEIGHT, buffer, 0, n_bytes)
        elif buffer in outputs and buffer in made_by:
            placement = Placement(Storage.OUTPUT, buffer, 0, n_bytes)
        else:
            placement = Placement(Storage.CALLER, buffer, 0, n_bytes)
        placements[name] = placement
    output_bytes = sum(_aligned(graph.n_bytes[name]) for name in outputs if name in made_by)
    return MemoryPlan(placements, block_bytes, output_bytes)


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def share_buffers(graph: OptimizedGraph) -> tuple[dict[str, str], dict[str, int]]:
    """Plan as the allocation planner does.

    Returns:
        For each tensor the one whose buffer it uses, and for each buffer the index of the operator that makes it.
    """
    tensors = graph.tensors
    outputs = set(graph.outputs)
    uses = _use_counts(graph, outputs)
    buffers = {name: name for name in graph.inputs}
    made_by: dict[str, int] = {}
    free: dict[tuple[tuple[int, ...], int], list[str]] = {}  # dead buffers by shape, most recently freed last
    weight = TensorKind.WEIGHT
    for index, op in enumerate(graph.operators):
        for slot, name in enumerate(op.outputs):
            if not name:
                continue
            reused = None
            if name not in outputs:
                if not slot:
                    reused = _reusable_input(graph, op, buffers, uses)
                if reused is None and tensors[name].shape and (dead := free.get(_size_class(tensors[name]))):
                    reused = dead.pop()
            if reused is None:
                buffers[name] = name
                made_by[name] = index
            else:
                buffers[name] = reused
                uses[reused] = uses.get(reused, 0) + uses[name]
        for name in (*op.inputs, *op.outputs):
            if name and tensors[name].kind is not weight:
                buffer = buffers[name]
                uses[buffer] -= 1
                if not uses[buffer] and tensors[buffer].kind is not weight and tensors[buffer].dtype != "string":
                    free.setdefault(_size_class(tensors[buffer]), []).append(buffer)
    return buffers, made_by


def _size_class(tensor: Tensor) -> tuple[tuple[int, ...], int]:
    """Tell apart what the planner does: shapes dimension by dimension, not bytes. Strings share with nobody."""
    return tensor.shape, DTYPE_BYTES[tensor.dtype] if tensor.dtype != "string" else -1


def _use_counts(graph: OptimizedGraph, outputs: set[str]) -> dict[str, int]:
    """Count how often each tensor is made, read, or held by the caller."""
    uses = dict(graph.lifetimes.readers)
    for name in (*graph.inputs, *graph.lifetimes.written, *outputs):
        uses[name] = uses.get(name, 0) + 1
    return uses


def _reusable_input(
    graph: OptimizedGraph, op: Operator, buffers: Mapping[str, str], uses: Mapping[str, int]
) -> str | None:
    """Find the buffer of an input that the kernel renames or overwrites."""
    row = describe(op)
    if row.renames:
        source = op.inputs[0]
        return buffers.get(source, source)
    position = row.overwrites
    if position is None or position >= len(op.inputs):
        return None
    source = op.inputs[position]
    buffer = buffers.get(source)
    tensors = graph.tensors
    if buffer is not None and uses[buffer] == 1 and _size_class(tensors[source]) == _size_class(tensors[op.outputs[0]]):
        return buffer
    return None


def _offsets(
    graph: OptimizedGraph, buffers: Mapping[str, str], made_by: Mapping[str, int]
) -> tuple[dict[str, int], int]:
    """Plan as the memory-pattern planner does.

    Returns:
        The offsets of the buffers in the block, and the block's size.
    """
    tensors = graph.tensors
    outputs = set(graph.outputs)
    last_read: dict[str, int] = {}
    for name, index in graph.lifetimes.last_read.items():
        buffer = buffers[name]
        last_read[buffer] = max(index, last_read.get(buffer, index))
    released: dict[int, list[str]] = {}
    for buffer, index in last_read.items():
        released.setdefault(index, []).append(buffer)
    offsets: dict[str, int] = {}
    placed: list[tuple[int, int, str]] = []  # offset, size, buffer: sorted by offset
    block_bytes = 0
    for index, op in enumerate(graph.operators):
        for name in op.outputs:
            if made_by.get(name) != index or name in outputs or tensors[name].dtype == "string":
                continue
            size = _aligned(graph.n_bytes[name])
            offset, position = _best_fit(placed, size, block_bytes)
            offsets[name] = offset
            if size:
                placed.insert(position, (offset, size, name))
                block_bytes = max(block_bytes, offset + size)
        if index in released:
            dead = released[index]
            placed = [entry for entry in placed if entry[2] not in dead]
    return offsets, block_bytes


def _best_fit(placed: list[tuple[int, int, str]], size: int, block_bytes: int) -> tuple[int, int]:
    """Find the gap that leaves the least waste, else the end.

    Returns:
        The offset, and the position in the list, which is sorted by offset.
    """
    if not size:
        return 0, 0
    end = 0
    best: tuple[int, int, int] | None = None  # waste, offset, position
    for position, (offset, length, _) in enumerate(placed):
        waste = offset - end - size
        if waste >= 0 and (best is None or waste < best[0]):
            best = (waste, end, position)
        end = offset + length
    # What an earlier, larger layout left free behind the last buffer is a gap like the others.
    waste = block_bytes - end - size
    if best is None or 0 <= waste < best[0]:
        return end, len(placed)
    return best[1:]
