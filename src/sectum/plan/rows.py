"""Operators that are computed strip by strip: which rows each strip reads and makes, counted exactly.

Consecutive operators, such as convolutions with their pools, are divided by rows of their results. A strip reads more
rows than it makes, because the kernels of neighbouring rows overlap. Only operators are divided that compute a value in
the same way wherever its row lies, so that no bit of a result changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from sectum.enclave.streaming.strip_operator import Rows, StripOperator
from sectum.graph.ir import Operator
from sectum.ort.optimized import OptimizedGraph

_NCHWC = "com.microsoft.nchwc"
_ROW_AXIS, _RANK = 2, 4
_MOST_STRIPS = 4096
_WINDOWED = frozenset({f"{_NCHWC}:Conv", f"{_NCHWC}:MaxPool", f"{_NCHWC}:AveragePool", "MaxPool"})
_UPSAMPLE = f"{_NCHWC}:Upsample"
_ROW_BY_ROW = frozenset({f"{_NCHWC}:ReorderInput", f"{_NCHWC}:ReorderOutput", "Concat", "Add", "Mul", "Sum", "Relu",
                         "Clip", "LeakyRelu"})  # fmt: skip
_ROW_BY_ROW_IN_BLOCKS = frozenset({"Sigmoid", "Tanh", "HardSigmoid", "Gelu", "com.microsoft:Gelu",
                                   "com.microsoft:QuickGelu"})  # fmt: skip
"""In the plain layout, the last values of a tensor are computed by other instructions than the others."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One strip.

    Attributes:
        operators: what each operator does.
        available: rows of each tensor that the strip has: those that it makes, and those that it reads from outside.
        completes: for each result of the division, the rows that this strip adds to it.
    """

    operators: tuple[StripOperator, ...]
    available: Mapping[str, Rows]
    completes: Mapping[str, Rows]


@dataclass(frozen=True)
class Division:
    """Consecutive operators that are computed strip by strip.

    Attributes:
        graph: what the runtime executes.
        first: position of the first operator.
        operators: all of them.
        rows: that a strip has of the last operator's result; the last strip may have fewer.
        strips: in order.
        sources: tensors that are made before, and of which it reads rows.
        wholes: tensors that are made before, and of which each strip reads all.
        results: what is read after it.
        outer: for each tensor with rows, how many blocks of rows it has: images times channels, or blocks of channels.
    """

    graph: OptimizedGraph
    first: int
    operators: tuple[Operator, ...]
    rows: int
    strips: tuple[Strip, ...]
    sources: tuple[str, ...]
    wholes: tuple[str, ...]
    results: tuple[str, ...]
    outer: Mapping[str, int]

    @cached_property
    def work(self) -> tuple[float, ...]:
        """For each operator the rows that all strips make, over the rows of its result: more than 1 by the overlap."""
        shares = []
        for place, op in enumerate(self.operators):
            made = sum(end - begin for begin, end in (strip.operators[place].made for strip in self.strips))
            shares.append(made / height_of(self.graph, op.result))
        return tuple(shares)

    def n_bytes(self, name: str, rows: Rows) -> int:
        """Bytes of some rows of a tensor."""
        return self.graph.n_bytes[name] // height_of(self.graph, name) * (rows[1] - rows[0])

    def most_bytes(self, name: str) -> int:
        """Bytes of the most rows that a strip has of a tensor."""
        return max(self.n_bytes(name, strip.available[name]) for strip in self.strips)

    @cached_property
    def copied_bytes(self) -> int:
        """Bytes that are copied into and out of the strips."""
        return sum(
            self.n_bytes(name, rows)
            for strip in self.strips
            for name, rows in (*((one, strip.available[one]) for one in self.sources), *strip.completes.items())
        )

    def over(self, last_read: Mapping[str, int], number: int) -> dict[str, str]:
        """Results that are written over a source, because both have the same rows and none is needed any more.

        A strip's results are written after the next strip has been read.

        Args:
            last_read: for each tensor the last stage that reads it.
            number: of this stage.
        """
        found: dict[str, str] = {}
        free = [name for name in self.sources if last_read.get(name, -1) == number and name not in self.graph.inputs]
        for result in self.results:
            source = next((name for name in free if self._fits_over(result, name)), None)
            if source is not None:
                found[result] = source
                free.remove(source)
        return found

    def _fits_over(self, result: str, source: str) -> bool:
        sizes, outer = self.graph.n_bytes, self.outer
        if height_of(self.graph, result) != height_of(self.graph, source) or outer[result] > outer[source]:
            return False
        if sizes[result] * outer[source] != sizes[source] * outer[result]:
            return False
        if len(self.strips) == 1:  # one that stands for many
            (strip,) = self.strips
            begin, end = strip.completes[result]
            return 2 * begin - end <= strip.available[source][0]
        return all(
            after.available[source][0] >= before.completes[result][1]
            for before, after in zip(self.strips, self.strips[2:], strict=False)
        )


class Divider:
    """Divides operators of one graph.

    Args:
        graph: what the runtime executes.
    """

    def __init__(self, graph: OptimizedGraph) -> None:
        self.graph = graph
        self.blocked = _blocked_tensors(graph)
        """Tensors in the blocked layout."""
        self._axes: dict[int, tuple[_Axis, _Axis]] = {}
        self._by_rows: dict[int, tuple[bool, ...]] = {}
        self.divides = tuple(self._divides(op) for op in graph.operators)
        """For each operator, whether it can be computed strip by strip without changing a bit."""

    def divided(self, first: int, last: int, rows: int) -> Division | None:
        """Divide consecutive operators; None where that cannot be done without changing a bit.

        Args:
            first: position of the first operator.
            last: position of the last one.
            rows: of the last operator's result in a strip.
        """
        if not 0 <= first <= last < len(self.divides) or not all(self.divides[first : last + 1]):
            return None
        height = height_of(self.graph, self.graph.operators[last].result)
        if not 0 < rows < height or height > rows * _MOST_STRIPS:
            return None
        return self._of(first, last, rows, [*range(0, height, rows), height])

    def one_strip(self, first: int, last: int, rows: int) -> Division | None:
        """As `divided`, with a strip from the middle only: enough to estimate what a strip takes."""
        height = height_of(self.graph, self.graph.operators[last].result)
        begin = min(height // 2, height - rows)
        return self._of(first, last, rows, [begin, begin + rows])

    def _of(self, first: int, last: int, rows: int, ends: Sequence[int]) -> Division | None:
        graph, operators = self.graph, self.graph.operators[first : last + 1]
        height = height_of(graph, operators[-1].result)
        results = results_of(graph, first, last)
        made = {op.result for op in operators}
        strips = []
        for begin, end in pairwise(ends):
            heights = {name: height_of(graph, name) for name in results}
            completes = {name: (begin * own // height, end * own // height) for name, own in heights.items()}
            strip = self._strip(first, last, completes)
            if strip is None or any(start >= stop for start, stop in completes.values()):
                return None
            strips.append(strip)
        sources = tuple(name for name in strips[0].available if name not in made)
        read = dict.fromkeys(name for op in operators for name in op.inputs if name and name not in graph.weight_names)
        return Division(
            graph,
            first,
            operators,
            rows,
            tuple(strips),
            sources,
            tuple(name for name in read if name not in made and name not in sources),
            results,
            self._outer,
        )

    @cached_property
    def _outer(self) -> dict[str, int]:
        block, found = self.graph.cpu.nchwc_block, {}
        for name, tensor in self.graph.tensors.items():
            if len(tensor.shape) == _RANK:
                images, channels = tensor.shape[:2]
                found[name] = images * (channels // block if name in self.blocked else channels)
        return found

    def _strip(self, first: int, last: int, completes: Mapping[str, Rows]) -> Strip | None:
        """Walk from the results to the sources; None where an operator reads the whole of what another makes."""
        graph, needed = self.graph, dict(completes)
        done: list[StripOperator] = []
        made: dict[str, Rows] = {}
        whole: set[str] = set()
        for op in reversed(graph.operators[first : last + 1]):
            if op.result in whole:
                return None
            one = self._strip_operator(op, needed.pop(op.result))
            done.append(one)
            made[op.result] = one.made
            for name, rows in zip(op.inputs, one.reads, strict=True):
                if rows is not None:
                    begin, end = needed.get(name, rows)
                    needed[name] = (min(begin, rows[0]), max(end, rows[1]))
                elif name and name not in graph.weight_names:
                    whole.add(name)
        return Strip(tuple(done[::-1]), needed | made, completes)

    def _strip_operator(self, op: Operator, needed: Rows) -> StripOperator:
        graph = self.graph
        rest: list[Rows | None] = [None] * (len(op.inputs) - 1)
        if op.qualified_type in _WINDOWED:
            rows, columns = self._axes_of(op)
            begin, end = rows.reads(needed)
            inside = (max(0, begin), min(rows.size, end))
            if len(op.inputs) > 3 and op.inputs[3]:
                rest[2] = needed  # what the kernel adds to its result
            return StripOperator(
                needed, (inside, *rest), (inside[0] - begin, columns.before, end - inside[1], columns.after)
            )
        if op.qualified_type == _UPSAMPLE:
            scale = _scale(op, graph)
            begin, end = needed[0] // scale, -(-needed[1] // scale)
            return StripOperator((begin * scale, end * scale), ((begin, end), *rest), None)
        return StripOperator(needed, tuple([needed if by_rows else None for by_rows in self._by_rows_of(op)]), None)

    def _axes_of(self, op: Operator) -> tuple[_Axis, _Axis]:
        key = id(op)  # the graph holds it, so its id stays its own
        if key not in self._axes:
            self._axes[key] = _axes(op, self.graph)
        return self._axes[key]

    def _by_rows_of(self, op: Operator) -> tuple[bool, ...]:
        """For each input of an operator that goes row by row, whether it reads the rows that it makes."""
        key = id(op)
        if key not in self._by_rows:
            graph, height = self.graph, height_of(self.graph, op.result)
            self._by_rows[key] = tuple(
                bool(name) and name not in graph.weight_names and height_of(graph, name) == height for name in op.inputs
            )
        return self._by_rows[key]

    def _divides(self, op: Operator) -> bool:
        graph, tensors, kind = self.graph, self.graph.tensors, op.qualified_type
        if len([name for name in op.outputs if name]) != 1 or op.attributes.get("channels_last", 0):
            return False
        activations = [name for name in op.inputs if name and name not in graph.weight_names]
        if any(len(tensors[name].shape) != _RANK for name in (*activations, op.result)):
            return False
        if not activations or tensors[op.result].dtype != "float32" or 0 in tensors[op.result].shape:
            return False
        if kind in _WINDOWED:
            return _windows_divide(op, graph)
        if kind == _UPSAMPLE:
            return op.attributes.get("mode", "nearest") == "nearest" and _scale(op, graph) > 0
        if kind not in _ROW_BY_ROW and not (kind in _ROW_BY_ROW_IN_BLOCKS and op.result in self.blocked):
            return False
        if op.type == "Concat" and op.attributes.get("axis") != 1:
            return False
        heights = [height_of(graph, name) for name in activations]
        height = height_of(graph, op.result)
        constants = [tensors[name].shape for name in op.inputs if name in graph.weight_names]
        return (
            height in heights
            and all(one in (1, height) for one in heights)
            and all(len(shape) < 2 or shape[-2] == 1 for shape in constants)  # the same for all rows
        )


def reads_windows(op: Operator) -> bool:
    """Whether an operator that can be divided reads windows of its first input, and so cannot write over it."""
    return op.qualified_type in _WINDOWED


def results_of(graph: OptimizedGraph, first: int, last: int) -> tuple[str, ...]:
    """What some consecutive operators make and others read, or nobody."""
    ends, outputs = graph.lifetimes.last_read, set(graph.outputs)
    made = [op.result for op in graph.operators[first : last + 1]]
    return tuple(name for name in made if ends.get(name, last + 1) > last or name in outputs)


def height_of(graph: OptimizedGraph, name: str) -> int:
    """Rows of a tensor of four dimensions."""
    return graph.tensors[name].shape[_ROW_AXIS]


def _blocked_tensors(graph: OptimizedGraph) -> frozenset[str]:
    """Tensors in the runtime's blocked layout, in which the values of several channels lie side by side."""
    found: set[str] = set()
    for op in graph.operators:
        if op.domain == _NCHWC:
            found.update([] if op.type == "ReorderOutput" else filter(None, op.outputs))
        elif op.qualified_type in _ROW_BY_ROW | _ROW_BY_ROW_IN_BLOCKS and not found.isdisjoint(op.inputs):
            found.update(filter(None, op.outputs))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Axis:
    """A kernel along rows or columns: its extent with dilation, its stride, and the padding before and after."""

    extent: int
    stride: int
    before: int
    after: int
    size: int

    def reads(self, made: Rows) -> Rows:
        """What is read for some of the results; what lies outside the tensor is padding."""
        return made[0] * self.stride - self.before, (made[1] - 1) * self.stride - self.before + self.extent


