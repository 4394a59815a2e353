"""Reading ONNX files: binding, shapes, constants, control flow, and the model that is run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from places import LIGHT
from sectum.errors import (
    ModelMalformed,
    ModelTooLarge,
    ModelUnreadable,
    ModelUnsafe,
    ShapeInconsistent,
    ShapeUnbound,
    UsageError,
)
from sectum.graph import Limits, TensorKind, read
from sectum.ort import coverage


def made(
    nodes: list[onnx.NodeProto],
    shape: list[int | str | None] | None = None,
    weights: dict[str, np.ndarray] | None = None,
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model with the float input x."""
    graph = helper.make_graph(
        nodes, "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"] if shape is None else
        shape)], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def session(model: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


RELU = helper.make_node("Relu", ["x"], ["y"])


def test_resnet50_as_published() -> None:
    """ResNet-50 is read with its 97.7 MiB of weights, made by ConstantOfShape, and static shapes throughout."""
    path = LIGHT / "light_resnet50.onnx"
    model = read(path)
    graph = model.graph
    assert graph.name == "light_resnet50"
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert graph.weight_bytes / 2**20 == pytest.approx(97.7, abs=0.1)
    assert graph.tensors[graph.inputs[0]].shape == (1, 3, 224, 224)
    assert graph.tensors[graph.inputs[0]].kind is TensorKind.INPUT
    assert graph.tensors[graph.outputs[0]].shape == (1, 1000)
    assert sum(graph.is_constant(op) for op in graph.operators) == 239
    # The network's widest point is the end of a block of its first stage: two 256x56x56 maps and their sum.
    assert graph.lifetimes.peak_bytes == 3 * 4 * 256 * 56 * 56


@pytest.mark.parametrize("path", sorted(LIGHT.glob("light_*.onnx")), ids=lambda path: path.stem)
def test_shapes_agree_with_onnx(path: Path) -> None:
    """Every shape in the nine networks that ONNX's own inference finds is the shape found here."""
    graph = read(path).graph
    inferred = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    compared = 0
    for info in (*inferred.value_info, *inferred.output):
        dims = info.type.tensor_type.shape.dim
        if all(d.HasField("dim_value") for d in dims):
            assert graph.tensors[info.name].shape == tuple(d.dim_value for d in dims), info.name
            compared += 1
    assert compared > 0.4 * len(graph.operators)


def test_unchanged_model_is_its_own_source() -> None:
    """Where nothing is bound, the model that is run is the file, byte for byte."""
    source = (LIGHT / "light_squeezenet.onnx").read_bytes()
    assert read(source).bound_bytes() == source


def test_symbols_are_bound_by_batch_and_inputs() -> None:
    """Open dimensions take the given sizes, in the graph and in the model that is run."""
    model = read(made([RELU]).SerializeToString(), batch=2, inputs={"x": (2, 3, 32, 48)})
    assert model.graph.tensors["y"].shape == (2, 3, 32, 48)
    assert session(model.bound_bytes()).get_inputs()[0].shape == [2, 3, 32, 48]
    onnx.checker.check_model(onnx.load_from_string(model.bound_bytes()), full_check=True)


@pytest.mark.parametrize(
    ("shape", "flag"),
    [(["N", 3, 8, 8], "--batch 1"), (["N", 3, "H", "W"], "--input x=1x3x224x224"),
     ([1, 3, None, None], "--input x=1x3x224x224"), ([-1, 5], "--batch 1")],
)  # fmt: skip
def test_unbound_dimensions_name_the_flag(shape: list[int | str | None], flag: str) -> None:
    """An open dimension is refused with the input, its index and the flag to write."""
    with pytest.raises(ShapeUnbound, match=f"input 'x'.*{flag}"):
        read(made([RELU], shape).SerializeToString())


@pytest.mark.parametrize(
    ("batch", "inputs", "error"),
    [(0, None, UsageError), (None, {"z": (1,)}, UsageError), (3, {"x": (2, 3, 8, 8)}, UsageError),
     (None, {"x": (1, 3, 0, 8)}, UsageError), (None, {"x": (1, 3, 8)}, ShapeInconsistent),
     (None, {"x": (1, 4, 8, 8)}, ShapeInconsistent)],
)  # fmt: skip
def test_contradicting_arguments(
    batch: int | None, inputs: dict[str, tuple[int, ...]] | None, error: type[Exception]
) -> None:
    """Arguments that contradict each other or the file are refused."""
    with pytest.raises(error):
        read(made([RELU]).SerializeToString(), batch=batch, inputs=inputs)


def test_question_marks_are_no_symbol() -> None:
    """Paddle writes '?' for every open dimension; two of them may differ."""
    model = made([RELU], ["?", 3, "?", "?"])
    assert read(model.SerializeToString(), inputs={"x": (1, 3, 8, 16)}).graph.tensors["y"].shape == (1, 3, 8, 16)


def test_shape_chains_are_evaluated() -> None:
    """Shape, Slice, Concat, Cast and arithmetic on shapes come to numbers, which the runtime folds as well."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Slice", ["s", "two", "four"], ["hw"]),
        helper.make_node("Mul", ["hw", "two"], ["hw2"]),
        helper.make_node("Unsqueeze", ["n", "zero"], ["n1"]),
        helper.make_node("Concat", ["n1", "minus"], ["flat"], axis=0),
        helper.make_node("Concat", ["n1", "three", "hw2"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["big"], mode="nearest"),
        helper.make_node("Reshape", ["big", "flat"], ["y"]),
    ]
    weights = {"zero": np.array(0), "two": np.array([2]), "four": np.array([4]), "minus": np.array([-1]),
               "three": np.array([3])}  # fmt: skip
    weights["zero"] = np.array([0])
    nodes[1] = helper.make_node("Gather", ["s", "scalar"], ["n"])
    weights["scalar"] = np.array(0)
    model = read(made(nodes, weights=weights).SerializeToString(), inputs={"x": (2, 3, 5, 7)})
    assert model.graph.tensors["big"].shape == (2, 3, 10, 14)
    assert model.graph.tensors["y"].shape == (2, 420)
    sizes = model.graph.tensors["sizes"]
    assert sizes.kind is TensorKind.WEIGHT
    assert sizes.value is not None
    assert sizes.value.tolist() == [2, 3, 10, 14]
    (output,) = session(model.bound_bytes()).run(None, {"x": np.ones((2, 3, 5, 7), np.float32)})
    assert output.shape == (2, 420)


def test_shape_decided_by_values_is_refused() -> None:
    """A shape that depends on what the network is fed, not on its size, is an error that says so."""
    nodes = [helper.make_node("NonZero", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=1)]
    with pytest.raises(ShapeInconsistent, match=r"'z'.*NonZero"):
        read(made(nodes, [1, 3, 2, 2]).SerializeToString())


def test_operators_are_put_in_order() -> None:
    """A file with its operators out of order is sorted, in the graph and in the model that is run."""
    nodes = [helper.make_node("Relu", ["b"], ["y"]), helper.make_node("Neg", ["a"], ["b"]),
             helper.make_node("Sigmoid", ["x"], ["a"])]  # fmt: skip
    model = read(made(nodes, [1, 3, 2, 2]).SerializeToString())
    assert [op.type for op in model.graph.operators] == ["Sigmoid", "Neg", "Relu"]
    assert [n.op_type for n in onnx.load_from_string(model.bound_bytes()).graph.node] == ["Sigmoid", "Neg", "Relu"]


def test_constant_operators_stay_and_are_marked() -> None:
    """What constants alone decide is a weight; random numbers are not."""
    nodes = [
        helper.make_node("Neg", ["w"], ["c"]),
        helper.make_node("RandomNormalLike", ["w"], ["r"]),
        helper.make_node("Sum", ["x", "c", "r"], ["y"]),
    ]
    graph = read(made(nodes, [1, 4], {"w": np.ones((1, 4), np.float32)}).SerializeToString()).graph
    assert [graph.is_constant(op) for op in graph.operators] == [True, False, False]
    assert graph.tensors["c"].kind is TensorKind.WEIGHT
    assert graph.weight_bytes == 32
    assert graph.lifetimes.peak_bytes == 3 * 16


def branches(condition: str) -> list[onnx.NodeProto]:
    """An If whose branches are cheap (then) and twice as wide (else)."""
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["t"])], "then", [],
                             [helper.make_tensor_value_info("t", 1, None)])  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["e"], axis=1)], "else", [],
        [helper.make_tensor_value_info("e", 1, None)])  # fmt: skip
    return [helper.make_node("If", [condition], ["y"], then_branch=then, else_branch=other, name="choice")]


def test_branch_of_a_constant_condition_is_taken() -> None:
    """An If with a constant condition becomes the operators of that branch."""
    graph = read(made(branches("c"), [1, 2], {"c": np.array(False)}).SerializeToString()).graph
    assert [op.type for op in graph.operators] == ["Concat", "Identity"]
    assert graph.tensors["y"].shape == (1, 4)
    assert not coverage(graph).unsupported


def test_branch_of_an_open_condition_is_bounded() -> None:
    """An If that the input decides is one unsupported operator, as large as its larger branch."""
    nodes = [helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0), helper.make_node("Cast", ["m"], ["c"], to=9)]
    graph = read(made(nodes + branches("c"), [1, 2]).SerializeToString()).graph
    assert graph.operators[-1].inputs == ("c", "x")
    assert graph.tensors["y"].shape == (1, 4)
    assert coverage(graph).unsupported == {"If": 1}


def test_weights_in_another_file_are_taken_in(tmp_path: Path) -> None:
    """External weights are measured when reading and inlined in the model that is run."""
    weights = {"w": np.arange(4000, dtype=np.float32).reshape(1, 4000)}
    onnx.save(made([helper.make_node("Add", ["x", "w"], ["y"])], [1, 4000], weights), tmp_path / "m.onnx",
              save_as_external_data=True, location="m.bin", size_threshold=0)  # fmt: skip
    model = read(tmp_path / "m.onnx")
    assert model.graph.weight_bytes == 16000
    (output,) = session(model.bound_bytes()).run(None, {"x": np.zeros((1, 4000), np.float32)})
    np.testing.assert_array_equal(output, weights["w"])
    with pytest.raises(ModelUnsafe, match="as bytes"):
        read((tmp_path / "m.onnx").read_bytes())
    (tmp_path / "m.bin").write_bytes(b"short")
    with pytest.raises(ModelMalformed, match="truncated"):
        model.bound_bytes()


def test_initialiser_that_is_an_input_too_is_a_weight() -> None:
    """A default that a caller might override is a constant here and in the model that is run."""
    model = made([helper.make_node("Add", ["x", "w"], ["y"])], [1, 4], {"w": np.ones((1, 4), np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 4]))
    bound = read(model.SerializeToString())
    assert bound.graph.inputs == ("x",)
    assert [i.name for i in session(bound.bound_bytes()).get_inputs()] == ["x"]


def test_limits_are_the_callers() -> None:
    """A caller may ask for less than the defaults allow."""
    source = (LIGHT / "light_squeezenet.onnx").read_bytes()
    for limits in (Limits(nodes=10), Limits(file_bytes=100), Limits(weight_bytes=100), Limits(tensor_bytes=100),
                   Limits(activation_bytes=100), Limits(fields=100), Limits(tensors=5), Limits(rank=2)):  # fmt: skip
        with pytest.raises(ModelTooLarge):
            read(source, limits=limits)


def test_missing_file_is_named() -> None:
    """A path that does not exist is in the message."""
    with pytest.raises(ModelUnreadable, match=r"nowhere\.onnx"):
        read("nowhere.onnx")


@pytest.mark.slow
def test_reading_common_networks_needs_no_onnx_package() -> None:
    """CNNs are shaped by the reader's own rules: the onnx package, slow to import, is not loaded for them."""
    code = (
        "import sys; from sectum.graph import read; read(sys.argv[1]); "
        "sys.exit(bool({'onnx', 'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    for name in ("resnet50", "shufflenet", "inception_v1"):
        subprocess.run([sys.executable, "-c", code, str(LIGHT / f"light_{name}.onnx")], check=True)
