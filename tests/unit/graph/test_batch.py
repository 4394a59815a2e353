"""A batch that the file fixes can be changed, and every row of the result is what batch 1 gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from places import LIGHT
from sectum.errors import ShapeInconsistent
from sectum.graph import read

NAMES = sorted(path.stem for path in LIGHT.glob("light_*.onnx"))


def telling(name: str) -> onnx.ModelProto:
    """Make the network's rows distinguishable.

    The light models' weights are all equal and their softmax makes all outputs equal: random weights are put
    in where they are not huge, and what goes into the softmax is made an output too.
    """
    model = onnx.load(LIGHT / f"{name}.onnx")
    graph = model.graph
    rng = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        shape = shapes[node.input[0]]
        if np.prod(shape) > 3_000_000:
            continue
        if len(shape) == 1:
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        graph.node.remove(node)
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    softmax = [node for node in graph.node if node.op_type == "Softmax"]
    if softmax:
        graph.output.append(helper.make_tensor_value_info(softmax[0].input[0], TensorProto.FLOAT, None))
    return model


def run(model: bytes, data: np.ndarray) -> list[np.ndarray]:
    """Outputs of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (single,) = session.get_inputs()
    assert tuple(single.shape) == data.shape
    return session.run(None, {single.name: data})


def test_all_nine_models_are_there() -> None:
    """The tests below say something about nine networks, not about an empty list."""
    assert len(NAMES) == 9


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_batch_scales_all_activations(name: str) -> None:
    """Batches up to 16 give the same operators with the first dimension of every output scaled."""
    path = LIGHT / f"{name}.onnx"
    one = read(path).graph
    for batch in (2, 3, 7, 16):
        graph = read(path, batch=batch).graph
        assert [op.type for op in graph.operators] == [op.type for op in one.operators]
        assert graph.weight_bytes == pytest.approx(one.weight_bytes, abs=4096)  # shape constants count too
        for op in graph.operators:
            for output in op.outputs:
                before, after = one.tensors[output], graph.tensors[output]
                scale = 1 if graph.is_constant(op) else batch
                assert after.elements == before.elements * scale, output
        for output in graph.outputs:
            assert graph.tensors[output].shape == (batch, *one.tensors[output].shape[1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_rows_equal_batch_one(name: str) -> None:
    """ONNX Runtime on the re-batched model gives, row by row, what it gives on the original."""
    source = telling(name).SerializeToString()
    batch = 2
    data = np.random.default_rng(1).standard_normal((batch, 3, 224, 224)).astype(np.float32)
    data *= np.array([1, 4], np.float32).reshape(batch, 1, 1, 1)
    single = read(source).bound_bytes()
    wanted = [run(single, data[i : i + 1]) for i in range(batch)]
    got = run(read(source, batch=batch).bound_bytes(), data)
    for index, output in enumerate(got):
        rows = np.concatenate([row[index] for row in wanted])
        assert output.shape == rows.shape
        np.testing.assert_allclose(output, rows, rtol=1e-3, atol=1e-4 * np.abs(rows).max())
    assert np.abs(got[-1][0] - got[-1][1]).max() > 1e-3 * np.abs(got[-1]).max()  # the rows do differ


def fixed(*nodes: onnx.NodeProto, weights: dict[str, np.ndarray] | None = None, batch: int | str = 1) -> bytes:
    """A model x [batch, 4, 6] -> y."""
    graph = helper.make_graph(
        list(nodes), "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def test_batch_may_be_part_of_a_larger_leading_dimension() -> None:
    """A reshape that merges the batch with the next dimension is scaled, and so is the way back."""
    source = fixed(
        helper.make_node("Reshape", ["x", "merged"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Reshape", ["r", "back"], ["y"]),
        weights={"merged": np.array([4, 6]), "back": np.array([1, 4, 6])},
    )
    graph = read(source, batch=5).graph
    assert graph.tensors["m"].shape == (20, 6)
    assert graph.tensors["y"].shape == (5, 4, 6)
    data = np.random.default_rng(0).standard_normal((5, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(read(source, batch=5).bound_bytes(), data)[0], np.maximum(data, 0))


def test_open_batch_with_one_in_a_shape_constant() -> None:
    """A batch of 1 that an exporter left in a shape constant is replaced although the input's batch is open."""
    source = fixed(
        helper.make_node("Reshape", ["x", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
        weights={"flat": np.array([1, 24]), "w": np.ones((24, 2), np.float32)},
        batch="N",
    )
    assert read(source, batch=3).graph.tensors["y"].shape == (3, 2)


def test_shared_shape_constant_keeps_its_other_use() -> None:
    """A shape constant that a weight is reshaped by as well keeps its value there."""
    source = fixed(
        helper.make_node("Reshape", ["x", "s"], ["a"]),
        helper.make_node("Reshape", ["w", "s"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
        weights={"s": np.array([1, 24]), "w": np.ones((24,), np.float32)},
    )
    graph = read(source, batch=3).graph
    assert graph.tensors["b"].shape == (1, 24)
    assert graph.tensors["y"].shape == (3, 24)


@pytest.mark.parametrize(
    "nodes",
    [
        (helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), helper.make_node("Relu", ["t"], ["y"])),
        (helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0),),
        (helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
         helper.make_node("Reshape", ["t", "s"], ["y"])),
    ],
)  # fmt: skip
def test_what_cannot_be_rebatched_is_refused(nodes: tuple[onnx.NodeProto, ...]) -> None:
    """A network whose outputs do not run over the batch is refused with the advice to export it differently."""
    source = fixed(*nodes, weights={"axis": np.array([0]), "s": np.array([4, 1, 6])})
    assert read(source)
    with pytest.raises(ShapeInconsistent, match="symbolic batch"):
        read(source, batch=2)
