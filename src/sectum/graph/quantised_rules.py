"""Output shapes of the quantised operators that ONNX Runtime's tools write.

Source: the contrib operator schemas of ONNX Runtime 1.31 (``docs/ContribOperators.md``). Most are an operator of ONNX
whose tensors come each with a scale and a zero point: its rule is asked with the tensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sectum.graph.inference_context import InferenceContext, Shape, Typed
from sectum.graph.layout_rules import LAYOUT_RULES
from sectum.graph.shape_rules import RULES, Rule

_broadcast, _conv, _gemm, _global_pool, _matmul, _pool, _reduce, _same, _where = (
    RULES["", name]
    for name in ("Add", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool", "ReduceMean", "Identity", "Where")
)


def _only(ctx: InferenceContext, dtype: str, indices: Sequence[int]) -> InferenceContext:
    """Same operator with these inputs only, all of one type; absent ones at the end are left out."""
    there = [i for i in indices if ctx.has(i)]
    return replace(
        ctx,
        node=replace(ctx.node, inputs=[ctx.node.inputs[i] for i in there]),
        shapes=[ctx.shapes[i] for i in there],
        dtypes=[dtype] * len(there),
        values=[ctx.values[i] for i in there],
    )


def _without_scales(rule: Rule, *indices: int) -> Rule:
    """Rule for the tensors among the inputs, whose first has the type of the output."""
    return lambda ctx: rule(_only(ctx, ctx.dtype(indices[0]), indices))


def _channels_last(rule: Rule) -> Rule:
    """Rule for data with the channels behind the spatial dimensions."""

    def swapped(ctx: InferenceContext) -> list[Typed]:
        if not (ctx.integer("channels_last", 0) or ctx.node.op_type.startswith("Nhwc")):
            return rule(ctx)
        if len(ctx.shape()) < 3:
            ctx.fail("it needs a batch, at least one spatial dimension and channels")
        batch, *spatial, channels = ctx.shape()
        shapes: list[Shape | None] = [(batch, channels, *spatial), *ctx.shapes[1:]]
        return [((shape[0], *shape[2:], shape[1]), dtype) for shape, dtype in rule(replace(ctx, shapes=shapes))]

    return swapped


def _float_matmul(scale: int) -> Rule:
    """Product of integers, or of floats and integers, that gives the type of a scale."""
    return lambda ctx: _matmul(_only(ctx, ctx.dtype(scale), (0, 1)))


def _packed_matmul(ctx: InferenceContext) -> list[Typed]:
    """MatMul by a weight of K rows and N columns that is packed into blocks."""
    data, columns = ctx.shape(), ctx.integer("N", 0)
    if not data or columns < 1:
        ctx.fail("it needs data with a dimension, and N columns")
    if "K" in ctx.node.attributes and data[-1] != ctx.integer("K", 0):
        ctx.fail(f"inner sizes {data[-1]} and {ctx.integer('K', 0)} differ")
    return [((*data[:-1], columns), ctx.dtype())]


def _lstm(ctx: InferenceContext) -> list[Typed]:
    data, recurrent = ctx.shape(), ctx.shape(2)
    if len(data) != 3 or len(recurrent) != 3:
        ctx.fail("it needs data [steps, batch, features] and recurrent weights of three dimensions")
    steps, batch, _ = data
    directions, hidden = recurrent[0], ctx.integer("hidden_size", recurrent[1])
    last: Typed = ((directions, batch, hidden), ctx.dtype())
    return [((steps, directions, batch, hidden), ctx.dtype()), last, last]


def _concat(ctx: InferenceContext) -> list[Typed]:
    return LAYOUT_RULES["", "Concat"](_only(ctx, ctx.dtype(2), range(2, len(ctx.shapes), 3)))


def _quantised_gemm(ctx: InferenceContext) -> list[Typed]:
    return _gemm(_only(ctx, ctx.dtype(8) if ctx.has(8) else "float32", (0, 3, 6)))


def _quantize(ctx: InferenceContext) -> list[Typed]:
    return [(ctx.shape(), ctx.dtype(2) if ctx.has(2) else "uint8")]


def _dequantize(ctx: InferenceContext) -> list[Typed]:
    return [(ctx.shape(), ctx.dtype(1))]


def _integer_product(ctx: InferenceContext) -> list[Typed]:
    return _broadcast(_only(ctx, "int32", (0, 2)))


def _gather_blocks(ctx: InferenceContext) -> list[Typed]:
    """Rows of a quantised table; bytes hold 8 / bits values each."""
    shape = ctx.shape()
    bits = ctx.integer("bits", 4)
    if not shape or not 1 <= bits <= 8:
        ctx.fail("it needs a table, and 1 to 8 bits for each value")
    if ctx.dtype() == "uint8":
        shape = (*shape[:-1], shape[-1] * (8 // bits))
    axis = ctx.axis(ctx.integer("gather_axis", 0), len(shape))
    return [(shape[:axis] + ctx.shape(1) + shape[axis + 1 :], ctx.dtype(2))]


QUANTISED_RULES: Mapping[tuple[str, str], Rule] = {
    ("com.microsoft", name): rule
    for name, rule in {
        "DynamicQuantizeLSTM": _lstm,
        "DynamicQuantizeMatMul": _float_matmul(0),
        "MatMulIntegerToFloat": _float_matmul(2),
        "MatMulNBits": _packed_matmul,
        "MatMulBnb4": _packed_matmul,
        "GatherBlockQuantized": _gather_blocks,
        "QLinearAdd": _without_scales(_broadcast, 0, 3),
        "QLinearMul": _without_scales(_broadcast, 0, 3),
        "QLinearWhere": lambda ctx: _where(_only(ctx, ctx.dtype(1), (0, 1, 4))),
        "QLinearSigmoid": _same,
        "QLinearLeakyRelu": _same,
        "QLinearSoftmax": _same,
        "QLinearConcat": _concat,
        "QLinearGlobalAveragePool": _channels_last(_global_pool),
        "QLinearAveragePool": _channels_last(_pool),
        "QLinearReduceMean": lambda ctx: _reduce(_only(ctx, ctx.dtype(), (0,))),
        "QLinearConv": _channels_last(lambda ctx: _conv(_only(ctx, ctx.dtype(7), (0, 3)))),
        "QGemm": _quantised_gemm,
        "NhwcMaxPool": _channels_last(_pool),
        "QuantizeLinear": _quantize,
        "DequantizeLinear": _dequantize,
        "MulInteger": _integer_product,
    }.items()
}