def _axes(op: Operator, graph: OptimizedGraph) -> tuple[_Axis, _Axis]:
    """The kernel along rows and along columns."""
    source, made = graph.tensors[op.inputs[0]].shape, graph.tensors[op.result].shape
    kernel = _numbers(op, "kernel_shape", graph.tensors[op.inputs[1]].shape[2:] if op.type == "Conv" else (1, 1))
    strides, dilations = _numbers(op, "strides", (1, 1)), _numbers(op, "dilations", (1, 1))
    pads, automatic = _numbers(op, "pads", (0, 0, 0, 0)), op.attributes.get("auto_pad", "NOTSET")

    def along(axis: int) -> _Axis:
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        before, after = pads[axis], pads[axis + 2]
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, (made[axis + 2] - 1) * strides[axis] + extent - source[axis + 2])
            before = total // 2 if automatic == "SAME_UPPER" else total - total // 2
            after = total - before
        elif automatic == "VALID":
            before = after = 0
        return _Axis(extent, strides[axis], before, after, source[axis + 2])

    return along(0), along(1)


def _numbers(op: Operator, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = op.attributes.get(name)
    return tuple(int(one) for one in value) if isinstance(value, tuple) and value else default


def _windows_divide(op: Operator, graph: OptimizedGraph) -> bool:
    weights, made = graph.weight_names, graph.tensors[op.result].shape
    if op.inputs[0] in weights or any(name not in weights for name in op.inputs[1:3] if name):
        return False
    if len(op.inputs) > 3 and op.inputs[3] and (op.inputs[3] in weights or graph.tensors[op.inputs[3]].shape != made):
        return False
    for axis, size in zip(_axes(op, graph), made[_ROW_AXIS:], strict=True):
        beyond = axis.reads((0, size))[1] - axis.size
        # Each window holds a value, and what lies beyond the end is padding and does not come from rounding up.
        if min(axis.before, axis.after) < 0 or max(axis.before, beyond) >= axis.extent or beyond > axis.after:
            return False
    return True


def _scale(op: Operator, graph: OptimizedGraph) -> int:
    source, made = height_of(graph, op.inputs[0]), height_of(graph, op.result)
    return made // source if made % source == 0 else 0
