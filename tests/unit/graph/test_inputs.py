"""Inputs as people give them: shapes, symbols, values, and branches that values choose."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum.errors import ShapeInconsistent, ShapeUnbound, UsageError
from sectum.graph import Model, TensorKind, read
from sectum.graph.inference_context import ShapeUnknown

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name: str, shape: list[int | str | None] | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def made(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    output: onnx.ValueInfoProto | None = None,
    inner: list[onnx.ValueInfoProto] | None = None,
) -> bytes:
    """A model with the output y."""
    graph = helper.make_graph(
        nodes, "made", inputs, [output or info("y", None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()], value_info=inner or [],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def run(model: Model, **feeds: np.ndarray) -> tuple[int, ...]:
    session = onnxruntime.InferenceSession(model.bound_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0].shape


def rows(size: int) -> np.ndarray:
    return np.ones((1, size), np.float32)


TWO = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Concat", ["r", "b"], ["y"], axis=1)]
BRANCHES = {
    f"{name}_branch": helper.make_graph(
        [helper.make_node("MatMul", ["x", weight], [f"{name}_y"])], name, [], [info(f"{name}_y", None)]
    )
    for name, weight in (("then", "wide"), ("else", "narrow"))
}
WEIGHTS = {"wide": np.ones((512, 8), np.float32), "narrow": np.ones((256, 4), np.float32),
           "sixteen": np.array(16000)}  # fmt: skip
CHOICE = helper.make_node("If", ["c"], ["y"], **BRANCHES)
BY_RATE = [helper.make_node("Equal", ["rate", "sixteen"], ["c"]), CHOICE]


@pytest.mark.parametrize(
    ("declared", "dims"), [(info("y", [1, "s"]), "[1, s]"), (info("y", [1, 3, 4, 9]), "[1, 3, 4, 9]")]
)
def test_declared_output_that_contradicts_is_a_note(declared: onnx.ValueInfoProto, dims: str) -> None:
    """The computed shape of an output counts where the file declares another one, and a note says so."""
    source = made([helper.make_node("Relu", ["x"], ["y"])], [info("x", [1, 3, 4, 4])], output=declared)
    model = read(source)
    assert model.graph.tensors["y"].shape == (1, 3, 4, 4)
    assert len(model.notes) == 1
    assert f"declares the shape {dims} for the output 'y', whose shape is [1, 3, 4, 4]" in model.notes[0]
    assert run(model, x=np.ones((1, 3, 4, 4), np.float32)) == (1, 3, 4, 4)


def test_declared_shapes_in_between_are_a_note() -> None:
    """Wrong shapes that a file states for intermediate tensors are one note, right ones none."""
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["b"]),
             helper.make_node("Relu", ["b"], ["y"])]  # fmt: skip
    wrong = read(made(nodes, [info("x", [1, 4])], inner=[info("a", [1, 5]), info("b", [4])]))
    assert [note for note in wrong.notes if "for the tensor 'a'" in note and "1 more" in note]
    assert wrong.graph.tensors["b"].shape == (1, 4)
    assert not read(made(nodes, [info("x", [1, 4])], inner=[info("a", [1, 4]), info("b", ["n", 4])])).notes


def test_symbol_may_have_another_size_in_each_input() -> None:
    """Shapes that are given count for their input only, as in the runtime; a note names the symbol."""
    model = read(made(TWO, [info("a", [1, "n"]), info("b", [1, "n"])]), inputs={"a": (1, 3), "b": (1, 5)})
    assert model.graph.tensors["y"].shape == (1, 8)
    assert run(model, a=rows(3), b=rows(5)) == (1, 8)
    assert "'n' the size 5" in model.notes[0]
    one = read(made(TWO, [info("a", [1, "n"]), info("b", [1, "n"])]), inputs={"a": (1, 3)})
    assert one.graph.tensors["b"].shape == (1, 3)
    assert not one.notes


@pytest.mark.parametrize(
    ("shapes", "flags"),
    [
        ([["batch", "ids"], ["batch", "mask"]], "--input a=1x128 --input b=1x128"),
        ([["n", 3, "h", "w"], [1, None]], "--input a=1x3x224x224 --input b=1x128"),
        ([[1, "samples"], ["samples"]], "--input a=1x128 --input b=128"),
        ([None, [2, "n"]], "--input a=1x3x224x224 --input b=2x128"),
    ],
)
def test_missing_shapes_of_all_inputs_are_in_one_message(shapes: list[list[int | str | None]], flags: str) -> None:
    """One error names every input without a shape and shows sizes that are not 1, except for the batch."""
    with pytest.raises(ShapeUnbound, match=rf"inputs 'a' .* and 'b' .*{flags}$"):
        read(made(TWO, [info("a", shapes[0]), info("b", shapes[1])]))


def test_value_of_a_scalar_chooses_the_branch() -> None:
    """The branch that a given value chooses is part of the graph; the other one need not fit the shapes."""
    source = made(BY_RATE, [info("x", [1, "n"]), info("rate", [], INT64)], WEIGHTS)
    for rate, size, made_size in ((16000, 512, 8), (8000, 256, 4)):
        model = read(source, inputs={"x": (1, size), "rate": (rate,)})  # one number: a value, since the rank is 0
        assert [op.type for op in model.graph.operators] == ["Equal", "MatMul", "Identity"]
        assert model.graph.tensors["y"].shape == (1, made_size)
        assert model.graph.tensors["c"].kind is TensorKind.ACTIVATION  # the runtime computes it
        assert model.graph.tensors["c"].value is None
        assert "If 'y' takes its" in model.notes[-1]
        assert model.feeds["x"] == (1, size)
        assert run(model, x=rows(size), rate=np.array(model.feeds["rate"])) == (1, made_size)
    with pytest.raises(ShapeInconsistent):
        read(source, inputs={"x": (1, 300), "rate": np.array(16000)})


def test_branches_can_be_assumed() -> None:
    """Without a value, a caller can ask for either branch."""
    source = made(BY_RATE, [info("x", [1, "n"]), info("rate", [], INT64)], WEIGHTS)
    parsed = read(source, inputs={"x": (1, 512), "rate": np.array(1600 * 10)}).parsed
    bound = parsed.bind(inputs={"x": (1, 256)}, branches={"y": False})
    assert bound.graph.tensors["y"].shape == (1, 4)
    with pytest.raises(ShapeInconsistent):
        parsed.bind(inputs={"x": (1, 256)}, branches={"y": True})
    with pytest.raises(ShapeUnbound, match="--input rate=1"):
        parsed.require_values("c", "the branch", None, {"x": (1, 256)})


def test_branch_inside_a_branch_is_chosen_too() -> None:
    """Ifs inside a branch that a value chooses are decided by it as well, and names of unnamed Ifs do not clash."""
    inner = helper.make_graph(
        [helper.make_node("If", ["c"], ["deep"], **BRANCHES), helper.make_node("Relu", ["deep"], ["out"])],
        "outer", [], [info("out", None)])  # fmt: skip
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["neg"])], "other", [], [info("neg", None)])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)
    source = made([BY_RATE[0], node], [info("x", [1, "n"]), info("rate", [], INT64)], WEIGHTS)
    model = read(source, inputs={"x": (1, 512), "rate": np.array(16000)})
    assert [op.type for op in model.graph.operators] == ["Equal", "MatMul", "Identity", "Relu", "Identity"]
    assert len({name for op in model.graph.operators for name in op.outputs}) == 5
    assert run(model, x=rows(512), rate=np.array(16000)) == (1, 8)


def test_values_decide_shapes() -> None:
    """A shape computed from an input is known where its values are given, and refused otherwise."""
    nodes = [helper.make_node("Mul", ["size", "two"], ["twice"]), helper.make_node("Expand", ["x", "twice"], ["y"])]
    source = made(nodes, [info("x", [1, 1]), info("size", [2], INT64)], {"two": np.array(2)})
    model = read(source, inputs={"size": np.array([3, 4])})
    assert model.graph.tensors["y"].shape == (6, 8)
    assert run(model, x=rows(1), size=np.array([3, 4])) == (6, 8)
    with pytest.raises(ShapeUnknown) as problem:
        read(source)
    assert problem.value.decided_by == "twice"
    assert read(source, inputs={"size": np.array([2, 2])}).parsed.bind(inputs={}, learned={"y": ((2, 2), "float32")})


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.array(300), "from 0 to 255"), (np.array(-1), "from 0 to 255"), (np.array(1.5), "whole"),
     (np.array(np.nan), "from 0"), (np.array(2**63, np.uint64), "from 0"), (np.array("a"), "numbers"),
     (np.array(None), "numbers"), (np.array([]), "numbers from 1 up")],
)  # fmt: skip
def test_values_outside_the_type_are_refused(value: np.ndarray, said: str) -> None:
    """A value that an input's type does not have is a usage error that names the range."""
    source = made([helper.make_node("Cast", ["a"], ["y"], to=1)], [info("a", None, TensorProto.UINT8)])
    with pytest.raises(UsageError, match=said):
        read(source, inputs={"a": value})


