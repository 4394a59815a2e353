"""How the runtime's kernels store weights, and which parts of them they read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.byte_kernels import (
    PANEL_COLUMNS,
    conv_groups,
    in_taps,
    is_depthwise,
    multiplies_integers,
    packed_bytes,
    whole,
)
from sectum.ort.optimized import OptimizedGraph
from sectum.units import PAGE_BYTES

Parts = list[tuple[int, int]]
"""Offset and size in bytes of the pieces of a weight, in order."""


class Packing(NamedTuple):
    """How a kernel stores its own copy of a weight; the first copy is freed.

    Attributes:
        n_bytes: size of the copy; None where the kernel keeps the weight as it is.
        in_arena: whether the copy lies in the arena, which is paged however small the copy is.
    """

    n_bytes: Callable[[Operator, int, OptimizedGraph], int | None]
    in_arena: bool = False


def _float_panels(op: Operator, position: int, graph: Dataflow) -> int | None:
    tensor = graph.tensors[op.inputs[position]]
    if len(tensor.shape) != 2 or tensor.dtype != "float32":
        return None
    rows, columns = tensor.shape
    if op.attributes.get("transB", 0):
        rows, columns = columns, rows
    return 4 * rows * whole(columns, PANEL_COLUMNS)


def _recurrent_panels(op: Operator, position: int, graph: Dataflow) -> int | None:
    tensor = graph.tensors[op.inputs[position]]
    if len(tensor.shape) != 3 or tensor.dtype != "float32":
        return None
    directions, columns, rows = tensor.shape
    return 4 * directions * rows * whole(columns, PANEL_COLUMNS)


def _byte_panels(op: Operator, position: int, graph: OptimizedGraph) -> int | None:
    shape = graph.tensors[op.inputs[position]].shape
    if len(shape) not in (2, 3):
        return None
    *directions, depth, columns = shape
    if op.attributes.get("transB", 0):
        depth, columns = columns, depth
    return math.prod(directions) * packed_bytes(op, position, graph, depth, columns)


def _byte_filters(op: Operator, position: int, graph: OptimizedGraph) -> int | None:
    filters, channels, *kernel = graph.tensors[op.inputs[position]].shape
    taps, groups = math.prod(kernel), conv_groups(op)
    if is_depthwise(op, graph):
        return filters * taps
    if in_taps(op, graph):
        return whole(filters, PANEL_COLUMNS) * channels * taps
    return groups * packed_bytes(op, position, graph, channels * taps, filters // groups)


def _four_bit_blocks(op: Operator, position: int, graph: OptimizedGraph) -> int | None:
    columns, blocks = graph.tensors[op.inputs[position]].shape[:2]
    scales_and_sums = 4 * blocks * (columns + whole(columns, PANEL_COLUMNS)) if multiplies_integers(op) else 0
    return graph.n_bytes[op.inputs[position]] + scales_and_sums


def _as_large(op: Operator, position: int, graph: Dataflow) -> int | None:
    return graph.n_bytes[op.inputs[position]]


FLOAT_PANELS = Packing(_float_panels)
"""Of a float matrix."""
RECURRENT_PANELS = Packing(_recurrent_panels)
"""Of the weights of a recurrent layer: ``[directions, gates x hidden, inputs]``."""
BYTE_PANELS = Packing(_byte_panels)
"""Of a matrix of bytes, or one for each direction."""
BYTE_FILTERS = Packing(_byte_filters, in_arena=True)
"""Of the filters of a QLinearConv."""
FOUR_BIT_BLOCKS = Packing(_four_bit_blocks)
"""Of a weight of 4 bits: its blocks, and if they are multiplied by bytes, the scale and the sum of each."""
REARRANGED = Packing(_as_large, in_arena=True)
"""A copy of the same size."""

PartsRead = Callable[[Operator, OptimizedGraph, int, int], Parts]
"""Of a weight at an input's position, stored in so many bytes, the parts that the operator reads."""


def whole_weight(op: Operator, graph: OptimizedGraph, position: int, n_bytes: int) -> Parts:  # noqa: ARG001
    """All of it."""
    return [(0, n_bytes)]


def four_bit_inputs(op: Operator, graph: OptimizedGraph, position: int, n_bytes: int) -> Parts:
    """All of them, but not the scales of blocks that were packed with scales."""
    return [] if position == 2 and multiplies_integers(op) else whole_weight(op, graph, position, n_bytes)


