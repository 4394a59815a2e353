"""Products of 8-bit integers: which kernels MLAS takes for them, and what these keep beside the arena.

With AMX, MLAS multiplies unsigned by signed bytes in tiles (``qgemm_kernel_amx.cpp``). Weights are packed for a greater
depth, and the left operand is packed into a buffer of 161 KiB, one for each compute thread. Kernels without AMX have
buffers of less than 64 KiB, which are not paged. All other pairs of types take the same kernels with AMX as without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sectum.graph.ir import Operator
from sectum.ort.cpu import Cpu
from sectum.ort.optimized import OptimizedGraph

PANEL_COLUMNS = 16
"""MLAS packs the right side of a product into panels of this many columns."""

_PANEL_DEPTH, _TILE_DEPTH = 4, 64
"""Bytes of a column that are multiplied at a time."""

_TILE_ROWS, _PANEL_ROWS = 16, 32
"""Rows of the left side that a tile holds, and that are packed at a time."""
_PACKED_DEPTH, _PACKED_COLUMNS = 2048, 512
"""Depth and columns that are multiplied at a time, where the right side is a weight that was packed before."""
_DEPTH, _COLUMNS = 1024, 128
"""The same where the right side is packed in every inference."""
_TILES_BYTES = (_PANEL_ROWS + _COLUMNS) * _DEPTH + 4 * (_PANEL_ROWS + 2 * _COLUMNS)

_WIDENED_COLUMNS = 32
"""Columns of a weight of 4 bits that are widened to floats at a time."""


class ThreadBuffer(NamedTuple):
    """The memory that MLAS keeps for each compute thread (``MlasThreadedBufAlloc``), as one operator uses it.

    Attributes:
        n_bytes: that the kernel asks for. The buffer is as large as the largest kernel of a network asks for.
        parts: offset and size in bytes of what it touches.
    """

    n_bytes: int
    parts: tuple[tuple[int, int], ...]


UsesBuffer = Callable[[Operator, OptimizedGraph], ThreadBuffer | None]
"""How an operator uses the buffer; None where it does not."""


def no_buffer(op: Operator, graph: OptimizedGraph) -> None:  # noqa: ARG001
    """Not at all."""
    return


def whole(size: int, block: int) -> int:
    """The size in whole blocks."""
    return -(-size // block) * block


def _in_tiles(graph: OptimizedGraph, left: str, right: str) -> bool:
    """Whether two operands are multiplied in tiles; a float left side becomes unsigned bytes first."""
    return graph.cpu.amx and graph.tensors[left].dtype != "int8" and graph.tensors[right].dtype == "int8"


def packed_bytes(op: Operator, position: int, graph: OptimizedGraph, depth: int, columns: int) -> int:
    """Size of a weight, packed: its panels, and the sum of each column, which corrects for zero points."""
    block = _TILE_DEPTH if _in_tiles(graph, op.inputs[0], op.inputs[position]) else _PANEL_DEPTH
    return whole(columns, PANEL_COLUMNS) * (whole(depth, block) + 4)


def _tiles(rows: int, depth: int, columns: int, *, packed: bool) -> ThreadBuffer:
    """What a product in tiles uses: a panel of the left side, one of the right side if it is not packed, and sums.

    The last tile is loaded as a whole, also where it has fewer rows.
    """
    depth_at_once = whole(min(depth, _PACKED_DEPTH if packed else _DEPTH), _TILE_DEPTH)
    left = (0, whole(min(rows, _PANEL_ROWS), _TILE_ROWS) * depth_at_once)
    if packed:
        sums = (_PANEL_ROWS * _PACKED_DEPTH, 4 * (_PANEL_ROWS + min(columns, _PACKED_COLUMNS)))
        return ThreadBuffer(_TILES_BYTES, (left, sums))
    right = (_PANEL_ROWS * _DEPTH, whole(min(columns, _COLUMNS), PANEL_COLUMNS) * depth_at_once)
    return ThreadBuffer(_TILES_BYTES, (left, right, ((_PANEL_ROWS + _COLUMNS) * _DEPTH, 4 * (_PANEL_ROWS + _COLUMNS))))


def product_buffer(position: int) -> UsesBuffer:
    """Of a matrix product with the right side at that position."""

    def uses(op: Operator, graph: OptimizedGraph) -> ThreadBuffer | None:
        if not _in_tiles(graph, op.inputs[0], op.inputs[position]):
            return None
        left, right = (graph.tensors[op.inputs[at]].shape for at in (0, position))
        depth, columns = right[-2:][:: -1 if op.attributes.get("transB", 0) else 1] if len(right) > 1 else (right[0], 1)
        packed = len(right) == 2 and op.inputs[position] in graph.weight_names
        rows = math.prod(left) // depth if packed else (left[-2] if len(left) > 1 else 1)
        return _tiles(rows, depth, columns, packed=packed)

    return uses


def recurrent_buffer(op: Operator, graph: OptimizedGraph) -> ThreadBuffer | None:
    """Of an LSTM with weights of bytes: the product of all inputs, and that with the recurrent weights at each step."""
    if not _in_tiles(graph, op.inputs[0], op.inputs[1]):
        return None
    steps, batch, _ = graph.tensors[op.inputs[0]].shape
    parts: tuple[tuple[int, int], ...] = ()
    for position, rows in ((1, steps * batch), (2, batch)):
        _, depth, columns = graph.tensors[op.inputs[position]].shape
        parts += _tiles(rows, depth, columns, packed=True).parts
    return ThreadBuffer(_TILES_BYTES, parts)


def convolution_buffer(op: Operator, graph: OptimizedGraph) -> ThreadBuffer | None:
    """Of a QLinearConv: that of a product, where it is computed as one."""
    if in_taps(op, graph) or is_depthwise(op, graph) or not _in_tiles(graph, op.inputs[0], op.inputs[3]):
        return None
    filters, *kernel = graph.tensors[op.inputs[3]].shape
    return _tiles(positions_of(op, graph), math.prod(kernel), filters // conv_groups(op), packed=True)


def integer_convolution_buffer(op: Operator, graph: OptimizedGraph) -> ThreadBuffer | None:
    """Of a ConvInteger, whose weights are the left side."""
    if not _in_tiles(graph, op.inputs[1], op.inputs[0]):
        return None
    filters, *kernel = graph.tensors[op.inputs[1]].shape
    return _tiles(filters // conv_groups(op), math.prod(kernel), positions_of(op, graph), packed=False)


def widened_buffer(op: Operator, graph: OptimizedGraph) -> ThreadBuffer | None:
    """Of a product with weights of 4 bits: some of their columns as floats; none for a single row."""
    rows = graph.tensors[op.outputs[0]].elements // graph.tensors[op.outputs[0]].shape[-1]
    if rows == 1 or multiplies_integers(op):
        return None
    depth, block = (op.attributes.get(name, 1) for name in ("K", "block_size"))
    if not isinstance(depth, int) or not isinstance(block, int):
        return None
    n_bytes = 4 * whole(depth, block) * _WIDENED_COLUMNS
    return ThreadBuffer(n_bytes, ((0, n_bytes),))


def multiplies_integers(op: Operator) -> bool:
    """Whether a product with weights of 4 bits turns its left side into bytes."""
    return op.attributes.get("accuracy_level") == 4


def conv_groups(op: Operator) -> int:
    """Groups of a convolution."""
    group = op.attributes.get("group", 1)
    return group if isinstance(group, int) else 1


def positions_of(op: Operator, graph: OptimizedGraph) -> int:
    """Outputs of one filter, in one image."""
    out = graph.tensors[op.outputs[0]].shape
    return math.prod(out[1:-1] if op.attributes.get("channels_last", 0) else out[2:])


def is_depthwise(op: Operator, graph: OptimizedGraph) -> bool:
    """Whether each filter of a QLinearConv has a channel of its own."""
    filters, channels = graph.tensors[op.inputs[3]].shape[:2]
    return 1 < conv_groups(op) == filters and channels == 1


_CHANNELS = 4
"""Convolutions that go tap by tap take multiples of this; filters are multiples of 8, and of 4 with AVX-512."""


def in_taps(op: Operator, graph: OptimizedGraph) -> bool:
    """Whether a QLinearConv goes through pointers to the image, tap by tap (``MlasConvSym``), not through a product.

    Zero points of many weights are not kept; they are taken to be 0, as such weights have them.
    """
    tensors, zero = graph.tensors, graph.tensors[op.inputs[5]].value
    if tensors[op.inputs[0]].dtype == "int8" or tensors[op.inputs[3]].dtype != "int8":
        return False
    if (zero is not None and zero.any()) or not {op.inputs[2], op.inputs[5]} <= graph.weight_names:
        return False
    filters, channels = tensors[op.inputs[3]].shape[:2]
    if conv_groups(op) > 1:
        return is_depthwise(op, graph) and filters % PANEL_COLUMNS == 0
    filters_at_once = 4 if graph.cpu.without_amx is Cpu.AVX512 else 8
    return channels % _CHANNELS == 0 and filters % filters_at_once == 0 and filters >= PANEL_COLUMNS
