"""What an operator costs by its shapes: floating-point operations, and bytes read and written.

An operator whose type is not registered in `sectum.ort.operators` is never free: it is marked ``supported=False``, its
bytes are counted, and its operations get the documented estimate of `_generic`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sectum.errors import OperatorUnsupported
from sectum.graph.ir import Dataflow, Operator, TensorKind
from sectum.ort.flops import elements
from sectum.ort.operators import describe


class OperatorCost(NamedTuple):
    """Cost of one operator in one inference; one that works on constants only is folded and costs nothing.

    Attributes:
        flops: operations; a multiply-accumulate counts as 2, a comparison or a transcendental function as 1.
        input_bytes: activations read.
        weight_bytes: weights read; of a table, the rows that are gathered.
        output_bytes: bytes written.
        supported: whether the operator is known; if not, ``flops`` is an estimate.
        flops_bounds: least and most operations: equal to ``flops`` for a known operator. An unknown one does
            at least one operation for each element it writes, and at most as many as if each output element
            depended on every element read.
    """

    flops: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    supported: bool
    flops_bounds: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many operators of a graph have a known cost.

    Attributes:
        operators: operators that run in an inference, and unknown ones on constants.
        supported: those among them that are known.
        unsupported: how often each unknown type occurs, by qualified type.
    """

    operators: int
    supported: int
    unsupported: Mapping[str, int]


def is_supported(op: Operator) -> bool:
    """Whether the operator's cost is known."""
    return describe(op).flops is not None


def cost(op: Operator, graph: Dataflow) -> OperatorCost:
    """Cost of an operator of the graph in one inference."""
    flops_of = describe(op).flops
    if flops_of is not None and graph.is_constant(op):
        return OperatorCost(0, 0, 0, 0, True, (0, 0))
    n_bytes, weight_names = graph.n_bytes, graph.weight_names
    read = weights = written = 0
    for name in dict.fromkeys(op.inputs):  # an operand read twice comes from memory once
        if name in weight_names:
            weights += n_bytes[name]
        elif name:
            read += n_bytes[name]
    for name in op.outputs:
        if name:
            written += n_bytes[name]
    if op.type in ("Gather", "GatherND"):  # of a table, only the rows that it writes are read
        weights = min(weights, written)
    if flops_of is not None:
        flops = flops_of(op, graph)
        return OperatorCost(flops, read, weights, written, True, (flops, flops))
    flops, bounds = _generic(op, graph)
    return OperatorCost(flops, read, weights, written, False, bounds)


def _generic(op: Operator, graph: Dataflow) -> tuple[int, tuple[int, int]]:
    """Operations of an unknown operator: an estimate and its bounds.

    Two known extremes span what CNN operators do. An elementwise operator does a few operations for each
    element that it touches; a product uses each weight once for each row of its activations, where a row is
    the last dimension. The estimate is the larger of both: 4 operations for each element read or written, or
    2 for each weight and row.
    """
    made = sum(elements(graph, name) for name in op.outputs)
    read = {name: graph.tensors[name] for name in op.inputs if name}
    touched = made + sum(tensor.elements for tensor in read.values())
    weights = sum(t.elements for t in read.values() if t.kind is TensorKind.WEIGHT)
    rows = 1
    for name in op.outputs[:1]:
        shape = graph.tensors[name].shape if name else ()
        rows = math.prod(shape[:-1])
    least = max(made, 1)
    estimate = max(4 * touched, 2 * weights * rows, least)
    most = max(2 * made * max(touched - made, 1), estimate)
    return estimate, (least, most)


def coverage(graph: Dataflow) -> Coverage:
    """Count the operators whose cost is known and those whose is not."""
    operators = 0
    unknown: Counter[str] = Counter()
    for op in graph.operators:
        known = is_supported(op)
        if known and graph.is_constant(op):
            continue
        operators += 1
        if not known:
            unknown[op.qualified_type] += 1
    return Coverage(operators, operators - unknown.total(), dict(sorted(unknown.items())))


def require_supported(graph: Dataflow) -> None:
    """Refuse a graph with operators of unknown cost.

    Raises:
        OperatorUnsupported: there are some; the message lists them with their counts.
    """
    unknown = coverage(graph).unsupported
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.items())
        raise OperatorUnsupported(
            f"no cost is known for these operators: {listed}. Replace them, or leave out --strict to have "
            "their cost estimated from the bytes that they move"
        )
