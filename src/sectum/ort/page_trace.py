"""From the graph that the runtime executes to the pages that one steady-state inference touches, in order.

What lies in protected memory, and how, was read off ONNX Runtime 1.31 by tracing its allocations and the pager's
faults: every weight is an allocation of its own; weights of matrix products are packed into panels and the first copy
is freed; all activations lie in one block of the arena at the offsets of the memory plan; graph inputs and outputs are
allocations of their own; some kernels take scratch memory from the arena. Allocations under 64 KiB stay in the C
library's heap, which is not paged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import zip_longest

from sectum.graph.ir import Graph, TensorKind
from sectum.ort.access_pattern import Passes, Span, Weight, passes_of
from sectum.ort.kernel_memory import scratch_bytes, stored_bytes, used_parts
from sectum.ort.memory_plan import MemoryPlan, Storage, memory_plan
from sectum.paging.replacement import Touch, working_set_pages
from sectum.units import PAGE_BYTES, pages

MIN_PAGED_BYTES = 64 << 10
"""Smaller allocations are not in the region that is paged (``SOFTEPC_MIN_BYTES``)."""

_TYPES_WITH_SCRATCH = frozenset({"LRN", "Conv", "FusedConv"})

DETAILED_SHARE = 0.25
"""Of the EPC: an operator that needs more is followed pass by pass. Of 13 cases of four networks of the onnx package
that page, the loads of 7 are within 5 % of those counted and all within 13 %; at one, of 6 and within 37 %."""


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
    _passes: Mapping[int, Callable[[], Passes | None]] = field(repr=False)

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
        runtime: what the runtime executes (``sectum.ort.optimize.runtime_graph``).
        threads: compute threads; each has scratch memory of its own.
        nchwc_block: floats in a block of the layout that the graph was made with.
    """
    plan = memory_plan(runtime)
    tensors = runtime.tensors
    weight_kind = TensorKind.WEIGHT
    weights = _Space(0)
    weight_spans: list[dict[int, Weight]] = []
    others: list[list[tuple[int, str]]] = []  # inputs of each operator that are no weights, with their positions
    for op in runtime.operators:
        loaded: dict[int, Weight] = {}
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
                    loaded[position] = [Span(address + start, size) for start, size in used]
        weight_spans.append(loaded)
        others.append(other)
    activations = _Activations(runtime, plan, weights.next_page)
    scratch = [
        scratch_bytes(op, runtime, threads) if op.type in _TYPES_WITH_SCRATCH else () for op in runtime.operators
    ]
    # The arena hands the same chunk to one kernel after the other.
    largest_scratch = [max(sizes) for sizes in zip_longest(*scratch, fillvalue=0)]
    touches: list[Touch] = []
    passes: dict[int, Callable[[], Passes | None]] = {}
    for index, op in enumerate(runtime.operators):
        read: dict[int, Span] = {}
        for position, name in others[index]:
            span = activations.span(name)
            if span is not None:
                read[position] = span
        loaded = weight_spans[index]
        taken = [
            Span(activations.space.allocate(f"scratch {number}", largest_scratch[number]), n_bytes)
            for number, n_bytes in enumerate(scratch[index])
        ]
        made = [span for name in op.outputs if name and (span := activations.span(name))]
        weight = [span for spans in loaded.values() for span in spans]
        touches += [span.touch(index) for span in (*read.values(), *weight, *taken, *made)]
        passes[index] = partial(passes_of, op, runtime, nchwc_block, read, loaded.get(1, ()), taken, made)
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


class _Activations:
    """Where activations lie, in pages that are given out at their first mention."""

    def __init__(self, runtime: Graph, plan: MemoryPlan, first_page: int) -> None:
        self.space = _Space(first_page)
        self._runtime, self._plan = runtime, plan
        self._spans: dict[str, Span | None] = {}

    def span(self, name: str) -> Span | None:
        """Where an activation lies; None where it is not in the region."""
        if name not in self._spans:
            self._spans[name] = self._place(name)
        return self._spans[name]

    def _place(self, name: str) -> Span | None:
        placement = self._plan.placements[name]
        n_bytes = self._runtime.n_bytes[name]
        storage = placement.storage
        if storage is Storage.PATTERN:
            # The arena grows by a megabyte and more at a time, so that even small tensors of the block are paged.
            start = self.space.allocate("pattern block", self._plan.block_bytes)
            return Span(start + placement.offset_bytes, n_bytes)
        if storage is Storage.OUTPUT or (storage is Storage.CALLER and placement.n_bytes >= MIN_PAGED_BYTES):
            return Span(self.space.allocate(placement.buffer, placement.n_bytes), n_bytes)
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
