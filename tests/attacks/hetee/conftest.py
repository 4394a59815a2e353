"""A real rack to attack, and a model whose answers show which input they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hetee_rack import Rack


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """One rack for a module."""
    from hetee_rack import Rack

    with Rack("cpu=2") as started:
        yield started


@pytest.fixture(scope="session")
def doubler() -> bytes:
    """A model that doubles its input."""
    from onnx import TensorProto, helper

    node = helper.make_node("Add", ["x", "x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy"]
    graph = helper.make_graph([node], "double", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()
