"""Memory of the runtime's kernels: how they store weights, which parts of them they read, and their scratch memory."""

from __future__ import annotations

import math

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.optimized import OptimizedGraph
from sectum.units import PAGE_BYTES

_PANEL_COLUMNS = 16
"""MLAS packs the right side of a float product into panels of this many columns."""

_STRIDE, _LEAST_STRIDE = 128, 16
"""MLAS's im2col copies this many positions, and this many values of each, at a time; where there are fewer of one, it
copies more of the other (``MlasConvOperation``)."""


Parts = list[tuple[int, int]]
"""Offset and size of the bytes of a weight that an operator reads, in order; pieces are a page or more apart."""


def whole_weight(op: Operator, graph: OptimizedGraph, position: int, n_bytes: int) -> Parts:  # noqa: ARG001
    """All of the weight at an input's position."""
    return [(0, n_bytes)]


def gathered_rows(op: Operator, graph: OptimizedGraph, position: int, n_bytes: int) -> Parts:
    """Rows of a table that a Gather reads: one for each index. Which rows is not known: they are spread evenly."""
    shape, indices = graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].elements
    axis = op.attributes.get("axis", 0)
    if position != 0 or not isinstance(axis, int) or not n_bytes or indices >= shape[axis]:
        return [(0, n_bytes)]
    axis %= len(shape)
    tables, rows = math.prod(shape[:axis]), shape[axis]
    row_bytes = n_bytes // (tables * rows)
    read: Parts = []
    for table in range(tables):
        for index in range(indices):
            _append(read, (table * rows + rows * index // indices) * row_bytes, row_bytes)
    return read


def _append(parts: Parts, start: int, n_bytes: int) -> None:
    """Add a piece; join it with the last one where less than a page lies between."""
    if parts and start - sum(parts[-1]) < PAGE_BYTES:
        parts[-1] = (parts[-1][0], start + n_bytes - parts[-1][0])
    else:
        parts.append((start, n_bytes))


def used_taps(op: Operator, graph: OptimizedGraph, position: int, n_bytes: int) -> Parts:
    """Taps of the kernel of a blocked convolution that it reads.

    The blocked layout keeps all taps of a kernel together for each block of input and output channels. On a map smaller
    than the kernel, as networks with small images have it, some taps only ever meet padding, and MLAS skips them.
    """
    nchwc_block = graph.cpu.nchwc_block
    shape = graph.tensors[op.inputs[1]].shape
    if position != 1 or len(shape) != 4 or math.prod(shape[2:]) == 1 or shape[1] % nchwc_block:
        return [(0, n_bytes)]
    rows, columns = (_used_taps(op, graph, axis) for axis in (0, 1))
    if len(rows) * len(columns) == shape[2] * shape[3]:
        return [(0, n_bytes)]
    tap_bytes = 4 * nchwc_block * nchwc_block
    block_bytes = tap_bytes * shape[2] * shape[3]
    starts = [(row * shape[3] + column) * tap_bytes for row in rows for column in columns]
    used: Parts = []
    for block in range(0, n_bytes, block_bytes):
        for start in starts:
            _append(used, block + start, tap_bytes)
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


def stored_bytes(op: Operator, position: int, graph: Dataflow, *, packs: bool) -> int:
    """Bytes of the weight at an input's position, as the runtime stores it for that operator.

    Args:
        op: the operator.
        position: of the input.
        graph: that the operator is in.
        packs: whether the kernel packs the right side of its product into panels.
    """
    name = op.inputs[position]
    tensor = graph.tensors[name]
    if not packs or position != 1 or len(tensor.shape) != 2 or tensor.dtype != "float32":
        return graph.n_bytes[name]
    rows, columns = tensor.shape
    if op.attributes.get("transB", 0):
        rows, columns = columns, rows
    return 4 * rows * (-(-columns // _PANEL_COLUMNS) * _PANEL_COLUMNS)


def local_normalization_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a local response normalization: the squares of all images, and one image with padded channels."""
    source = graph.tensors[op.inputs[0]]
    size = op.attributes.get("size", 1)
    extra_channels = size - 1 if isinstance(size, int) else 0
    return source.n_bytes, 4 * (source.shape[1] + extra_channels) * math.prod(source.shape[2:])


def convolution_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:
    """Of a convolution in the plain layout: the im2col buffer of each thread, unless the convolution is pointwise."""
    weight, out = graph.tensors[op.inputs[1]].shape, graph.tensors[op.outputs[0]].shape
    strides, pads = op.attributes.get("strides", ()), op.attributes.get("pads", ())
    moved = [v for values in (strides, pads) if isinstance(values, tuple) for v in values]
    if math.prod(weight[2:]) == 1 and all(v in (0, 1) for v in moved) and not (isinstance(pads, tuple) and any(pads)):
        return ()
    group = op.attributes.get("group", 1)
    filters = weight[0] // (group if isinstance(group, int) else 1)
    positions = math.prod(out[2:])
    if filters > positions:
        return (4 * positions * math.prod(weight[1:]),)
    return (4 * threads * math.prod(im2col_block(math.prod(weight[1:]), -(-positions // threads))),)


def im2col_block(values: int, positions: int) -> tuple[int, int]:
    """Values and positions of an image that im2col copies at a time."""
    most_values = most_positions = _STRIDE
    if positions >= values:
        while most_values // 2 >= values:
            most_values, most_positions = most_values // 2, most_positions * 2
    else:
        while most_positions > _LEAST_STRIDE and most_positions // 2 >= positions:
            most_values, most_positions = most_values * 2, most_positions // 2
    return min(values, most_values), min(positions, most_positions)
