"""Which of its algorithms a kernel takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.ort.variants import variant_code, variant_of

Shape = tuple[int, ...]
Attributes = dict[str, AttributeValue]


def variant(
    kind: str,
    shape: Shape = (2, 3, 4),
    attributes: Attributes | None = None,
    *,
    dtypes: tuple[str, str] = ("float32", "float32"),
    values: dict[int, list[float] | None] | None = None,
    weights: str = "int64",
) -> str:
    """Variant of one operator; ``values`` are those of further inputs by position, None for one that is left out."""
    tensors = {
        "x": Tensor("x", shape, dtypes[0], TensorKind.INPUT), "y": Tensor("y", shape, dtypes[1], TensorKind.ACTIVATION),
    }  # fmt: skip
    names = ["x"]
    for at, value in sorted((values or {}).items()):
        names += [""] * (at - len(names))
        names.append(f"i{at}" if value is not None else "")
        if value is not None:
            tensors[f"i{at}"] = Tensor(f"i{at}", (len(value),), weights, TensorKind.WEIGHT, np.array(value))
    op = Operator("op", kind, tuple(names), ("y",), attributes or {})
    name = variant_of(op, Graph("one", (op,), tensors, ("x",), ("y",), 17))
    assert bool(variant_code(name)) == bool(name)  # every name has a code, and only the usual one has 0
    return name


@pytest.mark.parametrize(
    ("kind", "mode", "name"),
    [
        ("Resize", "nearest", ""), ("Resize", "linear", "linear"), ("Resize", "cubic", "cubic"),
        ("Resize", b"linear", "linear"), ("Upsample", "linear", "linear"), ("GridSample", "bilinear", ""),
        ("GridSample", "nearest", "nearest"), ("Pad", "constant", ""), ("Pad", "reflect", "reflect"),
        ("Pad", "edge", "edge"), ("Pad", "wrap", "wrap"),
    ],
)  # fmt: skip
def test_a_mode_is_a_variant_unless_it_is_the_usual_one(kind: str, mode: str | bytes, name: str) -> None:
    """Interpolation and padding are told apart by their mode, as text or as bytes; without one it is the usual one."""
    assert variant(kind, attributes={"mode": mode}) == name
    assert variant(kind) == ""


def test_a_mode_that_nobody_knows_is_the_usual_one() -> None:
    """A file may state any mode, and none of them is an error or a new name."""
    assert variant("Resize", attributes={"mode": "sinc"}) == ""
    assert variant("Resize", attributes={"mode": b"\xff\xfe"}) == ""


@pytest.mark.parametrize(
    ("exponents", "name"), [([2.0], ""), ([3.0], "cube"), ([0.5], "any power"), ([2.0, 2.0], "any power")]
)
def test_squares_and_cubes_are_no_powers(exponents: list[float], name: str) -> None:
    """A constant exponent of 2 or 3 is multiplied; any other is computed element by element."""
    assert variant("Pow", values={1: exponents}) == name


def test_an_exponent_that_is_computed_may_be_any() -> None:
    """A power whose exponent is no constant is computed element by element."""
    tensors = {name: Tensor(name, (4,), "float32", TensorKind.INPUT) for name in "xey"}
    op = Operator("op", "Pow", ("x", "e"), ("y",))
    assert variant_of(op, Graph("one", (op,), tensors, ("x", "e"), ("y",), 17)) == "any power"


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "TopK", "QLinearSoftmax"])
def test_an_axis_inside_is_another_algorithm(kind: str) -> None:
    """A softmax over another axis than the last one, however it is counted, takes another loop."""
    assert variant(kind) == variant(kind, attributes={"axis": 2}) == variant(kind, attributes={"axis": -1}) == ""
    assert variant(kind, attributes={"axis": 1}) == variant(kind, attributes={"axis": -2}) == "inner axis"


@pytest.mark.parametrize(("axes", "name"), [((-1,), ""), ((2,), ""), ((1, 2), ""), ((1,), "inner axis"), ((), "")])
def test_a_reduction_of_inner_axes_is_another_algorithm(axes: Shape, name: str) -> None:
    """What counts is whether the last axis is reduced; without axes all are, whether stated or given as an input."""
    assert variant("ReduceMean", attributes={"axes": axes} if axes else {}) == name
    assert variant("ReduceSum", values={1: list(axes)} if axes else {}) == name


def test_an_extremum_along_an_inner_axis_is_another_algorithm() -> None:
    """ArgMax goes along the first axis unless another is stated."""
    assert variant("ArgMax") == variant("ArgMin", attributes={"axis": 1}) == "inner axis"
    assert variant("ArgMax", attributes={"axis": -1}) == variant("ArgMax", (5,)) == ""


@pytest.mark.parametrize(("steps", "name"), [([1], ""), ([1, 1], ""), ([2], "with steps"), ([1, -1], "with steps")])
def test_a_slice_with_steps_is_another_algorithm(steps: list[float], name: str) -> None:
    """A slice steps where one of its steps is not 1."""
    assert variant("Slice", values={1: [0], 2: [9], 3: [0], 4: steps}) == name
    assert variant("Slice", values={1: [0], 2: [9]}) == variant("Slice", values={4: None}) == ""


def test_weights_of_four_bits_may_be_multiplied_in_integers() -> None:
    """Accuracy level 4 lets the kernel quantize the activations; other levels do not."""
    assert variant("MatMulNBits", attributes={"accuracy_level": 4}) == "int8 products"
    assert variant("MatMulNBits", attributes={"accuracy_level": 0}) == variant("MatMulNBits") == ""


def test_a_gru_resets_before_or_after_its_product() -> None:
    """A GRU whose reset gate is applied before the recurrent product needs a second product at each step."""
    assert variant("GRU") == variant("GRU", attributes={"linear_before_reset": 0}) == "reset before product"
    assert variant("GRU", attributes={"linear_before_reset": 1}) == ""


@pytest.mark.parametrize(
    ("shape", "order", "name"),
    [
        ((4, 5), (1, 0), "matrix turned"),
        ((2, 3, 4, 5), (0, 2, 1, 3), ""),  # rows of the last axis stay
        ((2, 3, 4), (0, 2, 1), "matrix turned"),  # in a batch
        ((2, 3, 4, 5), (0, 3, 1, 2), "matrix turned"),  # to channels first
        ((2, 3, 4, 5), (0, 2, 3, 1), "matrix turned"),  # to channels last
        ((2, 3, 4), (2, 0, 1), "matrix turned"),  # 0 and 1 stay together
        ((2, 3, 4, 5), (2, 3, 0, 1), "matrix turned"),
        ((2, 3, 4), (2, 1, 0), "any order"),
        ((2, 3, 4, 5), (0, 3, 2, 1), "any order"),
        ((2, 3, 4, 5), (3, 1, 2, 0), "any order"),
        ((2, 1, 4), (2, 1, 0), "matrix turned"),  # the axis of size 1 is none
        ((1, 3, 4, 5), (3, 1, 2, 0), "matrix turned"),
        ((2, 3, 1), (0, 2, 1), ""),
        ((1, 1, 1), (2, 0, 1), ""),
        ((7, 1), (1, 0), ""),
    ],
)
def test_orders_of_axes_are_told_apart(shape: Shape, order: Shape, name: str) -> None:
    """Axes of size 1 do not count, neighbours that stay together are one axis, and a batch may lie before a matrix."""
    assert variant("Transpose", shape, {"perm": order}) == name


def test_without_an_order_all_axes_are_turned() -> None:
    """A transpose that states no order reverses the axes."""
    assert variant("Transpose", (4, 5)) == "matrix turned"
    assert variant("Transpose", (2, 3, 4)) == "any order"


@given(st.permutations(range(4)), st.lists(st.integers(1, 4), min_size=4, max_size=4), st.integers(0, 4))
def test_an_axis_of_size_one_changes_no_order(order: list[int], sizes: list[int], at: int) -> None:
    """A transpose keeps its variant when its tensor gets another axis of size 1, wherever that one goes."""
    wider = [*sizes[:at], 1, *sizes[at:]]
    moved = [axis + (axis >= at) for axis in order]
    for place in range(5):
        longer = (*moved[:place], at, *moved[place:])
        assert variant("Transpose", tuple(wider), {"perm": longer}) == variant(
            "Transpose", tuple(sizes), {"perm": tuple(order)}
        )


@pytest.mark.parametrize(
    ("dtypes", "name"),
    [
        (("float32", "int64"), ""), (("float16", "float32"), "half precision"),
        (("float32", "float16"), "half precision"), (("bool", "float32"), "bool"),
        (("int64", "bool"), "bool"), (("bool", "float16"), "half precision"),
    ],
)  # fmt: skip
def test_casts_are_told_apart_by_their_types(dtypes: tuple[str, str], name: str) -> None:
    """A cast from or to half precision is computed in software; truth values are compared; others are one loop."""
    assert variant("Cast", dtypes=dtypes) == name


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_arithmetic_on_integers_is_another_algorithm(kind: str) -> None:
    """Integers are told apart from floats, of whatever width."""
    assert variant(kind, dtypes=("int64", "int64")) == variant(kind, dtypes=("int32", "int32")) == "integers"
    assert variant(kind) == variant(kind, dtypes=("float16", "float16")) == ""


@pytest.mark.parametrize("kind", ["QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"])
def test_signed_activations_are_another_algorithm(kind: str) -> None:
    """Products of signed activations take another kernel than those of unsigned ones."""
    assert variant(kind, dtypes=("int8", "int8")) == "signed"
    assert variant(kind, dtypes=("uint8", "uint8")) == ""


@pytest.mark.parametrize(
    ("kind", "weight"),
    [("ConvInteger", 1), ("MatMulInteger", 1), ("DynamicQuantizeLSTM", 1), ("QLinearConv", 3), ("QGemm", 3)],
)
def test_unsigned_weights_are_another_algorithm(kind: str, weight: int) -> None:
    """Kernels differ by whether the weights have a sign, wherever the weight stands among the inputs."""
    for dtype, name in (("uint8", "unsigned weights"), ("int8", "")):
        values = {**dict.fromkeys(range(1, weight)), weight: [1.0]}
        assert variant(kind, dtypes=("uint8", "uint8"), values=values, weights=dtype) == name


def test_scattering_with_a_reduction_is_another_algorithm() -> None:
    """Values that are added up where they meet take longer than values that are placed."""
    assert variant("ScatterElements", attributes={"reduction": b"add"}) == "combined"
    assert variant("ScatterElements", attributes={"reduction": "none"}) == variant("ScatterElements") == ""


def test_frames_of_odd_lengths_are_another_algorithm() -> None:
    """A Fourier transform is fast where the frame's length, stated or that of its window, is a power of 2."""
    assert variant("STFT", values={1: [1], 2: None, 3: [512]}) == ""
    assert variant("STFT", values={1: [1], 2: None, 3: [400]}) == "odd frames"
    assert variant("STFT", values={1: [1], 2: [0.5] * 400}) == "odd frames"
    assert variant("STFT", values={1: [1], 2: [0.5] * 256}) == ""


def test_most_types_have_one_algorithm() -> None:
    """An operator that no rule names has the usual variant, whose code is 0."""
    assert variant("Relu", attributes={"axis": 1}) == ""
    assert variant_code("") == 0


def test_a_name_that_no_rule_gives_has_no_code() -> None:
    """A name is never numbered by chance."""
    with pytest.raises(KeyError):
        variant_code("another way")
