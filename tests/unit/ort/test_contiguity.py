"""How many elements a kernel handles in one piece."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.ort.contiguity import contiguous_run

Shape = tuple[int, ...]


def run_of(
    kind: str, shapes: list[Shape], out: Shape, values: dict[int, list[int]] | None = None, **attributes: AttributeValue
) -> int:
    """Run of one operator; ``values`` are those of its constant inputs, by position."""
    tensors = {f"i{at}": Tensor(f"i{at}", shape, "float32", TensorKind.INPUT) for at, shape in enumerate(shapes)}
    for at, value in (values or {}).items():
        tensors[f"i{at}"] = Tensor(f"i{at}", (len(value),), "int64", TensorKind.WEIGHT, np.array(value))
    names = tuple(f"i{at}" for at in range(len(tensors)))
    tensors["y"] = Tensor("y", out, "float32", TensorKind.ACTIVATION)
    op = Operator("op", kind, names, ("y",), attributes)
    return contiguous_run(op, Graph("one", (op,), tensors, names, ("y",), 17), shapes[0], out)


@pytest.mark.parametrize(
    ("order", "run"),
    [((0, 2, 1, 3), 5), ((1, 0, 2, 3), 20), ((0, 1, 3, 2), 1), ((3, 2, 1, 0), 1), ((0, 1, 2, 3), 120), ((), 1)],
)
def test_a_transpose_copies_the_axes_at_the_end_that_stay(order: Shape, run: int) -> None:
    """A transpose copies in one piece all axes behind the last one that moves; without an order, all axes turn."""
    out = tuple((2, 3, 4, 5)[axis] for axis in order or (3, 2, 1, 0))
    attributes: dict[str, AttributeValue] = {"perm": order} if order else {}
    assert run_of("Transpose", [(2, 3, 4, 5)], out, **attributes) == run


@given(st.permutations(range(4)), st.lists(st.integers(1, 6), min_size=4, max_size=4))
def test_elements_of_a_transposes_run_stay_neighbours(order: list[int], sizes: list[int]) -> None:
    """Every run of a transpose is a run of its input: the elements in it lie one after the other before and after."""
    data = np.arange(math.prod(sizes)).reshape(sizes)
    turned = data.transpose(order)
    pieces = turned.reshape(-1, run_of("Transpose", [tuple(sizes)], turned.shape, perm=tuple(order)))
    assert (np.diff(pieces, axis=1) == 1).all()


@pytest.mark.parametrize(("kind", "axis", "run"), [("Concat", 1, 60), ("Concat", -1, 5), ("Split", 2, 20)])
def test_tensors_are_joined_and_split_in_pieces_from_the_axis_on(kind: str, axis: int, run: int) -> None:
    """Concat and Split copy everything from their axis on in one piece."""
    assert run_of(kind, [(2, 3, 4, 5)], (2, 3, 4, 5), axis=axis) == run


@pytest.mark.parametrize(("axis", "run"), [(0, 20), (1, 5), (2, 1), (-2, 5)])
def test_a_gather_copies_what_lies_behind_its_axis(axis: int, run: int) -> None:
    """A gathered row is all that lies behind the axis; along the last axis, it is a single element."""
    assert run_of("Gather", [(3, 4, 5), (7,)], (3, 4, 5), axis=axis) == run
    assert axis or run_of("Gather", [(3, 4, 5), (7,)], (7, 4, 5)) == run  # the first axis unless another is stated


@pytest.mark.parametrize(
    ("out", "axis", "step", "run"),
    [((4, 6, 3), 2, 1, 3), ((4, 2, 8), 1, 1, 16), ((4, 3, 8), 1, 2, 8), ((4, 6, 4), 2, 2, 1), ((2, 6, 8), 0, 1, 96)],
)
def test_a_slice_copies_whole_axes_and_a_part_of_the_next(out: Shape, axis: int, step: int, run: int) -> None:
    """A slice copies what it keeps of its axis with all behind it; with steps along its axis, only what lies behind."""
    values = {1: [0], 2: [100], 3: [axis], 4: [step]}
    assert run_of("Slice", [(4, 6, 8)], out, values) == run


def test_a_slice_without_steps_stated_has_none() -> None:
    """A slice that leaves its steps out copies the part of its axis in one piece."""
    assert run_of("Slice", [(4, 6, 8)], (4, 2, 8), {1: [0], 2: [2], 3: [1]}) == 16


def test_padding_copies_rows_of_the_padded_axis() -> None:
    """Pad copies what lies from the padded axis on, and never counts what it adds."""
    assert run_of("Pad", [(1, 3, 8, 8)], (1, 3, 10, 10)) == 8
    assert run_of("Pad", [(1, 3, 8, 8)], (1, 3, 10, 8)) == 64


def test_expanding_copies_once_and_then_twice_as_much_each_time() -> None:
    """Expand copies each piece to its place and doubles it until the axis is full; neighbouring axes are one."""
    assert run_of("Expand", [(2, 1, 8)], (2, 5, 8)) == 80 // (2 + 2 * 3)
    assert run_of("Expand", [(2, 5, 1)], (2, 5, 8)) == 80 // (10 + 10 * 3)
    assert run_of("Expand", [(7, 1, 1)], (7, 16, 4)) == 448 // (7 + 7 * 6)
    assert run_of("Expand", [(1, 3)], (4, 2, 3)) == 24 // (1 + 3)
    assert run_of("Expand", [(2, 3)], (2, 3)) == 6


def test_tiling_copies_from_the_repeated_axis_on() -> None:
    """Tile copies the repeated axis, once, with all that lies behind it."""
    assert run_of("Tile", [(2, 3, 4)], (2, 6, 4)) == 12


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "TopK"])
def test_a_softmax_runs_along_its_axis_only_where_it_is_the_last(kind: str) -> None:
    """Along the last axis, which is the usual one, values lie in one piece; along another they lie apart."""
    assert run_of(kind, [(2, 3, 7)], (2, 3, 7)) == 7
    assert run_of(kind, [(2, 3, 7)], (2, 3, 7), axis=2) == 7
    assert run_of(kind, [(2, 3, 7)], (2, 3, 7), axis=1) == 1


def test_a_running_sum_takes_its_axis_from_an_input() -> None:
    """CumSum states its axis as a value: along the last axis its values lie in one piece, along another apart."""
    assert run_of("CumSum", [(2, 3, 7)], (2, 3, 7), {1: [2]}) == 7
    assert run_of("CumSum", [(2, 3, 7)], (2, 3, 7), {1: [1]}) == 1


@pytest.mark.parametrize(
    ("axes", "run"), [((-1,), 5), ((2, 3), 20), ((1,), 20), ((1, 2), 5), ((1, 3), 5), ((0, 1, 2, 3), 120), ((), 120)]
)
def test_a_reduction_runs_over_axes_that_are_all_reduced_or_all_kept(axes: Shape, run: int) -> None:
    """A reduction's run ends where an axis is kept beside reduced ones, or reduced beside kept ones."""
    attributes: dict[str, AttributeValue] = {"axes": axes} if axes else {}
    assert run_of("ReduceMean", [(2, 3, 4, 5)], (2, 1), **attributes) == run
    values = {1: list(axes)} if axes else {}
    assert run_of("ReduceSum", [(2, 3, 4, 5)], (2, 1), values) == run  # as an input


