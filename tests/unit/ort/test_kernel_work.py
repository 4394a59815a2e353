"""Work of kernels, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from optimized_graphs import as_optimized
from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.ort.cpu import Cpu
from sectum.ort.kernel_work import L2_BYTES, WIDTH
from sectum.predict.features import extract

Shape = tuple[int, ...]


def work_of(
    kind: str,
    inputs: dict[str, tuple[Shape, str]],
    outputs: dict[str, tuple[Shape, str]],
    cpu: Cpu = Cpu.AVX2,
    **attributes: AttributeValue,
) -> NDArray[np.float64]:
    """Work of one operator; all inputs but ``x`` are weights."""
    tensors = {
        name: Tensor(name, shape, dtype, TensorKind.INPUT if name == "x" else TensorKind.WEIGHT)
        for name, (shape, dtype) in inputs.items()
    } | {name: Tensor(name, shape, dtype, TensorKind.ACTIVATION) for name, (shape, dtype) in outputs.items()}
    domain, _, plain = kind.rpartition(":")
    op = Operator("op", plain, tuple(inputs), tuple(outputs), attributes, domain)
    graph = as_optimized(Graph("one", (op,), tensors, ("x",), tuple(outputs), 17), cpu)
    (work,) = extract(graph, threads=1).work
    assert work.shape == (WIDTH,)
    assert (work >= 0).all()
    return work


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_recurrent_layer_multiplies_its_inputs_once_and_its_state_at_each_step(kind: str, gates: int) -> None:
    """5 steps, batch of 2, 3 inputs, 4 units, 2 directions."""
    w, r = (2, gates * 4, 3), (2, gates * 4, 4)
    work = work_of(
        kind,
        {"x": ((5, 2, 3), "float32"), "w": (w, "float32"), "r": (r, "float32")},
        {"y": ((5, 2, 2, 4), "float32")},
        hidden_size=4,
        direction="bidirectional",
    )
    recurrence = 2 * gates * 4 * 4
    assert work[0] == pytest.approx(5 * 2 * 2 * gates * 4 * 3)  # products with the inputs
    assert work[1] == pytest.approx(5 * 2 * recurrence)  # and with the states, of both samples
    assert work[2] == pytest.approx(5 * recurrence)  # values of the recurrent weight that are read
    assert work[3] == pytest.approx(5 * recurrence / (1 + (L2_BYTES / (4 * recurrence)) ** 2))  # from beyond the cache
    assert work[4] == pytest.approx(5 * 2 * 2 * gates * 4)  # functions of gates
    assert work[5] == 5 * 2  # steps, in each direction
    assert work[6] == pytest.approx(4 * (np.prod(w) + np.prod(r)))  # bytes of weights
    assert work[8] == pytest.approx(4 * 5 * 2 * 3)  # bytes read
    assert work[9] == pytest.approx(4 * 5 * 2 * 2 * 4)  # bytes written
    assert work[10:].tolist() == [2, 1, *[0] * (WIDTH - 12)]  # directions, and once for the operator


def test_a_large_recurrent_weight_is_read_from_beyond_the_cache_at_each_step() -> None:
    """A recurrent weight of four times the second cache counts by 16/17, one of a hundredth hardly."""

    def beyond(units: int) -> float:
        weights = {"w": ((1, 4 * units, 8), "float32"), "r": ((1, 4 * units, units), "float32")}
        work = work_of("LSTM", {"x": ((10, 1, 8), "float32"), **weights}, {"y": ((10, 1, 1, units), "float32")})
        return float(work[3] / work[2])

    assert beyond(500) == pytest.approx(16 / 17)  # 4 gates * 500 * 500 values of 4 bytes are 4 MB
    assert beyond(25) == pytest.approx(1e-4, rel=0.01)


def test_a_quantized_recurrent_layer_does_the_same_products() -> None:
    """Weights of 8 bits, which are stored transposed, change the bytes of weights and no product."""
    x, y = {"x": ((5, 2, 3), "float32")}, {"y": ((5, 1, 2, 4), "float32")}
    floats = work_of("LSTM", {**x, "w": ((1, 16, 3), "float32"), "r": ((1, 16, 4), "float32")}, y)
    integers = work_of(
        "com.microsoft:DynamicQuantizeLSTM", {**x, "w": ((1, 3, 16), "int8"), "r": ((1, 4, 16), "int8")}, y
    )
    np.testing.assert_allclose(integers[:6], floats[:6])
    assert 4 * integers[6] == pytest.approx(floats[6])


def test_a_quantized_product_is_counted_in_tiles() -> None:
    """10 rows, 32 values deep, 50 columns: on AVX2, 2 x 4 tiles of 6 x 16, each sum written once."""
    work = work_of(
        "MatMulInteger",
        {"x": ((1, 10, 32), "uint8"), "w": ((32, 50), "int8")},
        {"y": ((1, 10, 50), "int32")},
    )
    assert work[0] == pytest.approx(10 * 32 * 50)
    assert not work[1]  # no depthwise convolution
    assert work[2] == pytest.approx(32 * 50)  # bytes of weights
    assert work[4:7] == pytest.approx([10 * 32, 4 * 10 * 50, 10 * 50])  # bytes read and written, values
    assert not work[7:9].any()  # no image is unrolled, and there is more than a row
    assert work[9:12] == pytest.approx([8 * 6 * 16 * 32, 10 * 50, 1])  # tiles, sums, one matrix
    assert work[13] == pytest.approx(32 * 50)  # a weight that was not used before
    assert work[14] == 1


def test_one_row_is_bound_by_its_weights() -> None:
    """A product of one row with 8-bit weights counts their bytes once more."""
    work = work_of("MatMulInteger", {"x": ((1, 32), "uint8"), "w": ((32, 50), "int8")}, {"y": ((1, 50), "int32")})
    assert work[8] == pytest.approx(32 * 50)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_quantized_convolution_is_a_product_with_its_image_unrolled(groups: int, *, last: bool) -> None:
    """8 channels of 6 x 6, 16 filters of 3 x 3, in one group or two, in either layout."""
    work = work_of(
        "com.microsoft:QLinearConv" if last else "QLinearConv",
        {
            "x": ((1, 6, 6, 8) if last else (1, 8, 6, 6), "uint8"), "xs": ((), "float32"), "xz": ((), "uint8"),
            "w": ((16, 8 // groups, 3, 3), "int8"), "ws": ((), "float32"), "wz": ((), "int8"), "ys": ((), "float32"),
            "yz": ((), "uint8"),
        },
        {"y": ((1, 6, 6, 16) if last else (1, 16, 6, 6), "uint8")},
        kernel_shape=(3, 3), pads=(1, 1, 1, 1), group=groups, channels_last=int(last),
    )  # fmt: skip
    assert work[0] == pytest.approx(16 * 36 * 8 // groups * 9)
    assert not work[1]
    assert work[6] == pytest.approx(16 * 36)
    assert work[7] == pytest.approx(36 * 8 * 9)  # values of windows, of all groups together
    assert not work[8:12].any()


def test_a_quantized_depthwise_convolution_unrolls_nothing() -> None:
    """With one channel in a group the products are of another column, since they are slower."""
    work = work_of(
        "ConvInteger",
        {"x": ((1, 8, 6, 6), "uint8"), "w": ((8, 1, 3, 3), "int8")},
        {"y": ((1, 8, 6, 6), "int32")},
        kernel_shape=(3, 3), pads=(1, 1, 1, 1), group=8,
    )  # fmt: skip
    assert work[:2] == pytest.approx([0, 8 * 36 * 9])
    assert not work[7]


@pytest.mark.parametrize(("cpu", "tiles"), [(Cpu.AVX2, 2 * 3 * 6 * 16), (Cpu.AVX512, 1 * 2 * 12 * 32)])
def test_a_batch_of_products_is_counted_matrix_by_matrix(cpu: Cpu, tiles: int) -> None:
    """Four products of 10 rows, 200 values and 33 columns: each has tiles of its own, and writes every sum twice."""
    work = work_of(
        "MatMul", {"x": ((4, 10, 200), "float32"), "w": ((4, 200, 33), "float32")}, {"y": ((4, 10, 33), "float32")}, cpu
    )
    assert work[7:10] == pytest.approx([4 * tiles * 200, 4 * 10 * 33 * 2, 4])


def test_short_runs_are_more_pieces() -> None:
    """What is moved counts once for each run: a transpose of single elements more often than one of whole rows."""
    x, y = {"x": ((8, 9, 16), "float32")}, {"y": ((9, 8, 16), "float32")}
    assert work_of("Transpose", x, y, perm=(1, 0, 2))[5] == pytest.approx(8 * 9)
    assert work_of("Transpose", x, {"y": ((8, 16, 9), "float32")}, perm=(0, 2, 1))[5] == pytest.approx(8 * 9 * 16)
