"""Rewrites that ONNX Runtime makes, each in a small network: what Sectum says runs is what the runtime runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto

from kinds_of_models import Network
from observed import optimized_by_runtime
from sectum.graph import Graph, read
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize

Build = Callable[[Network], str]

LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
OPEN = 2**63 - 1


def counted(graph: Graph) -> Counter[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Operators with the shapes of what they make."""
    return Counter(
        (op.qualified_type, tuple(graph.tensors[name].shape for name in op.outputs if name)) for op in graph.operators
    )


def assert_as_the_runtime(build: Build, opset: int = 17) -> Graph:
    """Compare what is said to run with what the runtime says; gives the former."""
    network = Network()
    model = read(network.model(build(network), opset=opset))
    made = optimize(model.graph, Cpu.here())
    assert counted(made) == counted(optimized_by_runtime(model.bound_bytes()))
    return made


def channels_last(n: Network) -> str:
    """An input in channels last: one transpose of an operator's result."""
    return n.op("Transpose", n.op("Softplus", n.input(2, 8, 6, 10)), perm=LAST)


def back(n: Network, x: str) -> str:
    """A transpose back, before an operator that no transpose passes."""
    return n.op("Cast", n.op("CumSum", n.op("Transpose", x, perm=FIRST), n.constant(1, np.int64)), to=TensorProto.FLOAT)


def integers(n: Network, *values: int) -> str:
    return n.constant(list(values), np.int64)


def passed(kind: str, *constants: object, **attributes: object) -> Build:
    """An operator between two transposes, with int64 constants as further inputs."""

    def build(n: Network) -> str:
        return back(n, n.op(kind, channels_last(n), *(n.constant(c, np.int64) for c in constants), **attributes))

    return build


def joined(n: Network) -> str:
    x = channels_last(n)
    return back(n, n.op("Concat", n.op("Relu", x), n.op("Sigmoid", x), axis=3))


def taken_apart(n: Network) -> str:
    x = channels_last(n)
    first = n.op("Split", x, integers(n, 3, 5), axis=3, outputs=2)
    return n.op("Concat", back(n, first), back(n, f"{first}_1"), axis=1)


def reduced(kind: str, **attributes: object) -> Build:
    """A reduction over height and width, which leaves nothing to transpose."""

    def build(n: Network) -> str:
        given = (integers(n, 1, 2),) if kind == "ReduceSum" else ()
        axes = {} if given else {"axes": [1, 2]}
        return n.op("Cast", n.op(kind, channels_last(n), *given, **axes, **attributes), to=TensorProto.FLOAT)

    return build


def chosen(n: Network) -> str:
    x = channels_last(n)
    return back(n, n.op("Where", n.op("Greater", x, n.constant(0.5, np.float32)), x, n.weight(8)))


def sloped(n: Network) -> str:
    return back(n, n.op("PRelu", channels_last(n), n.weight(6, 1, 8)))


def fewer_axes_beside(n: Network) -> str:
    return back(n, n.op("Add", channels_last(n), n.op("Softplus", n.input(10, 8))))


def squeezed(n: Network) -> str:
    x = n.op("Transpose", n.op("Softplus", n.input(8, 1, 6)), perm=[1, 0, 2])
    x = n.op("Squeeze", x, integers(n, 0))
    return n.op("Transpose", n.op("Unsqueeze", n.op("Transpose", x, perm=[1, 0]), integers(n, 1)), perm=[2, 1, 0])


def reshape_that_transposes(n: Network) -> str:
    x = n.op("Transpose", n.op("Softplus", n.input(4, 8, 1, 6)), perm=LAST)
    return n.op("Softplus", n.op("Reshape", x, integers(n, 4, 6, 8, 1)))


def read_twice_before_an_output(n: Network) -> str:
    x = n.op("Softplus", n.input(2, 8, 6))
    y = n.op("Transpose", n.op("CumSum", x, n.constant(1, np.int64)), perm=[0, 2, 1])
    return n.op("Transpose", n.op("Add", y, n.op("Transpose", x, perm=[0, 2, 1])), perm=[0, 2, 1])


