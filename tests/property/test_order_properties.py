"""Orders of operators: the least peak there is on small graphs, and what the runtime executes."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawing import examples
from optimized_graphs import as_optimized
from sectum.enclave.streaming.node_order import file_order, runtime_order
from sectum.graph import Graph, Operator, Tensor, TensorKind
from sectum.ort import OptimizedGraph
from sectum.plan import order as module
from sectum.plan.order import can_run, in_order, least_peak_order, reads_of


@st.composite
def graphs(draw: st.DrawFn, most: int = 7) -> OptimizedGraph:
    """Graphs of a few operators on tensors of many sizes; whatever nobody reads is an output."""
    tensors = {"x": Tensor("x", (1, draw(st.integers(1, 50))), "float32", TensorKind.INPUT)}
    operators: list[Operator] = []
    for index in range(draw(st.integers(1, most))):
        sources = draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=3))
        name = f"t{index}"
        tensors[name] = Tensor(name, (1, draw(st.integers(1, 50))), "float32", TensorKind.ACTIVATION)
        operators.append(Operator(name, "Concat", tuple(sources), (name,)))
    read = {name for op in operators for name in op.inputs}
    outputs = tuple(op.result for op in operators if op.result not in read)
    return as_optimized(Graph("random", tuple(operators), tensors, ("x",), outputs, 17))


@given(graphs())
@examples(80)
def test_no_other_order_has_a_lower_peak(graph: OptimizedGraph) -> None:
    """Dynamic programming, region by region, finds the least peak of all orders in which the operators can run."""
    found = least_peak_order(graph)
    assert can_run(graph.operators, found)
    orders = (one for one in permutations(range(len(graph.operators))) if can_run(graph.operators, one))
    best = min(in_order(graph, one).lifetimes.peak_bytes for one in orders)
    assert in_order(graph, found).lifetimes.peak_bytes == best


def test_two_operators_change_places_where_that_frees_memory() -> None:
    """Of two operators that could be next, the one that frees the input runs first."""
    tensors = {"x": Tensor("x", (1, 1), "float32", TensorKind.INPUT)}
    tensors |= {name: Tensor(name, (1, 1), "float32", TensorKind.ACTIVATION) for name in ("t0", "t1", "t2")}
    reads = {"t0": ("x",), "t1": ("t0",), "t2": ("t0", "x")}
    operators = tuple(Operator(name, "Concat", sources, (name,)) for name, sources in reads.items())
    graph = as_optimized(Graph("two", operators, tensors, ("x",), ("t1", "t2"), 17))
    assert least_peak_order(graph) == [0, 2, 1]


@given(graphs(most=6))
@examples(60)
def test_the_rule_for_large_regions_never_makes_it_worse(graph: OptimizedGraph) -> None:
    """Without dynamic programming, the peak lies between the least there is and that of the given order."""
    best = in_order(graph, least_peak_order(graph)).lifetimes.peak_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_STATES", 0)
        found = least_peak_order(graph)
    assert can_run(graph.operators, found)
    assert best <= in_order(graph, found).lifetimes.peak_bytes <= graph.lifetimes.peak_bytes


@given(graphs(most=20))
def test_the_runtime_can_run_what_is_put_into_a_file(graph: OptimizedGraph) -> None:
    """The order of the file, and the one that the runtime makes of it, have each operator after what it reads."""
    reads = reads_of(graph.operators)
    assert can_run(graph.operators, file_order(reads))
    assert can_run(graph.operators, runtime_order(reads))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_branches_run_in_the_order_that_was_asked_for(branches: list[int]) -> None:
    """Branches that follow each other keep their order, although the runtime enters the last of a file first."""
    reads: list[list[int]] = [[]]
    ends = []
    for length in branches:
        for place in range(length):
            reads.append([0] if place == 0 else [len(reads) - 1])
        ends.append(len(reads) - 1)
    reads.append(ends)
    assert runtime_order(reads) == list(range(len(reads)))


@pytest.mark.slow
def test_the_runtime_executes_a_file_in_the_order_that_is_modelled(tmp_path) -> None:
    """What a profile of the runtime says was executed is what `runtime_order` says."""
    import json

    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    reads = [[], [0], [1], [0], [3], [2, 4], [0], [5, 6], [5], [7, 8]]
    kinds = {0: "Neg", 1: "Exp", 2: "Concat", 3: "Concat"}
    nodes = [
        helper.make_node(
            kinds[min(len(sources), 3)] if sources else "Neg", [f"t{one}" for one in sources] or ["x"], [f"t{place}"],
            name=f"n{place}", **({"axis": 0} if len(sources) > 1 else {}),
        )
        for place, sources in enumerate(reads)
    ]  # fmt: skip
    graph = helper.make_graph(
        [nodes[place] for place in file_order(reads)], "order",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info(f"t{len(reads) - 1}", TensorProto.FLOAT, None)],
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.ones((2, 3), np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    executed = [one["name"] for one in events if one.get("name", "").endswith("_kernel_time")]
    assert executed == [f"n{place}_kernel_time" for place in runtime_order(reads)]
