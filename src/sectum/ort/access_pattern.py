"""In what order an operator goes through its tensors: what is left of them in a small EPC depends on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sectum.graph.ir import Operator
from sectum.ort.kernel_memory import im2col_block
from sectum.ort.optimized import OptimizedGraph
from sectum.units import pages

_PART_PAGES, _MOST_PARTS = 32, 32
"""How finely the simultaneous reading and writing of an operator is followed."""

_FILTERS_PER_PASS = 4
"""MLAS computes a blocked convolution for this many blocks of output channels at a time, over a whole image."""


class Span(NamedTuple):
    """Bytes that an operator uses, at an address within the region."""

    start: int
    n_bytes: int

    def part(self, index: int, parts: int) -> Span:
        """One of equal parts, the last of which may be smaller."""
        size = -(-self.n_bytes // parts)
        start = min(index * size, self.n_bytes)
        return Span(self.start + start, min(size, self.n_bytes - start))

    def within(self, index: int, parts: int, offset_bytes: int, n_bytes: int) -> Span:
        """Bytes at an offset in one of equal parts."""
        size = self.n_bytes // parts
        return Span(self.start + index * size + offset_bytes, n_bytes)


Spans = NDArray[np.int64]
"""Spans as an array, shape ``(..., 2)``; the columns are the fields of `Span`."""


def as_array(spans: Iterable[Span] | Spans) -> Spans:
    """Spans as an array; shape ``(spans, 2)``."""
    if isinstance(spans, np.ndarray):
        return spans
    return np.fromiter(chain.from_iterable(spans), np.int64).reshape(-1, 2)


def _divided(spans: Spans, parts: int) -> Spans:
    """`Span.part` of all spans, for all parts: shape ``(..., 2)`` becomes ``(..., parts, 2)``."""
    start, n_bytes = spans[..., :1], spans[..., 1:]
    size = -(-n_bytes // parts)
    offset = np.minimum(np.arange(parts) * size, n_bytes)
    divided = np.empty((*offset.shape, 2), np.int64)
    divided[..., 0] = start + offset
    divided[..., 1] = np.minimum(size, n_bytes - offset)
    return divided


Weight = Sequence[Span]
"""The bytes of a weight that an inference uses: in order, each piece a page or more from the one before."""


def _part_of(weight: Weight, index: int, parts: int) -> Iterator[Span]:
    """One of about equal parts of a weight."""
    if len(weight) == 1:
        yield weight[0].part(index, parts)
    else:
        yield from weight[len(weight) * index // parts : len(weight) * (index + 1) // parts]


Accesses = Callable[[int], Iterable[Span] | Spans]
"""Given the bytes of the EPC, the parts of its tensors that an operator goes through, in order."""


class KernelMemory(NamedTuple):
    """The memory that one operator uses.

    Attributes:
        op: the operator.
        graph: that it is in.
        read: where its activations lie, by position of the input.
        weights: the bytes that it reads of its weights, by position of the input.
        scratch: its scratch memory.
        written: where its outputs lie.
    """

    op: Operator
    graph: OptimizedGraph
    read: Mapping[int, Span]
    weights: Mapping[int, Weight]
    scratch: Sequence[Span]
    written: Sequence[Span]

    @property
    def weight(self) -> Weight:
        """The bytes that it reads of the weight at position 1."""
        return self.weights.get(1, ())

    @property
    def images(self) -> int:
        """Leading dimension of the output."""
        out = self.graph.tensors[self.op.outputs[0]].shape
        return out[0] if len(out) > 1 else 1

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for all else."""
        group = self.op.attributes.get("group", 1)
        return group if isinstance(group, int) else 1


AccessPattern = Callable[[KernelMemory], Accesses | None]
"""How the operators of a type go through their tensors; None where once through each, one after the other, says it."""


