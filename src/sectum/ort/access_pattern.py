"""In what order an operator goes through its tensors: what is left of them in a small EPC depends on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from sectum.graph.ir import Graph, Operator
from sectum.ort.kernel_memory import PACKED_TYPES, unrolled
from sectum.paging.replacement import Touch
from sectum.units import PAGE_BYTES, pages

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

    def touch(self, operator: int) -> Touch:
        """The pages that it lies in."""
        start, n_bytes = self
        first = start // PAGE_BYTES
        return Touch(operator, first, (start + (n_bytes or 1) - 1) // PAGE_BYTES - first + 1)


Weight = Sequence[Span]
"""The bytes of a weight that an inference uses: in order, each piece a page or more from the one before."""


def _part_of(weight: Weight, index: int, parts: int) -> Iterator[Span]:
    """One of about equal parts of a weight."""
    if len(weight) == 1:
        yield weight[0].part(index, parts)
    else:
        yield from weight[len(weight) * index // parts : len(weight) * (index + 1) // parts]


Passes = Callable[[int], Iterator[Span]]
"""Gives the parts of its tensors that an operator goes through, in order, under an EPC of so many bytes."""


def _convolution_passes(
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


def _normalisation_passes(
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


def _streaming_passes(parts: int, sources: Sequence[Span], target: Span, _epc_bytes: int) -> Iterator[Span]:
    """One operator after the other on a part of each tensor: inputs are read while the output is written."""
    for part in range(parts):
        for source in sources:
            yield source.part(part, parts)
        yield target.part(part, parts)


def _grouped_passes(
    images: int,
    groups: int,
    segments: int,
    source: Span,
    weight: Weight,
    scratch: Sequence[Span],
    target: Span,
    epc_bytes: int,
) -> Iterator[Span]:
    """A convolution in the plain layout: group by group of each image, all weights again for each segment of it."""
    maps = (source.n_bytes + target.n_bytes) // images
    if (maps + sum(span.n_bytes for span in weight)) // groups <= epc_bytes // 2:  # read again, it is still there
        segments = 1
    if maps <= epc_bytes // 8:
        groups = 1
    for image in range(images):
        for group in range(groups):
            for segment in range(segments):
                yield source.part(image, images).part(group, groups)
                yield from _part_of(weight, group, groups)
                yield from scratch
                yield target.part(image, images).part(group, groups).part(segment, segments)


def _joining_passes(
    images: int, parts: Sequence[Span], whole: Span, _epc_bytes: int, *, to_whole: bool
) -> Iterator[Span]:
    """Concatenation along channels, or its inverse: part after part, image by image."""
    offset_bytes = 0
    for part in parts:
        for image in range(images):
            inside = whole.within(image, images, offset_bytes, part.n_bytes // images)
            yield from (part.part(image, images), inside) if to_whole else (inside, part.part(image, images))
        offset_bytes += part.n_bytes // images


def passes_of(
    op: Operator,
    runtime: Graph,
    nchwc_block: int,
    read: Mapping[int, Span],
    weight: Weight,
    taken: Sequence[Span],
    made: Sequence[Span],
) -> Passes | None:
    """How an operator goes through its tensors; None where once through each, one after the other, says it."""
    if 0 not in read or not made or op.qualified_type in PACKED_TYPES:
        return None
    out = runtime.tensors[op.outputs[0]].shape
    images = out[0] if len(out) > 1 else 1
    group = op.attributes.get("group", 1)
    groups = group if isinstance(group, int) else 1
    if op.qualified_type == "com.microsoft.nchwc:Conv" and groups == 1:
        filter_groups = -(-out[1] // (_FILTERS_PER_PASS * nchwc_block))
        return partial(_convolution_passes, images, filter_groups, read[0], weight, made[0])
    if op.qualified_type in ("Conv", "com.microsoft:FusedConv"):
        return partial(_grouped_passes, images, groups, _segments(op, runtime), read[0], weight, taken, made[0])
    if op.qualified_type == "LRN":
        return partial(_normalisation_passes, images, read[0], taken[0], taken[1], made[0])
    if op.type == "Concat" and op.attributes.get("axis") == 1 and len(read) == len(op.inputs):
        return partial(_joining_passes, images, tuple(read.values()), made[0], to_whole=True)
    if op.type == "Split" and op.attributes.get("axis") == 1 and len(made) == len(op.outputs):
        return partial(_joining_passes, images, made, read[0], to_whole=False)
    if op.type == "Transpose":
        return partial(_streaming_passes, images, tuple(read.values()), made[0])
    largest = max(span.n_bytes for span in (*read.values(), made[0]))
    parts = min(_MOST_PARTS, max(1, pages(largest) // _PART_PAGES))
    return partial(_streaming_passes, parts, tuple(read.values()), made[0])


def _segments(op: Operator, runtime: Graph) -> int:
    """In how many parts of its positions a convolution in the plain layout computes each image."""
    positions = math.prod(runtime.tensors[op.outputs[0]].shape[2:])
    return -(-positions // unrolled(math.prod(runtime.tensors[op.inputs[1]].shape[1:]), positions)[1])
