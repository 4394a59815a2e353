"""Which operators are divided by output channels, and which are not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum.graph import read
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.plan.units import channels_of


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
    optimized = optimize(read(model.SerializeToString()).graph, Cpu(16))
    return channels_of(optimized.operators[-1], optimized)


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