def _blocked_convolution(
    images: int, filter_groups: int, source: Span, weight: Weight, target: Span, epc_bytes: int
) -> Iterator[Span]:
    """A blocked convolution reads each image again for every group of filters: its outputs, the image, its weights."""
    one_image = (source.n_bytes + target.n_bytes) // images + sum(span.n_bytes for span in weight)
    if one_image <= epc_bytes // 2:  # read again, it is still there
        filter_groups = 1
        images = -(-images // max(1, epc_bytes // (8 * one_image)))
    for image in range(images):
        for group in range(filter_groups):
            yield target.part(image, images).part(group, filter_groups)
            yield source.part(image, images)
            yield from _part_of(weight, group, filter_groups)


def _local_normalization(
    images: int, source: Span, squares: Span, padded: Span, target: Span, _epc_bytes: int
) -> Iterator[Span]:
    """Local response normalisation: scales are set, summed up image by image, raised to a power, multiplied."""
    yield squares
    for image in range(images):
        yield source.part(image, images)
        yield padded
        yield squares.part(image, images)
    for span in (squares, target, target, source):
        for image in range(images):
            yield span.part(image, images)


def _streaming(parts: int, sources: Sequence[Weight], target: Span, _epc_bytes: int) -> Iterator[Span]:
    """One operator after the other on a part of each tensor: inputs are read while the output is written."""
    for part in range(parts):
        for source in sources:
            yield from _part_of(source, part, parts)
        yield target.part(part, parts)


def _staged(
    parts: int, sources: Sequence[Span], scratch: Sequence[Span], target: Span, epc_bytes: int
) -> Iterator[Span]:
    """Inputs are read and scratch memory is written; then scratch memory is read while the output is written."""
    yield from sources
    yield from scratch
    yield from _streaming(parts, [(span,) for span in scratch], target, epc_bytes)


def _plain_convolution(
    images: int,
    groups: int,
    channels: int,
    filters: int,
    segments: int,
    source: Span,
    weight: Weight,
    scratch: Sequence[Span],
    target: Span,
    epc_bytes: int,
) -> Spans:
    """A convolution in the plain layout: group by group of each image, all weights again for each segment of it.

    A segment is a range of positions: a piece of each channel, and of each filter's outputs. An operator can have many
    thousands of these pieces, so they are computed together.
    """
    maps = (source.n_bytes + target.n_bytes) // images
    if (maps + sum(span.n_bytes for span in weight)) // groups <= epc_bytes // 2:  # read again, it is still there
        segments = 1
    if maps <= epc_bytes // 8:
        groups = 1
    if segments == 1:
        channels = filters = 1

    def of_each_pass(span: Span, maps: int) -> Spans:
        of_groups = _divided(_divided(np.array(span), images), groups)
        return _divided(_divided(of_groups, maps), segments).swapaxes(2, 3)

    in_order = [
        of_each_pass(source, channels),
        _divided(as_array(weight), groups).swapaxes(0, 1)[:, np.newaxis],
        as_array(scratch),
        of_each_pass(target, filters),
    ]
    passes = (images, groups, segments)
    whole = [np.broadcast_to(spans, (*passes, *spans.shape[-2:])) for spans in in_order]
    return np.concatenate(whole, axis=3).reshape(-1, 2)


def _joining(images: int, parts: Sequence[Span], whole: Span, _epc_bytes: int, *, to_whole: bool) -> Iterator[Span]:
    """Concatenation along channels, or its inverse: part after part, image by image."""
    offset_bytes = 0
    for part in parts:
        for image in range(images):
            inside = whole.within(image, images, offset_bytes, part.n_bytes // images)
            yield from (part.part(image, images), inside) if to_whole else (inside, part.part(image, images))
        offset_bytes += part.n_bytes // images


def _recurrent(
    steps: int,
    directions: int,
    fixed: Sequence[Span],
    recurrence: Weight,
    gates: Sequence[Span],
    target: Span,
    epc_bytes: int,
) -> Iterator[Span]:
    """A recurrent layer: the input's product, then for each direction the recurrent weights once for each step."""
    yield from fixed
    if sum(span.n_bytes for span in recurrence) // directions <= epc_bytes // 2:  # read again, they are still there
        steps = 1
    for direction in range(directions):
        for step in range(steps):
            yield from _part_of(recurrence, direction, directions)
            if direction < len(gates):
                yield gates[direction].part(step, steps)
            yield target.part(step, steps)


def accesses(memory: KernelMemory, pattern: AccessPattern) -> Accesses | None:
    """How an operator goes through its tensors; None where once through each, one after the other, says it."""
    if not memory.written or (0 not in memory.read and pattern is not recurrent):
        return None
    return pattern(memory)


def once(memory: KernelMemory) -> None:  # noqa: ARG001
    """Once through each tensor, one after the other."""
    return


def streaming(memory: KernelMemory) -> Accesses:
    """Inputs are read while the output is written."""
    return partial(_streaming, _parts(memory), _sources(memory), memory.written[0])


def staged(memory: KernelMemory) -> Accesses:
    """Inputs go to scratch memory first, and from there to the output."""
    sources = [span for source in _sources(memory) for span in source]
    return partial(_staged, _parts(memory), sources, memory.scratch, memory.written[0])


def _parts(memory: KernelMemory) -> int:
    largest = max(span.n_bytes for span in (*memory.read.values(), memory.written[0]))
    return min(_MOST_PARTS, max(1, pages(largest) // _PART_PAGES))


def _sources(memory: KernelMemory) -> list[Weight]:
    """Activations and weights that an operator reads."""
    return [*((span,) for span in memory.read.values()), *memory.weights.values()]


def image_by_image(memory: KernelMemory) -> Accesses:
    """Each image is read, then written."""
    return partial(_streaming, memory.images, _sources(memory), memory.written[0])


def blocked_convolution(memory: KernelMemory) -> Accesses:
    """A convolution in the blocked layout; one with groups streams."""
    if memory.groups != 1:
        return streaming(memory)
    channels = memory.graph.tensors[memory.op.outputs[0]].shape[1]
    filter_groups = -(-channels // (_FILTERS_PER_PASS * memory.graph.cpu.nchwc_block))
    return partial(_blocked_convolution, memory.images, filter_groups, memory.read[0], memory.weight, memory.written[0])


def plain_convolution(memory: KernelMemory) -> Accesses:
    """A convolution in the plain layout."""
    tensors, op, groups = memory.graph.tensors, memory.op, memory.groups
    filters, *positions = tensors[op.outputs[0]].shape[1:]
    channels = tensors[op.inputs[0]].shape[1] // groups
    n_positions = math.prod(positions)
    segments = -(-n_positions // im2col_block(math.prod(tensors[op.inputs[1]].shape[1:]), n_positions)[1])
    return partial(
        _plain_convolution, memory.images, groups, channels, filters // groups, segments, memory.read[0], memory.weight,
        memory.scratch, memory.written[0],
    )  # fmt: skip


def recurrent(memory: KernelMemory) -> Accesses:
    """A recurrent layer: one product for all steps, then one product with the recurrent weights for each step."""
    op, tensors = memory.op, memory.graph.tensors
    steps, directions = tensors[op.inputs[0]].shape[0], tensors[op.inputs[2]].shape[0]
    fixed = (*memory.read.values(), *memory.weight, *memory.scratch, *memory.written[1:])
    return partial(
        _recurrent, steps, directions, fixed, memory.weights.get(2, ()), memory.scratch[:directions], memory.written[0]
    )


def local_normalization(memory: KernelMemory) -> Accesses:
    """Local response normalization."""
    squares, padded = memory.scratch
    return partial(_local_normalization, memory.images, memory.read[0], squares, padded, memory.written[0])


def concatenation(memory: KernelMemory) -> Accesses:
    """Concatenation; along another axis than the channels it streams."""
    if memory.op.attributes.get("axis") != 1 or len(memory.read) != len(memory.op.inputs):
        return streaming(memory)
    return partial(_joining, memory.images, tuple(memory.read.values()), memory.written[0], to_whole=True)


def split(memory: KernelMemory) -> Accesses:
    """The inverse of a concatenation; along another axis than the channels it streams."""
    if memory.op.attributes.get("axis") != 1 or len(memory.written) != len(memory.op.outputs):
        return streaming(memory)
    return partial(_joining, memory.images, memory.written, memory.read[0], to_whole=False)
