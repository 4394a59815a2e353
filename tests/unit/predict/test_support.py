"""Which operators are like those that were measured."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest

from optimized_graphs import as_optimized
from sectum import zoo
from sectum.errors import ArtefactInvalid
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.lab.training.support import cells_by_type
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.predict.bounds import physical_bounds
from sectum.predict.features import extract
from sectum.predict.operator_model import SHIPPED, OperatorModel
from sectum.predict.support import DIMENSIONS, FILE, INSIDE, NEAR, OUTSIDE, Support, coordinates, encoded


def features_of(operator_type, inputs, output, attributes=None, weights=()):
    """One operator, with activations of the shapes ``inputs`` and weights of the shapes ``weights``."""
    tensors = {f"x{i}": Tensor(f"x{i}", shape, "float32", TensorKind.INPUT) for i, shape in enumerate(inputs)}
    tensors |= {f"w{i}": Tensor(f"w{i}", shape, "float32", TensorKind.WEIGHT) for i, shape in enumerate(weights)}
    read = tuple(tensors)
    tensors["y"] = Tensor("y", output, "float32", TensorKind.ACTIVATION)
    domain, _, name = operator_type.rpartition(":")
    op = Operator("o", name, read, ("y",), attributes or {}, domain)
    given = tuple(f"x{i}" for i in range(len(inputs)))
    return extract(as_optimized(Graph("one", (op,), tensors, given, ("y",), 17), Cpu.AVX2), threads=1)


def convolution(kernel=(3, 3), stride=1, size=(28, 28), channels=64):
    out = tuple(side // stride for side in size)
    return features_of(
        "Conv", [(1, channels, *size)], (1, channels, *out), {"kernel_shape": kernel, "strides": (stride, stride)},
        [(channels, channels, *kernel)],
    )  # fmt: skip


@pytest.fixture
def make(tmp_path):
    """Makes the support of some operators."""

    def made(*features):
        content = encoded(cells_by_type(features), {})
        (tmp_path / FILE).write_bytes(content)
        return Support(tmp_path, (FILE, hashlib.sha256(content).hexdigest()))

    return made


def place(support, features):
    (found,) = support.places(features)
    return found


def test_what_was_measured_and_what_is_a_little_larger_is_inside(make):
    """An operator that was measured is inside, and so is one with a third more channels."""
    support = make(convolution())
    assert place(support, convolution()) == (INSIDE, "")
    assert place(support, convolution(channels=84)).support == INSIDE


def test_what_lies_beyond_the_measured_sizes_is_outside_and_says_by_what(make):
    """A longer kernel and a larger stride than any that was measured are named with the range that was."""
    support = make(convolution(), convolution((5, 5)))
    assert place(support, convolution((1, 15))) == (
        OUTSIDE, "kernel height 1 was never measured, only 3 to 5"
    )  # fmt: skip
    assert place(support, convolution((3, 15))).why == "kernel width 15 was never measured, only 3 to 5"
    assert place(support, convolution(stride=4)).why == "stride 4 was never measured, only 1"


def test_combinations_count(make):
    """Wide maps and low maps were measured, wide low ones were not: such a one is outside."""
    support = make(convolution(size=(1, 28)), convolution(size=(28, 512)))
    found = place(support, convolution(size=(1, 512)))
    assert found.support == OUTSIDE
    assert found.why.startswith("no measured operator has all its sizes; the nearest has output ")


def test_a_type_that_was_never_measured_is_outside_unless_another_has_its_kernel(make):
    """MatMul has the kernel of Gemm, LSTM that of nothing that was measured, and renaming costs the same for all."""
    gemm = features_of("Gemm", [(64, 256)], (64, 512), weights=[(256, 512)])
    support = make(gemm)
    near = place(support, features_of("MatMul", [(64, 256)], (64, 512), weights=[(256, 512)]))
    assert near == (NEAR, "MatMul was never measured, but Gemm of such sizes was, by the same kernel")
    lstm = features_of("LSTM", [(10, 1, 128)], (10, 1, 1, 256), weights=[(1, 1024, 128), (1, 1024, 256)])
    assert place(support, lstm) == (OUTSIDE, "LSTM was never measured")
    assert place(support, features_of("Squeeze", [(1, 9)], (9,))) == (INSIDE, "")


def test_a_kernel_of_three_dimensions_is_not_taken_for_one_of_two(make):
    """The slices of a volume's kernel count as more rows, so that it is a longer kernel than the flat one."""
    flat = features_of("Conv", [(1, 8, 16, 16)], (1, 8, 16, 16), {"kernel_shape": (3, 3)}, [(8, 8, 3, 3)])
    deep = features_of("Conv", [(1, 8, 16, 16, 16)], (1, 8, 16, 16, 16), {"kernel_shape": (3, 3, 3)}, [(8, 8, 3, 3, 3)])
    assert place(make(flat), deep).support == OUTSIDE


