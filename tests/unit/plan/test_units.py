"""Which operators are divided by output channels, and which are not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from kinds_of_models import build
from sectum.graph import read
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.plan.units import channels_of, stored_weights, touched_bytes


def channels(kind: str, weight: tuple[int, int], added: tuple[int, ...] | None, rows: int = 4, **attributes) -> int:
    """Channels by which a product is divided."""
    names, weights = ["x", "w"], [numpy_helper.from_array(np.ones(weight, np.float32), "w")]
    if added is not None:
        names.append("c")
        weights.append(numpy_helper.from_array(np.full(added, 2, np.float32), "c"))
    depth = weight[1] if attributes.get("transB") else weight[0]
    node = helper.make_node(kind, names, ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, depth])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    optimized = optimize(read(model.SerializeToString()).graph, Cpu.AVX512)
    return channels_of(optimized.operators[-1], optimized)


def test_of_a_table_the_pages_that_are_read_count() -> None:
    """The rows that an inference is expected to read of a table are far fewer than the table has, and they stay."""
    graph = optimize(read(build("large_table")).graph, Cpu.AVX512)
    (gather,) = (op for op in graph.operators if op.type == "Gather")
    assert 0 < touched_bytes(gather, graph) < sum(stored_weights(gather, graph).values()) / 10
    (product,) = (op for op in graph.operators if op.type == "MatMul")
    assert touched_bytes(product, graph) == sum(stored_weights(product, graph).values())


@pytest.mark.parametrize(
    ("kind", "weight", "added", "rows", "attributes", "expected"),
    [
        ("Gemm", (32, 64), (64,), 4, {}, 64),
        ("Gemm", (64, 32), (1, 64), 4, {"transB": 1}, 64),
        ("Gemm", (32, 64), (1,), 4, {}, 64),
        ("Gemm", (32, 64), (64, 1), 64, {}, 0),  # one value for each row
        ("Gemm", (32, 64), (4, 64), 4, {}, 0),
        ("Gemm", (32, 64), None, 4, {}, 64),
        ("MatMul", (32, 64), None, 4, {}, 64),
    ],
)
def test_products_are_divided_by_columns(kind, weight, added, rows, attributes, expected) -> None:
    """A product is divided where its weight, and what is added to it, can be cut by columns."""
    assert channels(kind, weight, added, rows, **attributes) == expected