def larger_in_channels_last(n: Network) -> str:
    scales = n.constant([1, 2, 2, 1], np.float32)
    return back(n, n.op("Resize", channels_last(n), "", scales, mode="nearest"))


def quantised_between(n: Network) -> str:
    return back(n, n.dequantized(channels_last(n)))


TRANSPOSES: dict[str, Build] = {
    "slice": passed("Slice", [0, 1], [4, 5], [1, 3]),
    "slice without axes": passed("Slice", [0, 1], [2, 5]),
    "pad": passed("Pad", [0, 1, 2, 0, 0, 1, 2, 0], mode="reflect"),
    "tile": passed("Tile", [1, 2, 1, 1]),
    "softmax": passed("Softmax", axis=-1),
    "mean": passed("ReduceMean", axes=[3]),
    "sum": passed("ReduceSum", [3]),
    "largest": passed("ArgMax", axis=3),
    "clip": passed("Clip"),
    "concat": joined,
    "split": taken_apart,
    "mean that removes axes": reduced("ReduceMean", keepdims=0),
    "sum that removes axes": reduced("ReduceSum", keepdims=0),
    "where": chosen,
    "prelu": sloped,
    "an operand of fewer axes": fewer_axes_beside,
    "squeeze and unsqueeze": squeezed,
    "a reshape that is one": reshape_that_transposes,
    "read twice before an output": read_twice_before_an_output,
    "resize": larger_in_channels_last,
    "quantisation": quantised_between,
}


@pytest.mark.parametrize("name", TRANSPOSES)
def test_transposes_move_as_in_the_runtime(name: str) -> None:
    """Behind each operator that the runtime moves transposes behind, they move, and cancel where they meet."""
    assert_as_the_runtime(TRANSPOSES[name])


@pytest.mark.parametrize("opset", [11, 18])
def test_transposes_move_by_the_rules_of_each_opset(opset: int) -> None:
    """Axes are attributes in early opsets and inputs in later ones."""

    def build(n: Network) -> str:
        axes = {"axes": [3]} if opset < 18 else {}
        return back(n, n.op("ReduceMax", channels_last(n), *(() if axes else (integers(n, 3),)), **axes))

    assert_as_the_runtime(build, opset)


def parts(n: Network, *ranges: tuple[int, int], width: int = 8) -> str:
    x = n.op("Softplus", n.input(1, 4, width))
    taken = [n.op("Slice", x, integers(n, a), integers(n, b), integers(n, 2)) for a, b in ranges]
    return n.op("Concat", *(n.op("Neg", part) for part in taken), axis=2)


def rows(n: Network, *indices: int) -> str:
    x = n.op("Softplus", n.input(3, 4, 8))
    return n.op("Sum", *(n.op("Gather", x, n.constant(i, np.int64), axis=0) for i in indices))


@pytest.mark.parametrize(
    ("build", "splits"),
    [
        (lambda n: parts(n, (0, 3), (3, 8)), 1),
        (lambda n: parts(n, (4, OPEN), (0, 4)), 1),
        (lambda n: parts(n, (0, 3), (4, 8)), 0),
        (lambda n: parts(n, (0, 5), (3, 8)), 0),
        (lambda n: rows(n, 0, 2, 1), 1),
        (lambda n: rows(n, 0, -1), 0),
    ],
    ids=["halves", "to the end", "a gap", "an overlap", "rows", "not all rows"],
)
def test_parts_that_are_the_whole_become_a_split(build: Build, splits: int) -> None:
    """Slices and rows are one Split only where together they are the whole tensor, each index once."""
    made = assert_as_the_runtime(build)
    assert sum(op.type == "Split" for op in made.operators) == splits


def test_before_opset_13_parts_stay_apart() -> None:
    """The runtime knows the newer forms of Slice and Split only."""
    made = assert_as_the_runtime(lambda n: parts(n, (0, 3), (3, 8)), opset=12)
    assert not any(op.type == "Split" for op in made.operators)


