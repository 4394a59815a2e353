"""Operators of a plan are found in a written graph, whatever their order and names."""

from __future__ import annotations

import pytest
from onnx import helper

from sectum.enclave.streaming.matching import ExecutedGraph, in_order_of

EXECUTED = ExecutedGraph(
    names=("a", "left", "right", "sum"),
    types=("Relu", "Conv", "Conv", "com.microsoft:Sum"),
    reads=(("x",), ((0, 0), None), ((0, 0), None), ([1, 0], [2, 0])),
    outputs=(),
    packed=(),
)


def written(*order: str) -> list:
    """The same graph with other names of tensors."""
    nodes = {
        "a": helper.make_node("Relu", ["x"], ["t"], name="a"),
        "left": helper.make_node("Conv", ["t", "w1"], ["u"], name="left"),
        "right": helper.make_node("Conv", ["t", "w2", ""], ["v"], name="right"),
        "sum": helper.make_node("Sum", ["u", "v"], ["y"], name="another", domain="com.microsoft"),
    }
    return [nodes[name] for name in order]


@pytest.mark.parametrize("order", [("a", "left", "right", "sum"), ("a", "right", "left", "sum")])
def test_independent_operators_may_stand_in_any_order(order: tuple[str, ...]) -> None:
    """Operators come out in the plan's order; the same type and inputs are told apart by name."""
    found = in_order_of(EXECUTED, written(*order), ["x"])
    assert found.exact
    assert [node.name for node in found.nodes] == ["a", "left", "right", "another"]


def test_another_graph_is_refused() -> None:
    """An operator that the plan does not know, and one that is missing, are refused."""
    with pytest.raises(ValueError, match="that the plan does not know"):
        in_order_of(EXECUTED, [helper.make_node("Gelu", ["x"], ["t"])], ["x"])
    with pytest.raises(ValueError, match="executes 3 operators"):
        in_order_of(EXECUTED, written("a", "left", "right"), ["x"])


def test_operators_that_move_data_may_stand_elsewhere() -> None:
    """A transpose that the runtime has moved is run after what it reads; the plan's own may be missing."""
    executed = ExecutedGraph(
        names=("a", "t", "b"),
        types=("Relu", "Transpose", "Sigmoid"),
        reads=(("x",), ((0, 0),), ((1, 0),)),
        outputs=(),
        packed=(),
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["u"], name="a"),
        helper.make_node("Sigmoid", ["u"], ["v"], name="b"),
        helper.make_node("Transpose", ["v"], ["y"], name="moved"),
    ]
    found = in_order_of(executed, nodes, ["x"])
    assert [node.name if node else None for node in found.nodes] == ["a", None, "b"]
    assert {position: [node.name for node in others] for position, others in found.others.items()} == {2: ["moved"]}
    assert not found.exact
