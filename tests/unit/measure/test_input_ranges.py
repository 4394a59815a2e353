"""Integer inputs: which values their readers accept, and that a measurement draws those."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum.enclave.runners.child import _inputs
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job
from sectum.errors import RuntimeRefused
from sectum.graph import read
from sectum.measure.input_ranges import Range, input_ranges


def model(nodes: list[onnx.NodeProto], shape: list[int], constants: dict[str, np.ndarray]) -> bytes:
    """A model with one int64 input ``ids`` and one output ``y``."""
    graph = helper.make_graph(
        nodes,
        "integers",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


TABLE = np.ones((50, 8), np.float32)
NARROW = np.ones((3, 7), np.float32)
GATHER = helper.make_node("Gather", ["table", "ids"], ["y"])


@pytest.mark.parametrize(
    ("nodes", "shape", "constants", "expected"),
    [
        ([GATHER], [4], {"table": TABLE}, (0, 50)),
        ([helper.make_node("Gather", ["table", "ids"], ["y"], axis=1)], [4], {"table": NARROW}, (0, 7)),
        ([helper.make_node("GatherElements", ["table", "ids"], ["y"])], [3, 7], {"table": NARROW}, (0, 3)),
        ([helper.make_node("GatherND", ["table", "ids"], ["y"])], [4, 2], {"table": NARROW}, (0, 3)),
        (
            [helper.make_node("OneHot", ["ids", "depth", "values"], ["y"])],
            [4],
            {"depth": np.array(12), "values": np.array([0, 1], np.float32)},
            (0, 12),
        ),
        (
            [
                helper.make_node("Cast", ["ids"], ["narrow"], to=TensorProto.INT32),
                helper.make_node("Unsqueeze", ["narrow", "axis"], ["wide"]),
                helper.make_node("Gather", ["table", "wide"], ["y"]),
            ],
            [4],
            {"table": TABLE, "axis": np.array([0])},
            (0, 50),
        ),
        (
            [
                helper.make_node("Add", ["ids", "two"], ["positions"]),
                helper.make_node("Gather", ["table", "positions"], ["y"]),
            ],
            [4],
            {"table": TABLE, "two": np.array(2)},
            (0, 48),
        ),
        (
            [
                helper.make_node("Gather", ["table", "ids"], ["a"], axis=0),
                helper.make_node("Gather", ["narrow", "ids"], ["b"], axis=0),
                helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
            ],
            [4],
            {"table": TABLE, "narrow": NARROW},
            (0, 3),
        ),
        ([helper.make_node("Cast", ["ids"], ["y"], to=TensorProto.FLOAT)], [4], {}, None),
    ],
    ids=["gather", "axis", "elements", "nd", "one-hot", "passed on", "shifted", "two tables", "free"],
)
def test_the_readers_of_an_input_say_what_it_may_hold(
    nodes: list[onnx.NodeProto], shape: list[int], constants: dict[str, np.ndarray], expected: Range | None
) -> None:
    """A table's rows, a one-hot's depth and a constant offset limit an integer input; what nobody indexes is free."""
    content = model(nodes, shape, constants)
    found = input_ranges(read(content).graph)
    assert found == ({} if expected is None else {"ids": expected})
    session = onnxruntime.InferenceSession(content)
    session.run(None, _inputs(session, 0, found))


def test_integers_are_drawn_from_the_whole_range() -> None:
    """An embedding is read all over its table, not only in its first two rows."""
    session = onnxruntime.InferenceSession(model([GATHER], [4000], {"table": TABLE}))
    assert set(_inputs(session, 0, {"ids": (0, 50)})["ids"].tolist()) == set(range(50))
    assert set(_inputs(session, 0, {})["ids"].tolist()) == {0, 1}


@pytest.mark.slow
def test_an_input_that_the_runtime_refuses_is_named(tmp_path: Path) -> None:
    """If the runtime refuses an inference, the error gives its reason and the integers that were drawn."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model([GATHER], [4], {"table": np.ones((1, 8), np.float32)}))
    with (
        NativeRunner().start(Job(model=path, input_ranges={"ids": (7, 8)})) as session,
        pytest.raises(RuntimeRefused, match=r"inclusive range \[-1,0\].*drawn at random: 'ids' from 7 to 7"),
    ):
        session.sample(1)
