"""Times of a profile are given to the operators of the graph."""

from __future__ import annotations

import pytest

from optimized_graphs import as_optimized
from sectum.enclave.runners.runner import OperatorTime
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.measure.operators import match
from sectum.ort.optimized import OptimizedGraph


def chain(types: tuple[str, ...]) -> OptimizedGraph:
    names = ["x", *(f"t{i}" for i in range(len(types)))]
    tensors = {
        name: Tensor(name, (1, 4), "float32", TensorKind.INPUT if name == "x" else TensorKind.ACTIVATION)
        for name in names
    }
    operators = tuple(Operator(f"n{i}", kind, (names[i],), (names[i + 1],)) for i, kind in enumerate(types))
    return as_optimized(Graph("chain", operators, tensors, ("x",), (names[-1],), 17))


def time(kind: str, ratio: float) -> OperatorTime:
    return OperatorTime(kind, kind, ratio, 1.0, 1.0, ((1, 4),))


def test_times_are_matched_to_operators_of_the_same_kind_in_order() -> None:
    """Two operators alike get their times in the order of execution."""
    times = [time("Relu", 1.0), time("Exp", 2.0), time("Relu", 3.0)]
    assert match(chain(("Relu", "Exp", "Relu")), times) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("types", [("Relu", "Exp"), ("Relu", "Exp", "Exp"), ("Relu", "Exp", "Relu", "Relu")])
def test_another_graph_than_the_runtimes_is_not_matched(types: tuple[str, ...]) -> None:
    """Where the runtime executed other operators there are no times, rather than wrong ones."""
    times = [time("Relu", 1.0), time("Exp", 2.0), time("Relu", 3.0)]
    assert match(chain(types), times) is None
