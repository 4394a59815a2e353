"""Costs follow from shapes, by exact operator type, and nothing unknown is free."""

from __future__ import annotations

import numpy as np
import pytest

from places import LIGHT
from sectum.errors import OperatorUnsupported
from sectum.graph import Graph, Operator, Tensor, TensorKind, read
from sectum.ort import cost, coverage, require_supported


def graph_of(op: Operator, **shapes: tuple[int, ...]) -> Graph:
    """A graph with one operator; tensors called w... are weights."""
    kinds = {name: TensorKind.WEIGHT if name.startswith("w") else TensorKind.ACTIVATION for name in shapes}
    tensors = {name: Tensor(name, shape, "float32", kinds[name]) for name, shape in shapes.items()}
    return Graph("one", (op,), tensors, ("x",), op.outputs, 17)


def flops(kind: str, *inputs: str, domain: str = "", attributes: dict | None = None, **shapes) -> int:
    op = Operator(kind, kind, inputs, ("y",), attributes or {}, domain)
    found = cost(op, graph_of(op, **shapes))
    assert found.supported
    assert found.flops_bounds == (found.flops, found.flops)
    return found.flops


@pytest.mark.parametrize(
    ("name", "gmacs"),
    # Multiply-accumulates at 224x224, convolutions and products: the usual figures (SqueezeNet is 1.1).
    [("resnet50", 3.86), ("vgg19", 19.6), ("squeezenet", 0.35), ("densenet121", 2.85)],
)  # fmt: skip
def test_published_sizes(name: str, gmacs: float) -> None:
    """Networks come to the multiply-accumulates that are published for them."""
    graph = read(LIGHT / f"light_{name}.onnx").graph
    products = [op for op in graph.operators if op.type in ("Conv", "Gemm")]
    macs = sum(cost(op, graph).flops for op in products) / 2e9
    assert macs == pytest.approx(gmacs, rel=0.07)


def test_products_count_twice_their_multiplications() -> None:
    """A convolution or product does 2 operations for each multiplication, and 1 for each bias."""
    made = 1 * 8 * 5 * 5
    assert flops("Conv", "x", "w", x=(1, 4, 5, 5), w=(8, 4, 3, 3), y=(1, 8, 5, 5)) == 2 * made * 36
    assert flops("Conv", "x", "w", x=(1, 8, 5, 5), w=(8, 1, 3, 3), y=(1, 8, 5, 5)) == 2 * made * 9
    assert flops("Conv", "x", "w", "wb", x=(1, 4, 5, 5), w=(8, 4, 3, 3), wb=(8,), y=(1, 8, 5, 5)) == made * 73
    assert flops("ConvTranspose", "x", "w", x=(1, 4, 5, 5), w=(4, 8, 2, 2), y=(1, 8, 10, 10)) == 2 * 100 * 32
    assert flops("Gemm", "x", "w", x=(3, 10), w=(10, 7), y=(3, 7)) == 2 * 210
    assert flops("Gemm", "x", "w", x=(10, 3), w=(10, 7), y=(3, 7), attributes={"transA": 1}) == 2 * 210
    assert flops("MatMul", "x", "w", x=(2, 3, 10), w=(10, 7), y=(2, 3, 7)) == 2 * 420


def test_runtime_operators_cost_what_they_replace() -> None:
    """ONNX Runtime's blocked and fused operators are counted like the operators that they stand for."""
    shapes = {"x": (1, 8, 5, 5), "w": (8, 8, 3, 3), "y": (1, 8, 5, 5)}
    plain = flops("Conv", "x", "w", **shapes)
    assert flops("Conv", "x", "w", domain="com.microsoft.nchwc", **shapes) == plain
    fused = flops("FusedConv", "x", "w", domain="com.microsoft", attributes={"activation": "Relu"}, **shapes)
    assert fused == plain + 200
    assert flops("ReorderInput", "x", domain="com.microsoft.nchwc", x=(1, 3, 5, 5), y=(1, 8, 5, 5)) == 0


def test_types_are_matched_exactly() -> None:
    """A name that merely contains a known one, or the right name in another domain, is unknown."""
    for kind, domain in (("ConvRelu", ""), ("Relu", "example"), ("conv", ""), ("Conv", "com.microsoft")):
        op = Operator("n", kind, ("x",), ("y",), {}, domain)
        assert not cost(op, graph_of(op, x=(1, 4), y=(1, 4))).supported