def test_an_extremum_reduces_its_one_axis() -> None:
    """ArgMax goes along the first axis unless another is stated: behind it, all is kept in one piece."""
    assert run_of("ArgMax", [(2, 3, 4)], (1, 3, 4)) == 12
    assert run_of("ArgMax", [(2, 3, 4)], (2, 3, 1), axis=-1) == 4


@pytest.mark.parametrize(
    ("first", "second", "run"),
    [
        ((1, 8, 6, 6), (1, 8, 6, 6), 288),
        ((1, 8, 6, 6), (6,), 6),
        ((1, 8, 6, 6), (8, 1, 1), 36),
        ((1, 8, 6, 6), (), 288),
        ((1, 8, 6, 6), (1,), 288),
        ((5, 1), (1, 7), 7),
        ((2, 8, 6, 1), (2, 8, 6, 4), 4),
    ],
    ids=["same", "bias", "channel scale", "scalar", "vector of one", "outer", "column"],
)
def test_a_broadcast_runs_as_long_as_the_same_operand_is_stretched(first: Shape, second: Shape, run: int) -> None:
    """Two operands are combined in one piece over the axes at the end where the same of them are stretched."""
    out = np.broadcast_shapes(first, second)
    assert run_of("Add", [first, second], out) == run
    assert run_of("Mul", [second, first], out) == run


def test_any_other_operator_runs_along_the_last_axis() -> None:
    """What no rule describes goes row by row; a scalar is one element."""
    assert run_of("Sqrt", [(2, 3, 7)], (2, 3, 7)) == 7
    assert run_of("Sqrt", [()], ()) == 1