def gathered_rows(op: Operator, graph: OptimizedGraph, position: int, n_bytes: int) -> Parts:
    """The rows of a table that an inference is expected to read.

    Where indices are known, these are the rows. Where they are not, they are taken to be independent and equally
    distributed, and the rows that they are expected to hit to lie at equal distances.
    """
    table, indices = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
    deep = (indices.shape[-1] if indices.shape else 1) if op.type == "GatherND" else 1
    axis = op.attributes.get("axis", 0)
    if position or not table.elements or not isinstance(axis, int) or not 0 < deep <= len(table.shape):
        return [(0, n_bytes)]
    axis %= len(table.shape)
    if op.attributes.get("batch_dims", 0) != 0:
        return [(0, n_bytes)]
    tables, rows = math.prod(table.shape[:axis]), math.prod(table.shape[axis : axis + deep])
    if op.type == "Gather" and indices.value is not None:
        chosen = sorted(set((indices.value.astype(np.int64) % rows).ravel().tolist()))
    else:
        chosen = _drawn_rows(rows, indices.elements // deep, n_bytes // tables)
    row_bytes = n_bytes // (tables * rows)
    starts = [(number * rows + row) * row_bytes for number in range(tables) for row in chosen]
    return _joined([(start, row_bytes) for start in starts])


def embedded_rows(op: Operator, graph: OptimizedGraph, position: int, n_bytes: int) -> Parts:
    """The rows of the tables of words, positions and segments that an EmbedLayerNormalization is expected to read."""
    table, ids = graph.tensors[op.inputs[position]], graph.tensors[op.inputs[0]]
    if len(table.shape) != 2:
        return [(0, n_bytes)]
    row_bytes = n_bytes // table.shape[0]
    chosen = _drawn_rows(table.shape[0], ids.elements, n_bytes)
    return _joined([(row * row_bytes, row_bytes) for row in chosen])


def _drawn_rows(rows: int, draws: int, n_bytes: int) -> list[int]:
    """As many rows of a table, at equal distances, as random draws are expected to hit; a page counts once."""
    units = -(-n_bytes // max(n_bytes // rows, PAGE_BYTES))
    hit = round(-units * math.expm1(draws * math.log1p(-1 / units))) if units > 1 else 1
    if hit >= units:
        return list(range(rows))
    return [index * rows // hit for index in range(hit)] or [0]


def used_taps(op: Operator, graph: OptimizedGraph, position: int, n_bytes: int) -> Parts:
    """The taps of a blocked convolution's kernel that meet the map.

    The blocked layout keeps all taps of a kernel together for each block of input and output channels. On a map smaller
    than the kernel, as networks with small images have it, some taps only ever meet padding, and MLAS skips them.
    """
    nchwc_block = graph.cpu.nchwc_block
    shape = graph.tensors[op.inputs[1]].shape
    if position != 1 or math.prod(shape[2:]) == 1 or len(shape) != 4 or shape[1] % nchwc_block:
        return [(0, n_bytes)]
    rows, columns = (_used_taps(op, graph, axis) for axis in (0, 1))
    if len(rows) * len(columns) == shape[2] * shape[3]:
        return [(0, n_bytes)]
    tap_bytes = 4 * nchwc_block * nchwc_block
    block_bytes = tap_bytes * shape[2] * shape[3]
    starts = [(row * shape[3] + column) * tap_bytes for row in rows for column in columns]
    return _joined([(block + start, tap_bytes) for block in range(0, n_bytes, block_bytes) for start in starts])


def _joined(parts: Parts) -> Parts:
    """Join pieces that are less than a page apart."""
    used: Parts = []
    for start, size in parts:
        if used and start - sum(used[-1]) < PAGE_BYTES:
            used[-1] = (used[-1][0], start + size - used[-1][0])
        else:
            used.append((start, size))
    return used


def _used_taps(op: Operator, graph: Dataflow, axis: int) -> list[int]:
    """Positions of a kernel, along one axis, that meet the map for some output."""
    size, out = (graph.tensors[name].shape[2 + axis] for name in (op.inputs[0], op.outputs[0]))
    stride, dilation, pad = (_at(op, name, axis, default) for name, default in _WINDOW)
    taps = graph.tensors[op.inputs[1]].shape[2 + axis]
    used = []
    for tap in range(taps):
        at_first = tap * dilation - pad  # its position for the first output
        first = max(0, -(at_first // stride))  # output for which it is not before the map
        if first < out and first * stride + at_first < size:
            used.append(tap)
    return used


_WINDOW = (("strides", 1), ("dilations", 1), ("pads", 0))


def _at(op: Operator, name: str, axis: int, default: int) -> int:
    value = op.attributes.get(name)
    return int(value[axis]) if isinstance(value, tuple) and len(value) > axis else default
