"""Scratch memory of the runtime's kernels: what they take from the arena while they run."""

from __future__ import annotations

import math

import numpy as np

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.byte_kernels import conv_groups, in_taps, is_depthwise, multiplies_integers, positions_of
from sectum.ort.optimized import OptimizedGraph

_POINTER_BYTES = 8
_LEAST_PAGED_BYTES = 64 << 10

_STRIDE, _LEAST_STRIDE = 128, 16
"""MLAS's im2col copies this many positions, and this many values of each, at a time; where there are fewer of one, it
copies more of the other (``MlasConvOperation``)."""


def local_normalization_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a local response normalization: the squares of all images, and one image with padded channels."""
    source = graph.tensors[op.inputs[0]]
    size = op.attributes.get("size", 1)
    extra_channels = size - 1 if isinstance(size, int) else 0
    return source.n_bytes, 4 * (source.shape[1] + extra_channels) * math.prod(source.shape[2:])


def convolution_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:
    """Of a convolution in the plain layout: the im2col buffer of each thread, unless the convolution is pointwise."""
    weight, out = graph.tensors[op.inputs[1]].shape, graph.tensors[op.outputs[0]].shape
    if _pointwise(op, weight):
        return ()
    group = op.attributes.get("group", 1)
    filters = weight[0] // (group if isinstance(group, int) else 1)
    positions = math.prod(out[2:])
    if filters > positions:
        return (4 * positions * math.prod(weight[1:]),)
    return (4 * threads * math.prod(im2col_block(math.prod(weight[1:]), -(-positions // threads))),)


def _pointwise(op: Operator, weight: tuple[int, ...]) -> bool:
    """Whether a convolution is a matrix product as it stands."""
    strides, pads = op.attributes.get("strides", ()), op.attributes.get("pads", ())
    moved = [v for values in (strides, pads) if isinstance(values, tuple) for v in values]
    return (
        math.prod(weight[2:]) == 1 and all(v in (0, 1) for v in moved) and not (isinstance(pads, tuple) and any(pads))
    )


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


def transposed_convolution_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a transposed convolution: what each position of one image adds to the output, before it is added up."""
    source, weight = graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].shape
    return (4 * math.prod(weight[1:]) * math.prod(source[2:]),)


def recurrent_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a recurrent layer: the gates of all steps for each direction, and what runs backwards in the other order.

    One that quantises its input also has the input as bytes, for each direction.
    """
    rows, inputs = math.prod(graph.tensors[op.inputs[0]].shape[:2]), graph.tensors[op.inputs[0]].shape[2]
    recurrence = graph.tensors[op.inputs[2]].shape
    directions, gates = recurrence[0], max(recurrence[1:])  # of all hidden values; quantised weights are transposed
    hidden = min(recurrence[1:])
    scratch = [4 * rows * gates] * directions
    if op.type != "RNN" and op.attributes.get("direction", "forward") != "forward":
        scratch += [4 * rows * inputs, 4 * rows * hidden]
    if op.type == "DynamicQuantizeLSTM":
        scratch += [rows * inputs] * directions
    return tuple(scratch)


def quantized_convolution_scratch_bytes(op: Operator, graph: OptimizedGraph, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a QLinearConv: for each output and tap, a pointer to the image, or the unrolled image for a product.

    Neither is needed if it is pointwise. All but those that go tap by tap have their sums of 32 bits before it.
    """
    weight, out = graph.tensors[op.inputs[3]].shape, graph.tensors[op.outputs[0]].shape
    positions, taps = positions_of(op, graph), math.prod(weight[2:])
    if in_taps(op, graph):
        return () if _pointwise(op, weight) else (_POINTER_BYTES * taps * positions * out[0],)
    sums = 4 * math.prod(out[1:])
    if is_depthwise(op, graph):
        return sums, _POINTER_BYTES * taps * positions
    return (sums,) if _pointwise(op, weight) else (sums, _unrolled_bytes(op, weight, positions))


def integer_convolution_scratch_bytes(op: Operator, graph: OptimizedGraph, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a ConvInteger: the unrolled image, unless it is pointwise."""
    weight = graph.tensors[op.inputs[1]].shape
    return () if _pointwise(op, weight) else (math.prod(weight[1:]) * positions_of(op, graph),)


def _unrolled_bytes(op: Operator, weight: tuple[int, ...], positions: int) -> int:
    """Of an image of bytes: of one group; of all of them, if it has three dimensions."""
    return (conv_groups(op) if len(weight) > 4 else 1) * math.prod(weight[1:]) * positions


def accumulator_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a product of bytes with quantised output: the sums as integers of 32 bits."""
    return (4 * graph.tensors[op.outputs[0]].elements,)


def quantized_input_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a product that quantises its input first: the input as bytes."""
    return (graph.tensors[op.inputs[0]].elements,)


def four_bit_scratch_bytes(op: Operator, graph: OptimizedGraph, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a product with weights of 4 bits: its left side as bytes, with a scale and a sum for each block, or none.

    Less than 64 KiB is not paged: it lies apart from the arena.
    """
    if not multiplies_integers(op):
        return ()
    rows = graph.tensors[op.outputs[0]].elements // graph.tensors[op.outputs[0]].shape[-1]
    _, blocks, half_block = graph.tensors[op.inputs[1]].shape
    n_bytes = rows * blocks * (2 * half_block + 8)
    return (n_bytes,) if n_bytes >= _LEAST_PAGED_BYTES else ()


def selection_scratch_bytes(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """Of a Where: what the condition selects of each operand, before the two are merged."""
    condition = graph.tensors[op.inputs[0]].shape
    made = graph.tensors[op.outputs[0]]
    operands = (graph.tensors[name].shape for name in op.inputs[1:3])
    return tuple(math.prod(np.broadcast_shapes(condition, shape)) * made.n_bytes // made.elements for shape in operands)
