"""Operators as numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optimized_graphs import as_optimized
from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.lab.dataset.operator_campaign import describe, restore
from sectum.ort.cpu import Cpu
from sectum.ort.operators import KINDS
from sectum.ort.optimize import optimize
from sectum.predict.features import FEATURES, OperatorFeatures, extract, schema_hash
from sectum.predict.operator_model import SHIPPED


def test_every_operator_has_a_row_and_a_group(squeezenet):
    """No operator is left out, and each belongs to a group that has a model."""
    runtime = optimize(squeezenet, Cpu.AVX2)
    features = extract(runtime, threads=2)
    assert features.values.shape == (len(runtime.operators), len(FEATURES))
    assert set(features.kinds) <= set(KINDS)
    assert np.isfinite(features.values).all()
    assert (features.roofline > 0).all()
    assert set(features.values[:, FEATURES.index("threads")]) == {2.0}


def test_an_output_that_is_left_out_does_not_matter():
    """A recurrent layer whose last state alone is read has features as any other."""
    shapes = {"x": (20, 1, 32), "w": (1, 256, 32), "r": (1, 256, 64), "h": (1, 1, 64)}
    kinds = {"x": TensorKind.INPUT, "h": TensorKind.ACTIVATION}
    tensors = {n: Tensor(n, shape, "float32", kinds.get(n, TensorKind.WEIGHT)) for n, shape in shapes.items()}
    op = Operator("lstm", "LSTM", ("x", "w", "r"), ("", "h"))
    features = extract(as_optimized(Graph("g", (op,), tensors, ("x",), ("h",), 17)), threads=1)
    assert np.isfinite(features.values).all()


def test_training_and_predicting_see_the_same_features(squeezenet, alexnet):
    """An operator stored by a campaign and read back has its features, but for those of what stands beside it."""
    reuse = FEATURES.index("log_reuse_bytes")
    beside = [reuse, FEATURES.index("in_place"), FEATURES.index("first_use")]
    for graph in (squeezenet, alexnet):
        runtime = optimize(graph, Cpu.AVX2)
        whole = extract(runtime, threads=1)
        for index, op in enumerate(runtime.operators):
            alone = extract(restore(describe(op, runtime), Cpu.AVX2), threads=1, whole=False)
            assert alone.kinds[0] == whole.kinds[index]
            assert np.isnan(alone.values[0, reuse])
            own = np.delete(alone.values[0], beside)
            np.testing.assert_array_equal(own, np.delete(whole.values[index], beside))
            assert alone.roofline[0] == whole.roofline[index]


def test_what_was_written_long_ago_has_left_the_caches():
    """The second addend was written three operators before it is read: all that they moved lies between.

    The input of the network was written a whole inference ago.
    """
    names = ("x", "a", "b", "c", "y")
    tensors = {
        name: Tensor(name, (1, 100), "float32", TensorKind.INPUT if name == "x" else TensorKind.ACTIVATION)
        for name in names
    }
    steps = [(("x",), "a"), (("a",), "b"), (("b",), "c"), (("c", "a"), "y")]
    operators = tuple(
        Operator(f"n{i}", "Add" if len(inputs) == 2 else "Relu", inputs, (output,))
        for i, (inputs, output) in enumerate(steps)
    )
    graph = as_optimized(Graph("chain", operators, tensors, ("x",), ("y",), 17))
    reuse_bytes = np.expm1(extract(graph, threads=1).values[:, FEATURES.index("log_reuse_bytes")])
    np.testing.assert_allclose(reuse_bytes, [3 * 800 + 1200, 0, 0, 2 * 800], rtol=1e-5)


@pytest.mark.parametrize("cpu", SHIPPED)
def test_the_shipped_models_were_trained_with_these_features(cpu):
    """The schema hash in the shipped manifests is the one of the code beside them, and each is for its processors."""
    manifest = json.loads((SHIPPED[cpu] / "manifest.json").read_text())
    assert manifest["schema_sha256"] == schema_hash()
    assert manifest["nchwc_block"] == cpu.nchwc_block


def test_work_of_a_blocked_convolution_is_that_of_its_kernels():
    """64 channels of 56x56 pixels, 3x3 taps, AVX-512: one set of four blocks of filters, two edge outputs in a row."""
    tensors = {
        "x": Tensor("x", (1, 64, 56, 56), "float32", TensorKind.INPUT),
        "w": Tensor("w", (64, 64, 3, 3), "float32", TensorKind.WEIGHT),
        "y": Tensor("y", (1, 64, 56, 56), "float32", TensorKind.ACTIVATION),
    }
    op = Operator("c", "Conv", ("x", "w"), ("y",), {"kernel_shape": (3, 3), "strides": (1, 1)}, "com.microsoft.nchwc")
    features = extract(as_optimized(Graph("one", (op,), tensors, ("x",), ("y",), 17), Cpu.AVX512), threads=1)
    work = features.work[0]
    together, of_a_block = 56 * 54, 64 * 9 * 16
    assert work[0] == together * 64 * 64 * 9
    assert work[1] == together * of_a_block  # of one block in each set
    assert not work[2:5].any()  # four blocks leave no rest
    assert work[5] == 56 * 2 * of_a_block  # outputs that are computed alone, in one set of filters
    assert work[6] == 56 * 4  # kernels: a row, for each block of input channels
    assert (features.work >= 0).all()


def test_an_image_of_one_column_has_lone_outputs_only():
    """512 filters of 5x1 taps on 256 channels of 512x1 pixels, AVX-512: eight sets, and no output has a neighbour."""
    tensors = {
        "x": Tensor("x", (1, 256, 512, 1), "float32", TensorKind.INPUT),
        "w": Tensor("w", (512, 256, 5, 1), "float32", TensorKind.WEIGHT),
        "y": Tensor("y", (1, 512, 508, 1), "float32", TensorKind.ACTIVATION),
    }
    op = Operator("c", "Conv", ("x", "w"), ("y",), {"kernel_shape": (5, 1)}, "com.microsoft.nchwc")
    work = extract(as_optimized(Graph("one", (op,), tensors, ("x",), ("y",), 17), Cpu.AVX512), threads=1).work[0]
    assert not work[:5].any()
    assert work[5] == 508 * 256 * 5 * 16 * 8


def test_a_weight_that_was_read_before_is_known():
    """Three products with one weight: the first comes from memory, the others from what the one before left."""
    tensors = {f"x{n}": Tensor(f"x{n}", (1, 64), "float32", TensorKind.INPUT) for n in range(3)}
    tensors["w"] = Tensor("w", (64, 32), "float32", TensorKind.WEIGHT)
    tensors |= {f"y{n}": Tensor(f"y{n}", (1, 32), "float32", TensorKind.ACTIVATION) for n in range(3)}
    operators = tuple(Operator(f"n{n}", "MatMul", (f"x{n}", "w"), (f"y{n}",)) for n in range(3))
    graph = as_optimized(Graph("three", operators, tensors, ("x0", "x1", "x2"), ("y0", "y1", "y2"), 17))
    features = extract(graph, threads=1)
    assert features.values[:, FEATURES.index("first_use")].tolist() == [1, 0, 0]


def test_a_result_in_the_buffer_of_its_input_is_known():
    """An activation is written over its input, if nobody else reads that and it is no output of the network."""
    names = ("x", "a", "b", "y")
    tensors = {
        n: Tensor(n, (1, 1000), "float32", TensorKind.INPUT if n == "x" else TensorKind.ACTIVATION) for n in names
    }
    steps = (("Neg", "x", "a"), ("Relu", "a", "b"), ("Relu", "b", "y"))
    operators = tuple(Operator(f"n{i}", kind, (source,), (made,)) for i, (kind, source, made) in enumerate(steps))
    features = extract(as_optimized(Graph("chain", operators, tensors, ("x",), ("y",), 17)), threads=1)
    assert features.values[:, FEATURES.index("in_place")].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("attributes", "weight", "expected"),
    [
        ({"kernel_shape": (15,)}, (64, 16, 15), (1, 15)),
        ({}, (64, 16, 15), (1, 15)),
        ({}, (64, 16, 5, 3), (5, 3)),
        ({"kernel_shape": (2, 5, 3)}, (64, 16, 2, 5, 3), (10, 3)),
    ],
)
def test_a_window_is_a_row_or_has_height_and_width_whether_it_is_stated_or_not(attributes, weight, expected):
    """A kernel of one dimension is one row; in one of three, slices lie in a column; weights tell what is unstated."""
    places = (32,) * (len(weight) - 2)
    tensors = {
        "x": Tensor("x", (1, 16, *places), "float32", TensorKind.INPUT),
        "w": Tensor("w", weight, "float32", TensorKind.WEIGHT),
        "y": Tensor("y", (1, 64, *places), "float32", TensorKind.ACTIVATION),
    }
    op = Operator("c", "Conv", ("x", "w"), ("y",), attributes)
    values = extract(as_optimized(Graph("one", (op,), tensors, ("x",), ("y",), 17), Cpu.AVX2), threads=1).values[0]
    assert (values[FEATURES.index("kernel_height")], values[FEATURES.index("kernel_width")]) == expected


@pytest.mark.parametrize("block", [1, 8, 16])
def test_all_operators_have_work(squeezenet, alexnet, block):
    """Whatever the processor, no operator is without work, and none of it is negative or not a number."""
    for graph in (squeezenet, alexnet):
        work = extract(optimize(graph, Cpu.of_block(block)), threads=1).work
        assert (work >= 0).all()
        assert (work.sum(axis=1) > 0).all()


def features_of(
    kind: str,
    shapes: list[tuple[int, ...]],
    out: tuple[int, ...],
    weights: tuple[int, ...] = (),
    dtypes: dict[int, str] | None = None,
    **attributes: AttributeValue,
) -> OperatorFeatures:
    """Features of one operator, whose inputs at some positions are weights; its type may have a domain."""
    dtypes = dtypes or {}
    tensors = {
        f"i{at}": Tensor(
            f"i{at}", shape, dtypes.get(at, "float32"), TensorKind.WEIGHT if at in weights else TensorKind.INPUT
        )
        for at, shape in enumerate(shapes)
    }
    names = tuple(tensors)
    tensors["y"] = Tensor("y", out, "float32", TensorKind.ACTIVATION)
    domain, _, plain = kind.rpartition(":")
    op = Operator("op", plain, names, ("y",), attributes, domain)
    given = tuple(name for name, tensor in tensors.items() if tensor.kind is TensorKind.INPUT)
    return extract(as_optimized(Graph("one", (op,), tensors, given, ("y",), 17)), threads=1)


def columns_of(features: OperatorFeatures) -> dict[str, float]:
    """Features of the first operator by name."""
    return dict(zip(FEATURES, features.values[0].tolist(), strict=True))


@pytest.mark.parametrize("domain", ["", "com.microsoft:DynamicQuantize"])
def test_a_recurrent_layer_is_steps_batch_inputs_units_and_directions(domain):
    """The columns of an LSTM are its sizes, whether its weights are floats or transposed integers."""
    steps, batch, inputs, units, directions = 20, 3, 32, 64, 2
    weights = [(directions, 4 * units, inputs), (directions, 4 * units, units)]
    if domain:
        weights = [(first, last, middle) for first, middle, last in weights]
    out = (steps, directions, batch, units)
    features = features_of(
        f"{domain}LSTM", [(steps, batch, inputs), *weights], out, (1, 2), {1: "int8", 2: "int8"} if domain else {}
    )
    row = columns_of(features)
    assert features.kinds == ("recurrent",)
    assert (row["batch"], row["in_channels"], row["in_width"]) == (steps, batch, inputs)
    assert (row["out_channels"], row["out_height"], row["out_width"]) == (directions, batch, units)
    assert row["log_outputs"] == pytest.approx(np.log1p(steps * directions * batch * units))
    assert row["log_flops"] == pytest.approx(
        np.log1p(steps * batch * directions * 4 * units * (2 * (inputs + units) + 4))
    )


@pytest.mark.parametrize("groups", [1, 8])
def test_a_quantized_convolution_has_the_same_columns_in_either_layout(groups):
    """With channels last, a convolution of integers has the columns of the same one with channels first."""
    rest = [(), (), (16, 8 // groups, 3, 3), (), (), (), ()]
    attributes = {"kernel_shape": (3, 3), "strides": (2, 2), "group": groups}
    dtypes = {0: "uint8", 3: "int8"}
    usual = columns_of(features_of("QLinearConv", [(2, 8, 12, 10), *rest], (2, 16, 6, 5), (3,), dtypes, **attributes))
    last = columns_of(
        features_of(
            "com.microsoft:QLinearConv", [(2, 12, 10, 8), *rest], (2, 6, 5, 16), (3,), dtypes, **attributes,
            channels_last=1,
        )
    )  # fmt: skip
    different = {name for name in FEATURES if usual[name] != last[name]}
    assert different == {"type", "contiguous_run"}
    assert (last["in_channels"], last["in_height"], last["in_width"]) == (8, 12, 10)
    assert (last["out_channels"], last["out_height"], last["out_width"]) == (16, 6, 5)
    assert (last["kernel_height"], last["kernel_width"], last["stride"]) == (3, 3, 2)


@pytest.mark.parametrize(
    ("kind", "first", "second", "out", "rows_of_one"),
    [
        ("MatMul", (2, 4, 10, 32), (2, 4, 32, 48), (2, 4, 10, 48), 10),
        ("MatMul", (1, 4, 1, 32), (1, 4, 32, 48), (1, 4, 1, 48), 1),
        ("MatMul", (2, 10, 32), (32, 48), (2, 10, 48), 20),
        ("MatMul", (10, 32), (32, 48), (10, 48), 10),
        ("MatMulInteger", (2, 10, 32), (32, 48), (2, 10, 48), 20),
        ("MatMulInteger", (6, 10, 32), (6, 32, 48), (6, 10, 48), 10),
        ("com.microsoft:MatMulNBits", (2, 10, 32), (48, 1, 16), (2, 10, 48), 20),
    ],
)
def test_a_shared_weight_makes_one_matrix_of_a_batch(kind, first, second, out, rows_of_one):
    """Products with a matrix of their own each have its rows; one weight multiplies all rows in one product."""
    row = columns_of(features_of(kind, [first, second], out, (1,)))
    assert row["in_height"] == rows_of_one
    assert np.expm1(row["rows"]) == pytest.approx(np.prod(out[:-1]), rel=1e-5)
    assert (row["out_height"], row["out_width"]) == (1, 1)


def test_slices_of_a_volume_lie_below_each_other():
    """A volume is an image whose height is depth times height, before and after a convolution, and in its window."""
    row = columns_of(
        features_of("Conv", [(1, 4, 6, 8, 10), (16, 4, 2, 3, 5)], (1, 16, 5, 6, 7), (1,), kernel_shape=(2, 3, 5))
    )
    assert (row["in_channels"], row["in_height"], row["in_width"]) == (4, 6 * 8, 10)
    assert (row["out_channels"], row["out_height"], row["out_width"]) == (16, 5 * 6, 7)
    assert (row["kernel_height"], row["kernel_width"]) == (2 * 3, 5)


def test_a_signal_is_an_image_of_one_row():
    """A convolution of one dimension has height 1."""
    row = columns_of(features_of("Conv", [(1, 4, 100), (16, 4, 5)], (1, 16, 96), (1,)))
    assert (row["in_height"], row["in_width"], row["out_height"], row["out_width"]) == (1, 100, 1, 96)


def test_a_quantized_concat_is_known_by_its_first_tensor():
    """The scales that stand before the tensors of a quantized Concat are not taken for its data."""
    shapes = [(), (), (1, 8, 6, 6), (), (), (1, 8, 6, 6), (), ()]
    row = columns_of(
        features_of("com.microsoft:QLinearConcat", shapes, (1, 16, 6, 6), dtypes={2: "uint8", 5: "uint8"}, axis=1)
    )
    assert (row["in_channels"], row["in_height"], row["in_width"]) == (8, 6, 6)


def test_the_variant_is_part_of_the_type():
    """Operators that take another algorithm are named by it, and those that take the usual one are not."""
    assert features_of("Transpose", [(8, 9)], (9, 8), perm=(1, 0)).types == ("Transpose matrix turned",)
    assert features_of("Softmax", [(8, 9)], (8, 9)).types == ("Softmax",)
