"""From the graph that the runtime executes to the pages that one steady-state inference touches, in order.

What lies in protected memory, and how, was read off ONNX Runtime 1.31 by tracing its allocations and the pager's
faults: every weight is an allocation of its own; weights of matrix products are packed into panels and the first copy
is freed; all activations lie in one block of the arena at the offsets of the memory plan; graph inputs and outputs are
allocations of their own; some kernels take scratch memory from the arena. Allocations under 64 KiB stay in the C
library's heap, which is not paged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import zip_longest
from typing import NamedTuple

from sectum.enclave.replacement import Touch, working_set_pages
from sectum.graph.ir import Graph, Operator, TensorKind
from sectum.graph.memory_plan import MemoryPlan, Storage, memory_plan
from sectum.units import PAGE_BYTES, pages

MIN_PAGED_BYTES = 64 << 10
"""Smaller allocations are not in the region that is paged (``SOFTEPC_MIN_BYTES``)."""

_PANEL_COLUMNS = 16
"""MLAS packs the right side of a float product into panels of this many columns."""

_PACKED_TYPES = frozenset({"Gemm", "com.microsoft:FusedGemm", "MatMul", "com.microsoft:FusedMatMul"})
_TYPES_WITH_SCRATCH = frozenset({"LRN", "Conv", "FusedConv"})

_STRIDE, _LEAST_STRIDE = 128, 16
"""MLAS unrolls images for a matrix product this many positions, and values of each, at a time; where there are fewer of
one it takes more of the other (``MlasConvOperation``)."""


DETAILED_SHARE = 0.25
"""Of the EPC: an operator that needs more is followed pass by pass. Of 13 cases of four networks of the onnx package
that page, the loads of 7 are within 5 % of those counted and all within 13 %; at one, of 6 and within 37 %."""

_PART_PAGES, _MOST_PARTS = 32, 32
"""How finely the simultaneous reading and writing of an operator is followed."""

_FILTERS_PER_PASS = 4
"""MLAS computes a blocked convolution for this many blocks of output channels at a time, over a whole image."""


class _Span(NamedTuple):
    """Bytes that an operator uses, at an address within the region."""

    start: int
    n_bytes: int

    def part(self, index: int, parts: int) -> _Span:
        """One of equal parts, the last of which may be smaller."""
        size = -(-self.n_bytes // parts)
        start = min(index * size, self.n_bytes)
        return _Span(self.start + start, min(size, self.n_bytes - start))

    def within(self, index: int, parts: int, offset_bytes: int, n_bytes: int) -> _Span:
        """Bytes at an offset in one of equal parts."""
        size = self.n_bytes // parts
        return _Span(self.start + index * size + offset_bytes, n_bytes)

    def touch(self, operator: int) -> Touch:
        """The pages that it lies in."""
        start, n_bytes = self
        first = start // PAGE_BYTES
        return Touch(operator, first, (start + (n_bytes or 1) - 1) // PAGE_BYTES - first + 1)


_Weight = Sequence[_Span]
"""The bytes of a weight that an inference uses: in order, each piece a page or more from the one before."""


def _part_of(weight: _Weight, index: int, parts: int) -> Iterator[_Span]:
    """One of about equal parts of a weight."""
    if len(weight) == 1:
        yield weight[0].part(index, parts)
    else:
        yield from weight[len(weight) * index // parts : len(weight) * (index + 1) // parts]


_Passes = Callable[[int], Iterator[_Span]]
"""Gives the parts of its tensors that an operator goes through, in order, under an EPC of so many bytes."""


def _convolution_passes(
    images: int, filter_groups: int, source: _Span, weight: _Weight, target: _Span, epc_bytes: int
) -> Iterator[_Span]:
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
    images: int, source: _Span, squares: _Span, padded: _Span, target: _Span, _epc_bytes: int
) -> Iterator[_Span]:
    """Local response normalisation: scales are set, summed up image by image, raised to a power, multiplied."""
    yield squares
    for image in range(images):
        yield source.part(image, images)
        yield padded
        yield squares.part(image, images)
    for span in (squares, target, target, source):
        for image in range(images):
            yield span.part(image, images)


def _streaming_passes(parts: int, sources: Sequence[_Span], target: _Span, _epc_bytes: int) -> Iterator[_Span]:
    """One operator after the other on a part of each tensor: inputs are read while the output is written."""
    for part in range(parts):
        for source in sources:
            yield source.part(part, parts)
        yield target.part(part, parts)


def _grouped_passes(
    images: int,
    groups: int,
    segments: int,
    source: _Span,
    weight: _Weight,
    scratch: Sequence[_Span],
    target: _Span,
    epc_bytes: int,
) -> Iterator[_Span]:
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
    images: int, parts: Sequence[_Span], whole: _Span, _epc_bytes: int, *, to_whole: bool
) -> Iterator[_Span]:
    """Concatenation along channels, or its inverse: part after part, image by image."""
    offset_bytes = 0
    for part in parts:
        for image in range(images):
            inside = whole.within(image, images, offset_bytes, part.n_bytes // images)
            yield from (part.part(image, images), inside) if to_whole else (inside, part.part(image, images))
        offset_bytes += part.n_bytes // images


@dataclass(frozen=True)
class PageTrace:
    """One inference as page touches.

    Attributes:
        touches: ranges of pages in the order of use; ``operator`` indexes the runtime graph's operators.
        pages: distinct pages touched.
        weight_pages: that hold weights: those below this number.
        used_weight_pages: how many of these are touched.
    """

    touches: tuple[Touch, ...]
    pages: int
    weight_pages: int
    used_weight_pages: int
    _runtime: Graph = field(repr=False)
    _passes: Mapping[int, Callable[[], _Passes | None]] = field(repr=False)

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """For each operator, all weights and the activations alive while it runs."""
        weight_bytes = self.weight_pages * PAGE_BYTES
        return tuple([weight_bytes + n_bytes for n_bytes in _live_activation_bytes(self._runtime)])

    def touches_under(self, epc_pages: int | None) -> Sequence[Touch]:
        """The touches that count with an EPC of that size.

        An operator that needs a small part of the EPC may be taken to touch its tensors one after the other, and
        each once. In what order a larger one goes through them decides what is left of them when the next one
        begins, so for those every pass is listed.
        """
        if epc_pages is None:
            return self.touches
        pages_of: dict[int, int] = {}
        for operator, _, n_pages in self.touches:
            pages_of[operator] = pages_of.get(operator, 0) + n_pages
        split = {
            operator: passes
            for operator, n_pages in pages_of.items()
            if n_pages > DETAILED_SHARE * epc_pages and (passes := self._passes[operator]())
        }
        if not split:
            return self.touches
        detailed: list[Touch] = []
        for touch in self.touches:
            if touch.operator not in split:
                detailed.append(touch)
            elif not detailed or detailed[-1].operator != touch.operator:
                detailed.extend([span.touch(touch.operator) for span in split[touch.operator](epc_pages * PAGE_BYTES)])
        return detailed


class _Space:
    """Gives each allocation pages of its own, as the pager's region does."""

    def __init__(self, first_page: int) -> None:
        self.next_page = first_page
        self.first_page: dict[str, int] = {}

    def allocate(self, name: str, n_bytes: int) -> int:
        """Address of the allocation of that name, made at its first mention."""
        if name not in self.first_page:
            self.first_page[name] = self.next_page
            self.next_page += pages(n_bytes)
        return self.first_page[name] * PAGE_BYTES