def test_unknown_operators_are_never_free() -> None:
    """An unknown operator has bytes, and operations between documented bounds that grow with its tensors."""
    op = Operator("n", "Mystery", ("x", "w"), ("y",), {}, "example")
    small = cost(op, graph_of(op, x=(2, 8), w=(8, 4), y=(2, 4)))
    large = cost(op, graph_of(op, x=(2, 800), w=(800, 400), y=(2, 400)))
    assert (small.input_bytes, small.weight_bytes, small.output_bytes) == (64, 128, 32)
    for found in (small, large):
        assert 0 < found.flops_bounds[0] <= found.flops <= found.flops_bounds[1]
    assert large.flops > small.flops
    # A product with the same tensors lies inside the bounds.
    assert large.flops_bounds[0] <= 2 * 2 * 800 * 400 <= large.flops_bounds[1]
    empty = Operator("n", "Mystery", ("x",), ("y",), {}, "example")
    assert cost(empty, graph_of(empty, x=(1,), y=(0,))).flops > 0


def test_folded_operators_cost_nothing() -> None:
    """What a runtime computes once, before the first inference, is no cost of an inference."""
    op = Operator("n", "Neg", ("w",), ("wn",), {})
    assert cost(op, graph_of(op, w=(5,), wn=(5,))).output_bytes == 0


def test_an_operand_read_twice_is_counted_once() -> None:
    """Adding x to itself reads x from memory once."""
    op = Operator("n", "Add", ("x", "x"), ("y",), {})
    assert cost(op, graph_of(op, x=(10,), y=(10,))).input_bytes == 40


def test_recurrent_layers_count_every_step_and_direction() -> None:
    """A step multiplies the input and the last state with the weights of each gate, in each direction."""
    for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        weights = {"w": (2, gates * 8, 5), "wr": (2, gates * 8, 8)}
        counted = flops(kind, "x", "w", "wr", x=(10, 3, 5), y=(10, 2, 3, 8), **weights)
        assert counted == 10 * 3 * 2 * gates * 8 * (2 * (5 + 8) + 4)
    quantized = {"w": (1, 5, 32), "wr": (1, 8, 32)}
    counted = flops(
        "DynamicQuantizeLSTM", "x", "w", "wr", domain="com.microsoft", x=(10, 3, 5), y=(10, 1, 3, 8), **quantized
    )
    assert counted == 10 * 3 * 4 * 8 * (2 * (5 + 8) + 4)


def test_attention_counts_queries_times_keys_and_scores_times_values() -> None:
    """With its own weights, with given keys, and over a past that it returns with the present keys."""
    own = flops("Attention", "x", "w", domain="com.microsoft", x=(2, 7, 16), w=(16, 48), y=(2, 7, 16))
    assert own == 2 * 2 * 7 * 16 * 48 + 4 * 2 * 7 * 7 * 16
    given = {"x": (2, 7, 16), "k": (2, 9, 16), "y": (2, 7, 16)}
    assert flops("MultiHeadAttention", "x", "k", domain="com.microsoft", **given) == 4 * 2 * 7 * 9 * 16


def test_einsum_counts_each_combination_of_indices() -> None:
    """A multiply-accumulate for each."""
    attributes = {"equation": "bij,bjk->bik"}
    assert flops("Einsum", "x", "z", attributes=attributes, x=(2, 3, 4), z=(2, 4, 5), y=(2, 3, 5)) == 2 * 2 * 3 * 4 * 5


def test_of_a_table_the_rows_that_are_gathered_are_read() -> None:
    """An embedding reads a row for each index, not its table."""
    op = Operator("g", "Gather", ("w", "x"), ("y",), {"axis": 0})
    assert cost(op, graph_of(op, w=(5000, 64), x=(1, 40), y=(1, 40, 64))).weight_bytes == 40 * 64 * 4


def test_strictness_lists_what_is_unknown() -> None:
    """Coverage counts unknown types, and strictness refuses them by name and number."""
    ops = tuple(Operator(f"n{i}", t, ("x",), (f"y{i}",), {}, d) for i, (t, d) in enumerate(
        [("Relu", ""), ("Magic", "example"), ("Magic", "example"), ("ImageDecoder", "")]))  # fmt: skip
    tensors = {n: Tensor(n, (4,), "float32", TensorKind.ACTIVATION) for n in ("x", "y0", "y1", "y2", "y3")}
    graph = Graph("g", ops, tensors, ("x",), ("y3",), 17)
    found = coverage(graph)
    assert (found.operators, found.supported) == (4, 1)
    assert found.unsupported == {"ImageDecoder": 1, "example:Magic": 2}
    with pytest.raises(OperatorUnsupported, match=r"ImageDecoder \(1\), example:Magic \(2\)"):
        require_supported(graph)


def test_the_nine_light_networks_are_covered() -> None:
    """Every operator of the nine networks has a known cost."""
    for path in LIGHT.glob("light_*.onnx"):
        graph = read(path).graph
        require_supported(graph)
        assert all(np.isfinite(cost(op, graph).flops) for op in graph.operators)
