"""What a plan is made of: operators with their stored weights, and the parts that large ones are divided into."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sectum.graph.ir import Operator
from sectum.ort.operators import describe
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.weight_memory import whole_weight
from sectum.plan.rows import Division
from sectum.units import PAGE_BYTES, pages

ALIGNMENT_BYTES = 64
"""Weights lie at multiples of this."""

_PANEL_COLUMNS = 16  # the runtime packs the right side of a product into panels of so many columns
_GEMM, _MATMUL, _BLOCKED_CONV = (
    frozenset({"Gemm", "com.microsoft:FusedGemm"}),
    frozenset({"MatMul", "com.microsoft:FusedMatMul"}),
    frozenset({"com.microsoft.nchwc:Conv"}),
)


@dataclass(frozen=True, slots=True)
class Unit:
    """An operator, some output channels of one, or operators that are divided by rows. Stages have whole units.

    Attributes:
        operator: its position, or that of the first of several.
        channels: from, and up to but without; None for the whole operator.
        weight_bytes: of its weights as its kernel stores them; of tables, of the pages that are read.
        compute_ms: time of its arithmetic in the enclave.
        must_stay: whether its weights cannot be streamed, because it reads few of them or they fit into no buffer.
        division: of several operators, how they are divided by rows.
    """

    operator: int
    channels: tuple[int, int] | None
    weight_bytes: int
    compute_ms: float
    must_stay: bool
    division: Division | None = None

    @property
    def last(self) -> int:
        """Position of its last operator."""
        return self.operator if self.division is None else self.operator + len(self.division.operators) - 1

    @property
    def alone(self) -> bool:
        """Whether it is a stage of its own."""
        return self.channels is not None or self.division is not None


def stored_weights(op: Operator, graph: OptimizedGraph) -> dict[str, int]:
    """Bytes of each weight of an operator as its kernel stores it, by the weight's name."""
    row, weights = describe(op), graph.weight_names
    stored: dict[str, int] = {}
    for position, name in enumerate(op.inputs):
        if not name or name not in weights:
            continue
        packed = row.packs[position].n_bytes(op, position, graph) if position in row.packs else None
        n_bytes = graph.n_bytes[name] if packed is None else packed
        stored[name] = max(stored.get(name, 0), -(-n_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
    return stored


def touched_bytes(op: Operator, graph: OptimizedGraph) -> int:
    """Bytes of the pages that an operator reads of its weights: of tables only some rows."""
    row, stored = describe(op), stored_weights(op, graph)
    if row.reads is whole_weight or op.qualified_type in _BLOCKED_CONV:  # of a kernel nearly all taps are read
        return sum(stored.values())
    total = 0
    for name, n_bytes in stored.items():
        parts = row.reads(op, graph, op.inputs.index(name), n_bytes)
        total += min(n_bytes, sum(PAGE_BYTES * pages(start % PAGE_BYTES + size) for start, size in parts))
    return total


def packed_inputs(op: Operator, graph: OptimizedGraph) -> list[int]:
    """Positions of the inputs of which the operator's kernel keeps a copy of its own, and not the weight itself."""
    row, weights = describe(op), graph.weight_names
    return [
        position
        for position, packing in row.packs.items()
        if position < len(op.inputs)
        and op.inputs[position] in weights
        and packing.n_bytes(op, position, graph) is not None
    ]


class WeightSizes:
    """Bytes of the weights of a graph's operators, each looked up once: also for the same operators in another order.

    Args:
        graph: what the runtime executes.
    """

    def __init__(self, graph: OptimizedGraph) -> None:
        self._graph = graph
        self._known: dict[int, tuple[int, int]] = {}

    def of(self, op: Operator) -> tuple[int, int]:
        """Bytes that are stored, and bytes of the pages that the operator reads; it is one of the graph's own."""
        key = id(op)  # the graph holds it, so its id stays its own
        if key not in self._known:
            stored = sum(stored_weights(op, self._graph).values())
            self._known[key] = stored, touched_bytes(op, self._graph) if stored else 0
        return self._known[key]


def units(
    graph: OptimizedGraph,
    compute_ms: Sequence[float],
    buffer_bytes: int,
    divisions: Mapping[int, tuple[Division, float]],
    sizes: WeightSizes | None = None,
) -> list[Unit]:
    """The units of a network where a buffer holds so many bytes.

    Args:
        graph: what the runtime executes.
        compute_ms: time of each operator in the enclave, without paging.
        buffer_bytes: operators with larger weights are divided.
        divisions: by rows, by the first operator; with what their operators take.
        sizes: of the weights of these operators; None to look them up.
    """
    sizes = sizes or WeightSizes(graph)
    made: list[Unit] = []
    for index, op in enumerate(graph.operators):
        if made and index <= made[-1].last:
            continue
        if index in divisions:
            made.append(_divided(sizes, *divisions[index], buffer_bytes))
            continue
        weight_bytes, touched = sizes.of(op)
        if touched < weight_bytes:
            made.append(Unit(index, None, touched, compute_ms[index], must_stay=True))
            continue
        if weight_bytes <= buffer_bytes:
            made.append(Unit(index, None, weight_bytes, compute_ms[index], must_stay=False))
            continue
        parts = _parts(op, graph, weight_bytes, buffer_bytes)
        if not parts:
            made.append(Unit(index, None, weight_bytes, compute_ms[index], must_stay=True))
            continue
        channels = parts[-1][1]
        for begin, end in parts:
            share = (end - begin) / channels
            made.append(Unit(index, (begin, end), math.ceil(weight_bytes * share), compute_ms[index] * share, False))
    return made


def _divided(sizes: WeightSizes, division: Division, compute_ms: float, buffer_bytes: int) -> Unit:
    both = [sizes.of(op) for op in division.operators]
    stored, touched = (sum(column) for column in zip(*both, strict=True))
    must_stay = any(one != other for one, other in both) or stored > buffer_bytes
    return Unit(division.first, None, touched, compute_ms, must_stay, division)


def channels_of(op: Operator, graph: OptimizedGraph) -> int:
    """Output channels of an operator that can be divided by them; 0 for others."""
    kind, tensors, weights = op.qualified_type, graph.tensors, graph.weight_names
    out = tensors[op.result].shape
    if len(op.inputs) < 2 or op.inputs[1] not in weights or op.inputs[0] in weights or len(out) < 2:
        return 0
    weight = tensors[op.inputs[1]].shape
    if kind in _GEMM or kind in _MATMUL:
        transposed = bool(op.attributes.get("transB", 0))
        added = op.inputs[2] if kind in _GEMM and len(op.inputs) > 2 else ""
        if len(weight) != 2 or weight[0 if transposed else 1] != out[-1]:
            return 0
        if added and (added not in weights or not _along_columns(tensors[added].shape, out[-1])):
            return 0
        return out[-1]
    if kind in _BLOCKED_CONV:
        others = [name for name in op.inputs[2:3] if name]
        if op.attributes.get("group", 1) != 1 or weight[0] != out[1]:
            return 0
        if any(name not in weights or tensors[name].elements != out[1] for name in others):
            return 0
        return out[1]
    return 0


def channel_step(op: Operator, graph: OptimizedGraph) -> int:
    """Parts of an operator begin and end at multiples of so many channels: whole blocks or panels of its kernel."""
    return graph.cpu.nchwc_block if op.qualified_type in _BLOCKED_CONV else _PANEL_COLUMNS


def _along_columns(shape: tuple[int, ...], columns: int) -> bool:
    """Whether what is added to a product has one value, or one for each column."""
    return math.prod(shape) == 1 or (math.prod(shape) == columns and shape[-1] == columns)


def _parts(op: Operator, graph: OptimizedGraph, weight_bytes: int, buffer_bytes: int) -> list[tuple[int, int]]:
    """Equal parts of an operator whose weights fit into a buffer each; none if it cannot be divided so."""
    channels = channels_of(op, graph)
    if not channels:
        return []
    step = channel_step(op, graph)
    steps = -(-channels // step)
    step_bytes = math.ceil(weight_bytes / steps) + 4 * ALIGNMENT_BYTES
    fitting = buffer_bytes // step_bytes
    if not fitting:
        return []
    number = -(-steps // fitting)
    size = -(-steps // number) * step
    return [(begin, min(begin + size, channels)) for begin in range(0, channels, size)]
