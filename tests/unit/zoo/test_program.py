"""Networks that are written operator by operator, in every precision."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sectum import zoo
from sectum.errors import ModelUnreadable, UsageError
from sectum.graph import Graph, parse, read
from sectum.zoo.lowered import Weight
from sectum.zoo.onnx_emitter import without_weights
from sectum.zoo.precision import FOUR_BIT_BLOCK, Precision, linear, paired
from sectum.zoo.program import Writer

ROWS, INNER, HIDDEN, OUTER = 5, 48, 64, 24  # of 48 values, a block of 32 and a half one
PRODUCT = {
    Precision.FLOAT: "MatMul", Precision.HALF_WEIGHTS: "MatMul", Precision.DYNAMIC: "MatMulInteger",
    Precision.STATIC: "MatMul", Precision.FOUR_BIT: "MatMulNBits",
}  # fmt: skip
WEIGHT_TYPE = {
    Precision.FLOAT: "float32", Precision.HALF_WEIGHTS: "float16", Precision.DYNAMIC: "int8", Precision.STATIC: "int8",
    Precision.FOUR_BIT: "uint8",
}  # fmt: skip


def two_layers(w: Writer, batch: int, *, precision: Precision) -> None:
    x = w.input("x", batch, ROWS, INNER)
    x = w.op("Relu", linear(w, x, INNER, HIDDEN, precision))
    w.output(linear(w, x, HIDDEN, OUTER, precision))


def program(precision: Precision, seed: int = 0) -> zoo.Program:
    return zoo.Program(f"two layers, {precision}", "dense", partial(two_layers, precision=precision), seed)


def described(graph: Graph) -> dict[str, object]:
    return {name: (tensor.shape, tensor.dtype, tensor.kind) for name, tensor in graph.tensors.items()}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("precision", Precision)
def test_the_graph_of_a_program_is_that_of_its_model(precision: Precision, batch: int) -> None:
    """Operators, shapes, types and small constants are the same whether the weights are made or not."""
    graph, of_model = zoo.to_graph(program(precision), batch), read(zoo.to_bytes(program(precision), batch=batch)).graph
    assert (graph.name, graph.opset) == (of_model.name, of_model.opset)
    assert (graph.inputs, graph.outputs) == (of_model.inputs, of_model.outputs)
    assert graph.operators == of_model.operators
    assert described(graph) == described(of_model)
    for name, tensor in graph.tensors.items():
        if tensor.value is not None:
            np.testing.assert_array_equal(tensor.value, of_model.tensors[name].value)


@pytest.mark.parametrize("precision", Precision)
def test_a_precision_decides_the_product_and_the_weights(precision: Precision) -> None:
    """Each precision has its own operator for the two products, and stores the weights in its own type."""
    network = program(precision)
    graph = zoo.to_graph(network, 2)
    assert [op.type for op in graph.operators].count(PRODUCT[precision]) == 2
    assert graph.tensors[graph.outputs[0]].shape == (2, ROWS, OUTER)
    assert graph.tensors[graph.outputs[0]].dtype == "float32"
    stored = {c.dtype for c in network.lowered().constants.values() if isinstance(c, Weight) and len(c.shape) > 1}
    assert stored == {WEIGHT_TYPE[precision]}


def test_weights_of_four_bits_fill_whole_blocks() -> None:
    """A weight of 48 values in a column takes two blocks of 32 values, of half a byte each, and two scales."""
    graph = zoo.to_graph(program(Precision.FOUR_BIT))
    first = next(op for op in graph.operators if op.type == "MatMulNBits")
    _, weight, scales = (graph.tensors[name].shape for name in first.inputs)
    assert weight == (HIDDEN, 2, FOUR_BIT_BLOCK // 2)
    assert scales == (HIDDEN * 2,)


def test_an_activation_is_quantized_once_however_many_products_read_it() -> None:
    """Two products of one activation share its quantization; another activation gets its own."""
    w = Writer("shared")
    x, other = w.input("x", 1, INNER), w.input("other", 1, INNER)
    for value in (x, x, other):
        w.output(linear(w, value, INNER, OUTER, Precision.DYNAMIC))
    assert [op.type for op in w.lowered.operators].count("DynamicQuantizeLinear") == 2


def test_a_quantized_convolution_is_written_as_pairs() -> None:
    """An activation and a weight go to 8 bits and back, and a convolution of floats lies between."""
    w = Writer("convolution")
    x = paired(w, w.input("x", 1, 3, 8, 8))
    scales, zeros = w.vector(4, mean=0.01, spread=0.001), w.values(0, 0, 0, 0, dtype="int8")
    weight = w.op("DequantizeLinear", w.weight(4, 3, 3, 3, dtype="int8"), scales, zeros, axis=0)
    w.output(w.op("Conv", x, weight))
    types = [op.type for op in w.lowered.operators]
    assert types == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv"]


@pytest.mark.parametrize("precision", Precision)
def test_equal_seeds_give_equal_bytes(precision: Precision) -> None:
    """A seed decides the weights wholly; another one, in the program or for once, gives other bytes."""
    content = zoo.to_bytes(program(precision, 7))
    assert content == zoo.to_bytes(program(precision, 7)) == zoo.to_bytes(program(precision), seed=7)
    assert content != zoo.to_bytes(program(precision, 8))


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_below_one_is_refused(batch: int) -> None:
    """A program is written for one sample or more."""
    with pytest.raises(UsageError, match=f"batch {batch} is out of range"):
        program(Precision.FLOAT).lowered(batch)
    with pytest.raises(UsageError, match=f"batch {batch} is out of range"):
        zoo.to_graph(program(Precision.FLOAT), batch)


@pytest.mark.parametrize("batch", [0, -1])
def test_no_bytes_are_made_for_a_batch_below_one(batch: int) -> None:
    """A batch of 0 is refused where a model is written, too, and is not taken for none."""
    with pytest.raises(UsageError, match=f"batch {batch} is out of range"):
        zoo.to_bytes(program(Precision.FLOAT), batch=batch)


def test_without_its_weights_a_model_cannot_be_run() -> None:
    """A model whose weights lie elsewhere has a graph, and bytes to run are refused with the reason."""
    content = without_weights(program(Precision.FLOAT), 1)
    model = parse(content, weights_elsewhere=True).bind()
    assert model.graph.operators == zoo.to_graph(program(Precision.FLOAT)).operators
    with pytest.raises(ModelUnreadable, match="another file"):
        model.bound_bytes()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_weights_of_integers_fill_their_range(dtype: str) -> None:
    """Integers reach both ends of their range, lie around its middle, and seldom at its ends."""

    def write(w: Writer, batch: int) -> None:
        x = w.input("x", batch, 64, dtype="uint8")
        w.output(w.op("MatMulInteger", x, w.weight(64, 512, dtype=dtype)), "int32")

    (weight,) = onnx.load_from_string(zoo.to_bytes(zoo.Program("integers", "dense", write))).graph.initializer
    values, limits = numpy_helper.to_array(weight), np.iinfo(dtype)
    assert (values.min(), values.max()) == (limits.min, limits.max)
    assert values.mean() == pytest.approx((limits.max + limits.min) / 2, abs=1.5)
    assert np.isin(values, (limits.min, limits.max)).mean() < 0.01


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_products_keep_the_size_of_what_they_multiply(dtype: str) -> None:
    """A weight of floats, wide or narrow, has the variance of one over the products that are added up."""
    w = Writer("scaled")
    w.weight(64, 32, dtype=dtype)
    w.weight(32, 16, 3, 3, dtype=dtype, gain=2.0)
    w.weight(32, 64, fan_in=64, dtype=dtype)
    spreads = [constant.spread for constant in w.lowered.constants.values() if isinstance(constant, Weight)]
    assert spreads == pytest.approx([1 / 8, 2 / 12, 1 / 8])


def test_equal_constants_are_declared_once() -> None:
    """The same values of the same type and shape are one constant; of another type or shape, another."""
    w = Writer("constants")
    assert w.values(1, 2) == w.values(1, 2)
    assert len({w.values(1, 2), w.values(1, 2, dtype="float32"), w.values(1, 2, shape=(1, 2)), w.values(2, 1)}) == 4
    assert w.scalar(0.5) == w.scalar(0.5)
    assert w.weight(2, 2) != w.weight(2, 2)


def test_parameters_are_elements_of_weights() -> None:
    """Weights and biases count; shapes, scales and zero points that are written as values do not."""
    assert program(Precision.FLOAT).parameters == (INNER + 1) * HIDDEN + (HIDDEN + 1) * OUTER
    assert program(Precision.DYNAMIC).parameters == program(Precision.FLOAT).parameters


def test_structure_tells_sizes_and_topology_does_not() -> None:
    """Two programs of other sizes have one topology and two structures; another precision has another topology."""

    def of(outer: int) -> zoo.Program:
        def write(w: Writer, batch: int) -> None:
            w.output(linear(w, w.input("x", batch, INNER), INNER, outer, Precision.FLOAT))

        return zoo.Program("one layer", "dense", write)

    assert of(8).topology == of(16).topology
    assert of(8).structure != of(16).structure
    assert len({program(precision).topology for precision in Precision}) == len(Precision)
    assert program(Precision.FLOAT, 1).structure == program(Precision.FLOAT, 2).structure


@pytest.mark.parametrize("name", zoo.program_names())
def test_a_published_program_is_found_by_its_name(name: str) -> None:
    """The name that the catalogue lists gives a program of that name, which has one size."""
    found = zoo.network(name)
    assert isinstance(found, zoo.Program)
    assert found.name == name
    with pytest.raises(UsageError, match="one size"):
        zoo.network(name, width=0.5)
