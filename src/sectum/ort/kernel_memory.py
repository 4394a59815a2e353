"""What the kernels of the runtime read of a weight, and what memory they take while they run."""

from __future__ import annotations

import math

from sectum.graph.ir import Graph, Operator
from sectum.units import PAGE_BYTES

PACKED_TYPES = frozenset({"Gemm", "com.microsoft:FusedGemm", "MatMul", "com.microsoft:FusedMatMul"})

_PANEL_COLUMNS = 16
"""MLAS packs the right side of a float product into panels of this many columns."""

_STRIDE, _LEAST_STRIDE = 128, 16
"""MLAS unrolls images for a matrix product this many positions, and values of each, at a time; where there are fewer of
one it takes more of the other (``MlasConvOperation``)."""


def used_parts(op: Operator, runtime: Graph, nchwc_block: int) -> list[tuple[int, int]]:
    """Offset and size of the bytes of an operator's weight that it reads; what is less than a page apart is joined.

    The blocked layout keeps all taps of a kernel together for each block of input and output channels. On a map smaller
    than the kernel, as networks with small images have it, some taps only ever meet padding, and MLAS skips them.
    """
    n_bytes = stored_bytes(op, 1, runtime)
    shape = runtime.tensors[op.inputs[1]].shape
    if math.prod(shape[2:]) == 1:
        return [(0, n_bytes)]
    if op.qualified_type != "com.microsoft.nchwc:Conv" or len(shape) != 4 or shape[1] % nchwc_block:
        return [(0, n_bytes)]
    rows, columns = (_used_taps(op, runtime, axis) for axis in (0, 1))
    if len(rows) * len(columns) == shape[2] * shape[3]:
        return [(0, n_bytes)]
    tap_bytes = 4 * nchwc_block * nchwc_block
    block_bytes = tap_bytes * shape[2] * shape[3]
    starts = [(row * shape[3] + column) * tap_bytes for row in rows for column in columns]
    used: list[tuple[int, int]] = []
    for block in range(0, n_bytes, block_bytes):
        for start in starts:
            end = block + start + tap_bytes
            if used and block + start - sum(used[-1]) < PAGE_BYTES:
                used[-1] = (used[-1][0], end - used[-1][0])
            else:
                used.append((block + start, tap_bytes))
    return used


def _used_taps(op: Operator, runtime: Graph, axis: int) -> list[int]:
    """Positions of a kernel, along one axis, that meet the map for some output."""
    size, out = (runtime.tensors[name].shape[2 + axis] for name in (op.inputs[0], op.outputs[0]))
    stride, dilation, pad = (_at(op, name, axis, default) for name, default in _WINDOW)
    taps = runtime.tensors[op.inputs[1]].shape[2 + axis]
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


def stored_bytes(op: Operator, position: int, runtime: Graph) -> int:
    """Bytes of the weight at an input's position, as the runtime stores it for that operator."""
    name = op.inputs[position]
    tensor = runtime.tensors[name]
    packed = position == 1 and op.qualified_type in PACKED_TYPES
    if not packed or len(tensor.shape) != 2 or tensor.dtype != "float32":
        return runtime.n_bytes[name]
    rows, columns = tensor.shape
    if op.attributes.get("transB", 0):
        rows, columns = columns, rows
    return 4 * rows * (-(-columns // _PANEL_COLUMNS) * _PANEL_COLUMNS)


def scratch_bytes(op: Operator, runtime: Graph, threads: int) -> tuple[int, ...]:
    """Sizes of the allocations that a kernel takes from the arena while it runs."""
    if op.qualified_type == "LRN":
        shape = runtime.tensors[op.inputs[0]].shape
        squares = runtime.tensors[op.inputs[0]].n_bytes
        size = op.attributes.get("size", 1)
        extra_channels = size - 1 if isinstance(size, int) else 0
        padded = 4 * (shape[1] + extra_channels) * math.prod(shape[2:])  # of one image
        return squares, padded
    if op.qualified_type in ("Conv", "com.microsoft:FusedConv"):
        return _convolution_scratch_bytes(op, runtime, threads)
    return ()


def _convolution_scratch_bytes(op: Operator, runtime: Graph, threads: int) -> tuple[int, ...]:
    """Of a convolution outside the blocked layout: images are unrolled for a matrix product unless it is pointwise."""
    weight, out = runtime.tensors[op.inputs[1]].shape, runtime.tensors[op.outputs[0]].shape
    strides, pads = op.attributes.get("strides", ()), op.attributes.get("pads", ())
    moved = [v for values in (strides, pads) if isinstance(values, tuple) for v in values]
    if math.prod(weight[2:]) == 1 and all(v in (0, 1) for v in moved) and not (isinstance(pads, tuple) and any(pads)):
        return ()
    group = op.attributes.get("group", 1)
    filters = weight[0] // (group if isinstance(group, int) else 1)
    positions = math.prod(out[2:])
    if filters > positions:
        return (4 * positions * math.prod(weight[1:]),)
    return (4 * threads * math.prod(unrolled(math.prod(weight[1:]), -(-positions // threads))),)


def unrolled(values: int, positions: int) -> tuple[int, int]:
    """Values and positions of an image that are unrolled together."""
    most_values = most_positions = _STRIDE
    if positions >= values:
        while most_values // 2 >= values:
            most_values, most_positions = most_values // 2, most_positions * 2
    else:
        while most_positions > _LEAST_STRIDE and most_positions // 2 >= positions:
            most_values, most_positions = most_values * 2, most_positions // 2
    return min(values, most_values), min(positions, most_positions)