def test_support_that_was_asked_can_be_sent_to_another_process(make):
    """The file that the first question opens stays in the process that opened it."""
    support, asked = make(convolution()), convolution()
    assert support.places(asked)
    assert pickle.loads(pickle.dumps(support)).places(asked) == support.places(asked)


def test_damaged_support_is_refused(tmp_path):
    """Content that is not of today's dimensions gives an error that names the file."""
    for content in (b"{}", b"[]", b"{", b'{"format": 2, "dimensions": {}, "here": {}, "elsewhere": {}}'):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(ArtefactInvalid, match=FILE):
            Support(tmp_path, (FILE, hashlib.sha256(content).hexdigest())).places(convolution())


@pytest.mark.parametrize("cpu", SHIPPED)
def test_the_shipped_support_knows_what_the_zoo_is_made_of(cpu):
    """Every operator of a network that was measured is inside the shipped support, which stays small."""
    operators = OperatorModel.load(SHIPPED[cpu])
    graph = zoo.to_graph(zoo.network("squeezenet1_1"), 1)
    places = operators.support.places(extract(optimize(graph, cpu), threads=1))
    assert {found.support for found in places} == {INSIDE}
    assert (SHIPPED[cpu] / FILE).stat().st_size < 200_000


def test_coordinates_have_a_column_for_each_dimension():
    """Every kind of operator has as many coordinates as dimensions, all finite."""
    values = convolution().values
    for kind, dimensions in DIMENSIONS.items():
        found = coordinates(kind, values)
        assert found.shape == (1, len(dimensions))
        assert np.isfinite(found).all()


def test_bounds_hold_what_was_measured_elsewhere():
    """Kinds of which nothing was learned lie between their bounds at 2.7 ms a unit, and more steps take longer."""
    cases = {
        1.03: features_of("LSTM", [(10, 1, 128)], (10, 2, 1, 256), weights=[(2, 1024, 128), (2, 1024, 256), (2, 2048)]),
        0.45: features_of("MatMulInteger", [(1, 64, 512)], (1, 64, 512), weights=[(512, 512)]),
        1.95: features_of("ConvInteger", [(1, 64, 56, 56)], (1, 64, 56, 56), weights=[(64, 64, 3, 3)]),
    }
    for measured_ms, features in cases.items():
        low, high = physical_bounds(features, threads=1)
        assert low[0] * 2.72 < measured_ms < high[0] * 2.72


def test_bounds_are_ordered_and_grow_with_the_work(squeezenet):
    """The least time is never above the most, neither is 0, and threads shorten only the least."""
    features = extract(optimize(squeezenet, Cpu.AVX2), threads=1)
    low, high = physical_bounds(features, 1)
    assert (low > 0).all()
    assert (low < high).all()
    faster, same = physical_bounds(features, 2)
    assert (faster <= low).all()
    np.testing.assert_array_equal(same, high)