def root_mean_square(n: Network) -> str:
    x = n.op("Softplus", n.input(2, 5, 16))
    mean = n.op("ReduceMean", n.op("Pow", x, n.constant(2, np.float32)), axes=[-1])
    root = n.op("Sqrt", n.op("Add", mean, n.constant(1e-5, np.float32)))
    return n.op("Mul", n.op("Div", x, root), n.weight(16))


def inverted_choice(n: Network) -> str:
    x = n.input(4, 8)
    condition = n.op("Not", n.op("Greater", x, n.constant(0.5, np.float32)))
    return n.op("Where", condition, n.op("Softplus", x), n.op("Neg", x))


def batch_moved_for_a_product(n: Network) -> str:
    left, right = n.op("Softplus", n.input(2, 6, 5)), n.op("Softplus", n.input(7, 2, 5))
    return n.op("MatMul", left, n.op("Transpose", right, perm=[1, 2, 0]))


def batch_moved_for_a_product_without_swapping(n: Network) -> str:
    left, right = n.op("Softplus", n.input(2, 6, 5)), n.op("Softplus", n.input(5, 2, 7))
    return n.op("MatMul", left, n.op("Transpose", right, perm=[1, 0, 2]))


def scaled_attention(n: Network) -> str:
    """Queries and keys are scaled before their product, as PyTorch's exporter writes it."""
    queries, keys = (n.op("Softplus", n.input(1, 4, 10, 16)) for _ in range(2))
    scale = n.constant(0.5, np.float32)
    keys = n.op("Mul", n.op("Transpose", keys, perm=[0, 1, 3, 2]), scale)
    return n.op("Softmax", n.op("MatMul", n.op("Mul", queries, scale), keys), axis=-1)


def cast_like(n: Network) -> str:
    return n.op("Softplus", n.op("CastLike", n.input(4, 8, kind=TensorProto.DOUBLE), n.input(1)))


def sum_behind_a_conv(rank: int) -> Build:
    def build(n: Network) -> str:
        x = n.input(1, 6, *[10] * rank)
        pads = [1] * (2 * rank)
        y = n.op("Conv", x, n.weight(6, 2, *[3] * rank), n.weight(6), pads=pads, group=3)
        return n.op("Relu", n.op("Add", y, n.op("Softplus", x)))

    return build


def neutral(n: Network) -> str:
    x = n.op("Softplus", n.input(4, 8))
    x = n.op("Softplus", n.op("Add", x, n.constant([0], np.float32)))
    x = n.op("Softplus", n.op("Mul", n.constant(1, np.float32), x))
    x = n.op("Softplus", n.op("Div", x, n.constant(1, np.float32)))
    return n.op("Softplus", n.op("Sub", n.constant(0, np.float32), x))  # this one changes the sign


def slices_of_everything(n: Network) -> str:
    x = n.op("Softplus", n.input(4, 8))
    x = n.op("Softplus", n.op("Slice", x, integers(n, 0), integers(n, OPEN), integers(n, 1)))
    return n.op("Softplus", n.op("Slice", x, integers(n, 0), integers(n, 8), integers(n, 1)))


def read_for_its_shape_only(n: Network) -> str:
    x = n.input(1, 6, 8)
    shape = n.op("Shape", n.op("Transpose", n.op("Softplus", x), perm=[0, 2, 1]))
    return n.op("Reshape", n.op("Neg", x), shape)


def constants_in_nodes(n: Network) -> str:
    x = n.input(4, 16)
    return n.op("Sum", *(n.op("MatMul", x, n.constant_node(16, 16)) for _ in range(3)))


def ones_like_others(n: Network) -> str:
    x, y = n.op("Softplus", n.input(4, 8)), n.op("Softplus", n.input(4, 8))
    ones = [n.op("Expand", n.constant([[1.5]], np.float32), n.op("Shape", z)) for z in (x, y)]
    return n.op("Sum", *(n.op("Mul", x, one) for one in ones))


