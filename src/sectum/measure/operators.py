"""The runtime's times of operators, assigned to the operators of an optimized graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sectum.enclave.runners.runner import OperatorTime
from sectum.measure.reference import sums_share
from sectum.ort.optimized import OptimizedGraph


def in_references(time: OperatorTime, share: float) -> float:
    """Give an operator's time over that of the reference kernels, mixed as for its whole network."""
    return time.time_us / (time.products_us + share * (time.sums_us - time.products_us))


def match(runtime: OptimizedGraph, times: Iterable[OperatorTime], *, share: float | None = None) -> list[float] | None:
    """Assign times to the graph's operators, in their order; None if the runtime executed other operators.

    Operators of the same type and shapes are matched by their order, which is that of execution in both.

    Args:
        runtime: the graph.
        times: of the operators that the runtime executed.
        share: of the reduction kernel in the references; None for that of the graph.
    """
    share = sums_share(runtime) if share is None else share
    waiting: dict[tuple[object, ...], list[float]] = defaultdict(list)
    count = 0
    for time in times:
        waiting[time.type, time.output_shapes].append(in_references(time, share))
        count += 1
    if count != len(runtime.operators):
        return None
    matched = []
    for op in runtime.operators:
        queue = waiting[op.type, tuple(runtime.tensors[name].shape for name in op.outputs if name)]
        if not queue:
            return None
        matched.append(queue.pop(0))
    return matched
