"""How long each tensor is alive, in an order of operators that the wiring alone decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sectum.graph.ir import TensorKind
from sectum.ort.optimized import OptimizedGraph


@dataclass(frozen=True)
class Lifetimes:
    """Operators in order, and the tensors between them. A *place* is a position in that order.

    Attributes:
        order: index in the graph of the operator at each place.
        live_bytes: activations and graph inputs alive while the operator at each place runs.
        made_place: place of the operator that makes each activation.
        last_place: place of the last operator that reads each activation; graph outputs live to the end.
        readers: input slots that read each activation.
        n_bytes: size of each tensor.
    """

    order: tuple[int, ...]
    live_bytes: tuple[int, ...]
    made_place: Mapping[str, int]
    last_place: Mapping[str, int]
    readers: Mapping[str, int]
    n_bytes: Mapping[str, int]


def lifetimes(graph: OptimizedGraph) -> Lifetimes:
    """Find the lifetimes of a graph's activations and inputs."""
    order = canonical_order(graph)
    operators = graph.operators
    activations = {name for name, tensor in graph.tensors.items() if tensor.kind is not TensorKind.WEIGHT}
    n_bytes = {name: tensor.n_bytes for name, tensor in graph.tensors.items()}
    made: dict[str, int] = {}
    last: dict[str, int] = {}
    readers: dict[str, int] = {}
    for place, index in enumerate(order):
        for name in operators[index].outputs:
            if name:
                made[name] = last[name] = place
        for name in operators[index].inputs:
            if name in activations:
                last[name] = place
                readers[name] = readers.get(name, 0) + 1
    for name in graph.outputs:
        if name in last:
            last[name] = len(order) - 1
    change = [0] * (len(order) + 1)
    for name, end in last.items():
        change[made.get(name, 0)] += n_bytes[name]
        change[end + 1] -= n_bytes[name]
    live, alive = [], 0
    for delta in change[:-1]:
        alive += delta
        live.append(alive)
    return Lifetimes(tuple(order), tuple(live), made, last, readers, n_bytes)


def canonical_order(graph: OptimizedGraph) -> list[int]:
    """Operators depth first, from each graph output towards the inputs, input slots in turn.

    The runtime orders operators itself, whatever the file says, and also depth first.
    """
    maker = {name: index for index, op in enumerate(graph.operators) for name in op.outputs if name}
    read = {name for op in graph.operators for name in op.inputs}
    # Operators that nothing reads, if there are any, come last, in the order in which they are listed.
    ends = [name for name in graph.outputs if name in maker]
    ends += [name for name in maker if name not in read and name not in graph.outputs]
    order: list[int] = []
    done: set[int] = set()
    for end in ends:
        stack = [(maker[end], 0)]
        while stack:
            index, slot = stack.pop()
            if index in done:
                continue
            inputs = graph.operators[index].inputs
            while slot < len(inputs):
                source = maker.get(inputs[slot])
                slot += 1
                if source is not None and source not in done:
                    stack += [(index, slot), (source, 0)]
                    break
            else:
                done.add(index)
                order.append(index)
    return order