def one_number_as_bias(n: Network) -> str:
    x = n.op("DynamicQuantizeLinear", n.input(4, 16), outputs=3)
    product = n.op("Cast", n.op("MatMulInteger", x, n.bytes_(16, 1), f"{x}_2"), to=TensorProto.FLOAT)
    scale = n.op("Mul", f"{x}_1", n.constant(0.01, np.float32))
    return n.op("Add", n.op("Mul", product, scale), n.weight(1))


OTHERS: dict[str, Build] = {
    "division by the root mean square": root_mean_square,
    "an inverted choice": inverted_choice,
    "a product with the batch in the second axis": batch_moved_for_a_product,
    "the same without swapping": batch_moved_for_a_product_without_swapping,
    "attention with scaled operands": scaled_attention,
    "a cast to another's type": cast_like,
    "a sum behind a one-dimensional convolution": sum_behind_a_conv(1),
    "a sum behind a convolution of images": sum_behind_a_conv(2),
    "arithmetic that changes nothing": neutral,
    "slices of everything": slices_of_everything,
    "a tensor that is read for its shape only": read_for_its_shape_only,
    "constants in nodes": constants_in_nodes,
    "ones like others": ones_like_others,
    "one number as bias": one_number_as_bias,
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_structures_are_rewritten_as_in_the_runtime(name: str) -> None:
    """Each structure that Sectum once took for something else runs the operators that the runtime says."""
    assert_as_the_runtime(OTHERS[name])


def half(n: Network, *shape: int) -> str:
    """A weight of half floats."""
    return n.constant(np.full(shape, 0.05), np.float16)


def half_convolutions(n: Network) -> str:
    x = n.op("Relu", n.op("Conv", n.input(1, 16, 8, 8, kind=TensorProto.FLOAT16), half(n, 32, 16, 3, 3), half(n, 32)))
    x = n.op("GlobalAveragePool", n.op("Add", n.op("Conv", x, half(n, 32, 32, 3, 3), pads=[1] * 4), x))
    x = n.op("Gemm", n.op("Flatten", x), half(n, 32, 10), half(n, 10))
    return n.op("Cast", n.op("Softmax", x), to=TensorProto.FLOAT)


def half_attention(n: Network) -> str:
    x = n.op("Softplus", n.input(1, 16, 64, kind=TensorProto.FLOAT16))
    x = n.op("LayerNormalization", x, half(n, 64), half(n, 64))
    shape = integers(n, 1, 16, 4, 16)
    q, k, v = (
        n.op("Transpose", n.op("Reshape", n.op("MatMul", x, half(n, 64, 64)), shape), perm=[0, 2, 1, 3])
        for _ in range(3)
    )
    scores = n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2]))
    return n.op("Cast", n.op("MatMul", n.op("LogSoftmax", scores, axis=-1), v), to=TensorProto.FLOAT)


def half_moved_only(n: Network) -> str:
    x = n.op("Gather", half(n, 50, 8), n.input(1, 6, kind=TensorProto.INT64))
    return n.op("Cast", n.op("Reshape", x, integers(n, 6, 8)), to=TensorProto.FLOAT)


def half_number_that_several_read(n: Network) -> str:
    x = n.input(4, 8, kind=TensorProto.FLOAT16)
    number = half(n)
    x = n.op("Tanh", n.op("Mul", n.op("Tanh", n.op("Add", x, number)), number))
    return n.op("Cast", x, to=TensorProto.FLOAT)


@pytest.mark.parametrize("build", [half_convolutions, half_attention, half_moved_only, half_number_that_several_read])
def test_half_floats_are_widened_as_in_the_runtime(build: Build) -> None:
    """Operators without a kernel for half floats run on 32 bits, between Casts where others keep 16."""
    assert_as_the_runtime(build)


def test_constants_of_equal_shape_are_not_one() -> None:
    """Weights in Constant operators are compared by their values."""
    network = Network()
    made = optimize(read(network.model(constants_in_nodes(network))).graph, Cpu.here())
    assert made.weight_bytes == 3 * 16 * 16 * 4