def page_trace(runtime: Graph, *, threads: int = 1, nchwc_block: int = 8) -> PageTrace:
    """Lay out memory as the runtime does and list what each operator touches: inputs, weights, scratch, outputs.

    Args:
        runtime: what the runtime executes (``sectum.graph.runtime.runtime_graph``).
        threads: compute threads; each has scratch memory of its own.
        nchwc_block: floats in a block of the layout that the graph was made with.
    """
    plan = memory_plan(runtime)
    tensors = runtime.tensors
    weight_kind = TensorKind.WEIGHT
    weights = _Space(0)
    weight_spans: list[dict[int, _Weight]] = []
    others: list[list[tuple[int, str]]] = []  # inputs of each operator that are no weights, with their positions
    for op in runtime.operators:
        loaded: dict[int, _Weight] = {}
        other: list[tuple[int, str]] = []
        for position, name in enumerate(op.inputs):
            if not name:
                continue
            if tensors[name].kind is not weight_kind:
                other.append((position, name))
            else:
                n_bytes = stored_bytes(op, position, runtime)
                if n_bytes >= MIN_PAGED_BYTES:
                    address = weights.allocate(name, n_bytes)
                    used = used_parts(op, runtime, nchwc_block) if position == 1 else [(0, n_bytes)]
                    loaded[position] = [_Span(address + start, size) for start, size in used]
        weight_spans.append(loaded)
        others.append(other)
    activations = _Activations(runtime, plan, weights.next_page)
    scratch = [
        scratch_bytes(op, runtime, threads) if op.type in _TYPES_WITH_SCRATCH else () for op in runtime.operators
    ]
    # The arena hands the same chunk to one kernel after the other.
    largest_scratch = [max(sizes) for sizes in zip_longest(*scratch, fillvalue=0)]
    touches: list[Touch] = []
    passes: dict[int, Callable[[], _Passes | None]] = {}
    for index, op in enumerate(runtime.operators):
        read: dict[int, _Span] = {}
        for position, name in others[index]:
            span = activations.span(name)
            if span is not None:
                read[position] = span
        loaded = weight_spans[index]
        taken = [
            _Span(activations.space.allocate(f"scratch {number}", largest_scratch[number]), n_bytes)
            for number, n_bytes in enumerate(scratch[index])
        ]
        made = [span for name in op.outputs if name and (span := activations.span(name))]
        weight = [span for spans in loaded.values() for span in spans]
        touches += [span.touch(index) for span in (*read.values(), *weight, *taken, *made)]
        passes[index] = partial(_passes_of, op, runtime, nchwc_block, read, loaded.get(1, ()), taken, made)
    of_weights = working_set_pages([touch for touch in touches if touch.first_page < weights.next_page])
    of_activations = working_set_pages([touch for touch in touches if touch.first_page >= weights.next_page])
    return PageTrace(
        touches=tuple(touches),
        pages=of_weights + of_activations,
        weight_pages=weights.next_page,
        used_weight_pages=of_weights,
        _runtime=runtime,
        _passes=passes,
    )