def test_values_take_the_type_of_the_input() -> None:
    """Whole numbers are given to inputs of floats, integers and booleans alike."""
    for dtype, name in ((FLOAT, "float32"), (INT64, "int64"), (BOOL, "bool"), (TensorProto.FLOAT16, "float16")):
        source = made(
            [helper.make_node("Identity", ["a"], ["y"])], [info("a", [2], dtype)], output=info("y", [2], dtype)
        )
        assert read(source, inputs={"a": np.array([0, 1])}).values["a"].dtype == name


def test_odd_inputs_of_real_files() -> None:
    """Names with colons and dots, rank 0, inputs that nothing reads and unused operator sets are all accepted."""
    nodes = [helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(rows(4))),
             helper.make_node("Mul", ["in:0", "s.c"], ["m"]), helper.make_node("Add", ["m", "w"], ["y"])]  # fmt: skip
    model = onnx.load_from_string(made(nodes, [info("in:0", ["N", 4]), info("s.c", []), info("unused", [3, "k"])]))
    for domain, version in (("com.example.unused", 0), ("ai.onnx.training", 1)):
        model.opset_import.append(helper.make_opsetid(domain, version))
    bound = read(model.SerializeToString(), inputs={"in:0": (2, 4), "unused": (3, 7)})
    assert bound.graph.tensors["y"].shape == (2, 4)
    assert bound.graph.weight_bytes == 16
    assert run(bound, **{"in:0": np.ones((2, 4), np.float32), "s.c": np.array(2, np.float32),
                         "unused": np.ones((3, 7), np.float32)}) == (2, 4)  # fmt: skip
