"""One row describes an operator type, for all who ask."""

from __future__ import annotations

from collections import Counter

import pytest

from sectum.enclave import profile
from sectum.graph import Graph, Operator, Tensor, TensorKind
from sectum.ort import Cpu, coverage, optimize, page_trace
from sectum.ort.flops import per_output
from sectum.ort.memory_plan import memory_plan
from sectum.ort.operator_type import OperatorType
from sectum.ort.operators import KINDS, OPERATORS, kind_of, trained_types
from sectum.ort.trained_operators import TRAINED
from sectum.ort.untrained_operators import UNTRAINED
from sectum.predict import load_predictor
from sectum.units import MIB

SCRATCH_BYTES = 5 * MIB


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch) -> Graph:
    """A network with a made-up operator, which one row describes."""
    row = OperatorType(
        "com.example:Blur", per_output(9), kind="pool", overwrites=0, scratch=lambda *_: (SCRATCH_BYTES,)
    )
    monkeypatch.setitem(OPERATORS, row.name, row)
    tensors = {
        name: Tensor(name, (1, 64, 56, 56), "float32", kind)
        for name, kind in zip("xabc", (TensorKind.INPUT, *[TensorKind.ACTIVATION] * 3), strict=True)
    }
    operators = (
        Operator("first", "Sqrt", ("x",), ("a",)),
        Operator("blur", "Blur", ("a",), ("b",), domain="com.example"),
        Operator("last", "Sqrt", ("b",), ("c",)),
    )
    return Graph("blurred", operators, tensors, ("x",), ("c",), 17)


def test_a_row_is_all_that_a_new_operator_needs(blur):
    """A made-up operator gets its arithmetic, its kind, its place in memory and a prediction from its row alone."""
    assert not coverage(blur).unsupported
    optimized = optimize(blur, Cpu.AVX2)
    assert memory_plan(optimized).placements["b"].buffer == "a"
    assert page_trace(optimized).pages * 4096 >= SCRATCH_BYTES
    layer = load_predictor().predict(blur, profile.load("softepc")).layers[1]
    assert (layer.name, layer.type, layer.supported) == ("blur", "com.example:Blur", True)
    assert layer.flops == 9 * 64 * 56 * 56
    assert layer.native_ms > 0
    assert layer.support == "outside"  # nobody measured it yet


def test_names_and_codes_are_unique_and_kinds_are_known():
    """No type has two rows, no two types share a code, and every kind has a latency model."""
    assert all(row.name == name for name, row in OPERATORS.items())
    codes = Counter(row.code for row in OPERATORS.values() if row.code >= 0)
    assert max(codes.values()) == 1
    assert list(trained_types()) == list(range(len(codes)))
    assert {row.kind for row in OPERATORS.values()} <= set(KINDS)


def test_codes_are_the_places_of_the_trained_rows():
    """The code of a trained type is its position, and a type that is not trained has none."""
    assert [row.code for row in TRAINED] == list(range(len(TRAINED)))
    assert {row.code for row in UNTRAINED} == {-1}


def test_no_type_has_two_rows():
    """A type stands once over the trained and the untrained rows: a second row would silently replace the first."""
    counts = Counter(row.name for row in (*TRAINED, *UNTRAINED))
    assert not [name for name, count in counts.items() if count > 1]
    assert len(counts) == len(OPERATORS)


@pytest.mark.parametrize(("group", "kind"), [(1, "conv"), (8, "depthwise"), (4, "conv")])
def test_one_channel_in_a_group_is_depthwise(group, kind):
    """A blocked convolution is depthwise where it has as many groups as outputs, and more than one."""
    shapes = {"x": (1, 8, 6, 6), "w": (8, 8 // group, 3, 3), "y": (1, 8, 6, 6)}
    tensors = {name: Tensor(name, shape, "float32", TensorKind.INPUT) for name, shape in shapes.items()}
    op = Operator("c", "Conv", ("x", "w"), ("y",), {"group": group}, "com.microsoft.nchwc")
    assert kind_of(op, Graph("one", (op,), tensors, ("x",), ("y",), 17)) == kind