def _passes_of(
    op: Operator,
    runtime: Graph,
    nchwc_block: int,
    read: Mapping[int, _Span],
    weight: _Weight,
    taken: Sequence[_Span],
    made: Sequence[_Span],
) -> _Passes | None:
    """How an operator goes through its tensors; None where once through each, one after the other, says it."""
    if 0 not in read or not made or op.qualified_type in _PACKED_TYPES:
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
    packed = position == 1 and op.qualified_type in _PACKED_TYPES
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
    return (4 * threads * math.prod(_unrolled(math.prod(weight[1:]), -(-positions // threads))),)


def _segments(op: Operator, runtime: Graph) -> int:
    """In how many parts of its positions a convolution in the plain layout computes each image."""
    positions = math.prod(runtime.tensors[op.outputs[0]].shape[2:])
    return -(-positions // _unrolled(math.prod(runtime.tensors[op.inputs[1]].shape[1:]), positions)[1])


def _unrolled(values: int, positions: int) -> tuple[int, int]:
    """Values and positions of an image that are unrolled together."""
    most_values = most_positions = _STRIDE
    if positions >= values:
        while most_values // 2 >= values:
            most_values, most_positions = most_values // 2, most_positions * 2
    else:
        while most_positions > _LEAST_STRIDE and most_positions // 2 >= positions:
            most_values, most_positions = most_values * 2, most_positions // 2
    return min(values, most_values), min(positions, most_positions)


class _Activations:
    """Where activations lie, in pages that are given out at their first mention."""

    def __init__(self, runtime: Graph, plan: MemoryPlan, first_page: int) -> None:
        self.space = _Space(first_page)
        self._runtime, self._plan = runtime, plan
        self._spans: dict[str, _Span | None] = {}

    def span(self, name: str) -> _Span | None:
        """Where an activation lies; None where it is not in the region."""
        if name not in self._spans:
            self._spans[name] = self._place(name)
        return self._spans[name]

    def _place(self, name: str) -> _Span | None:
        placement = self._plan.placements[name]
        n_bytes = self._runtime.n_bytes[name]
        storage = placement.storage
        if storage is Storage.PATTERN:
            # The arena grows by a megabyte and more at a time, so that even small tensors of the block are paged.
            start = self.space.allocate("pattern block", self._plan.block_bytes)
            return _Span(start + placement.offset_bytes, n_bytes)
        if storage is Storage.OUTPUT or (storage is Storage.CALLER and placement.n_bytes >= MIN_PAGED_BYTES):
            return _Span(self.space.allocate(placement.buffer, placement.n_bytes), n_bytes)
        return None


def _live_activation_bytes(runtime: Graph) -> list[int]:
    """Inputs and activations alive while each operator runs."""
    last, n_bytes = runtime.last_use, runtime.n_bytes
    change = [0] * (len(runtime.operators) + 1)
    for name in runtime.inputs:
        if name in last:
            change[0] += n_bytes[name]
            change[last[name] + 1] -= n_bytes[name]
    for index, op in enumerate(runtime.operators):
        for name in op.outputs:
            if name and name in last:
                change[index] += n_bytes[name]
                change[last[name] + 1] -= n_bytes[name]
    live, alive = [], 0
    for delta in change[:-1]:
        alive += delta
        live.append(alive)
    return live
