"""Output shapes of the fused operators that ONNX Runtime's optimizers write, most of them for transformers.

Source: the contrib operator schemas of ONNX Runtime 1.31 (``docs/ContribOperators.md``).
"""

from __future__ import annotations

from collections.abc import Mapping

from sectum.graph.inference_context import InferenceContext, Shape, Typed
from sectum.graph.shape_rules import RULES, Rule


def _bias_gelu(ctx: InferenceContext) -> list[Typed]:
    return [(ctx.broadcast([ctx.shape(0), ctx.shape(1)]), ctx.same_dtype(0, 1))]


def _skip_layer_norm(ctx: InferenceContext) -> list[Typed]:
    shape, dtype = ctx.shape(), ctx.same_dtype(0, 1)
    if not shape:
        ctx.fail("it needs data with a dimension")
    statistics: Typed = ((*shape[:-1], 1), "float32")
    return [(shape, dtype), statistics, statistics, (shape, dtype)]


def _embed_layer_norm(ctx: InferenceContext) -> list[Typed]:
    ids, table = ctx.shape(), ctx.shape(2)
    if len(ids) != 2 or len(table) != 2:
        ctx.fail("it needs ids [batch, sequence] and a table of two dimensions")
    dtype = "float32" if ctx.node.op_type.startswith("Q") else ctx.dtype(2)
    made: Typed = ((*ids, table[1]), dtype)
    return [made, ((ids[0],), "int32"), made]


def _heads(ctx: InferenceContext, name: str = "num_heads") -> int:
    heads = ctx.integer(name, 0)
    if heads < 1:
        ctx.fail(f"its {name} is {heads}: it must be 1 or more")
    return heads


def _rows(ctx: InferenceContext, index: int = 0) -> Shape:
    """Shape [batch, sequence, hidden] of an input."""
    shape = ctx.shape(index)
    if len(shape) != 3:
        ctx.fail(f"input {index} must have the dimensions batch, sequence and hidden size")
    return shape


def _attention(past_at: int, dtype_at: int) -> Rule:
    """Attention with one weight for queries, keys and values: ``Attention`` and ``QAttention``."""

    def rule(ctx: InferenceContext) -> list[Typed]:
        batch, length, _ = _rows(ctx)
        heads, weight, dtype = _heads(ctx), ctx.shape(1), ctx.dtype(dtype_at)
        if len(weight) != 2:
            ctx.fail("its weight must be a matrix")
        sizes = ctx.ints("qkv_hidden_sizes") or (weight[1] // 3,) * 3
        if len(sizes) != 3:
            ctx.fail("qkv_hidden_sizes must be three numbers")
        kept = _length_of(ctx, past_at, 3)
        total = kept if ctx.integer("past_present_share_buffer", 0) else kept + length
        return [((batch, length, sizes[2]), dtype), ((2, batch, heads, total, sizes[0] // heads), dtype)]

    return rule


def _length_of(ctx: InferenceContext, past_at: int, axis: int) -> int:
    """Length of the cache of keys that an optional input brings."""
    if not ctx.has(past_at):
        return 0
    past = ctx.shape(past_at)
    if len(past) <= axis:
        ctx.fail(f"its past has {len(past)} dimensions")
    return past[axis]


def _multi_head_attention(ctx: InferenceContext) -> list[Typed]:
    query, heads, dtype = ctx.shape(), _heads(ctx), ctx.dtype()
    if len(query) == 5:  # queries, keys and values in one tensor [batch, sequence, heads, 3, head size]
        batch, length, _, _, head = query
        value, new = heads * head, length
    else:
        batch, length, hidden = _rows(ctx)
        head, value, new = hidden // heads, hidden, length
        if ctx.has(1):
            key = ctx.shape(1)
            if len(key) not in (3, 4, 5):
                ctx.fail("its key must have 3 to 5 dimensions")
            new = key[2] if len(key) == 4 else key[1]
            if ctx.has(2):
                shape = ctx.shape(2)
                value = shape[1] * shape[3] if len(shape) == 4 else _rows(ctx, 2)[2]
    total = _length_of(ctx, 6, 2) + new
    return [
        ((batch, length, value), dtype),
        ((batch, heads, total, head), dtype),
        ((batch, heads, total, value // heads), dtype),
        ((batch, heads, length, total), dtype),
    ]


def _group_query_attention(ctx: InferenceContext) -> list[Typed]:
    batch, length, hidden = _rows(ctx)
    heads, groups, dtype = _heads(ctx), _heads(ctx, "kv_num_heads"), ctx.dtype()
    packed = not ctx.has(1)
    head = hidden // (heads + 2 * groups if packed else heads)
    made: list[Typed] = [((batch, length, heads * head), dtype)]
    if any(ctx.node.outputs[1:]):
        # The cache keeps its length where it has room for all; the total length is a value.
        total = max((_length_of(ctx, 3, 2), *ctx.needed_ints(6, "total sequence length")))
        cached = ctx.dtype(3) if ctx.has(3) else dtype
        made += [((batch, groups, total, head), cached)] * 2 + [((batch, heads, length, total), dtype)]
    return made


def _distances(ctx: InferenceContext) -> list[Typed]:
    a, b = ctx.shape(0), ctx.shape(1)
    if len(a) != 2 or len(b) != 2:
        ctx.fail("its inputs must be matrices")
    return [((a[0], b[0]), ctx.same_dtype(0, 1))]


TRANSFORMER_RULES: Mapping[tuple[str, str], Rule] = {
    ("", "SimplifiedLayerNormalization"): RULES["", "LayerNormalization"],
    **{
        ("com.microsoft", name): rule
        for name, rule in {
            **dict.fromkeys(
                ("FastGelu", "Gelu", "Inverse", "MoE", "QMoE", "QuickGelu", "RotaryEmbedding", "Trilu"),
                RULES["", "Identity"]),
            **dict.fromkeys(("FusedMatMul", "TransposeMatMul"), RULES["", "MatMul"]),
            **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_layer_norm),
            **dict.fromkeys(("EmbedLayerNormalization", "QEmbedLayerNormalization"), _embed_layer_norm),
            "Attention": _attention(4, 0),
            "QAttention": _attention(8, 3),
            "BiasGelu": _bias_gelu,
            "CDist": _distances,
            "FusedConv": RULES["", "Conv"],
            "FusedGemm": RULES["", "Gemm"],
            "GroupQueryAttention": _group_query_attention,
            "MultiHeadAttention": _multi_head_attention,
        }.items()
    },
}  # fmt: skip
