"""The operator types: one row for each, which all other parts look up.

A type that has no row is never free: see `sectum.ort.costs`. To add a type, add a row: its arithmetic, the latency
model that it shares (``kind``), and what is special about its memory. ``code`` is only for types that the shipped
latency models were trained on; the others are in `sectum.ort.untrained_operators`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.access_pattern import (
    blocked_convolution,
    concatenation,
    image_by_image,
    local_normalization,
    once,
    plain_convolution,
    split,
    staged,
)
from sectum.ort.flops import (
    conv,
    conv_transpose,
    gemm,
    lrn,
    matmul,
    nothing,
    per_input,
    per_output,
    pool,
    resize,
    variadic,
)  # fmt: skip
from sectum.ort.kernel_memory import (
    convolution_scratch_bytes,
    local_normalization_scratch_bytes,
    transposed_convolution_scratch_bytes,
)
from sectum.ort.operator_type import OperatorType
from sectum.ort.untrained_operators import UNTRAINED
from sectum.ort.weight_memory import FLOAT_PANELS, REARRANGED, gathered_rows, used_taps

KINDS = ("conv", "depthwise", "plain_conv", "gemm", "pool", "pointwise", "move")
"""Kinds of operators: each has one latency model."""

_TRAINED = (
    OperatorType(
        "com.microsoft.nchwc:Conv",
        conv,
        kind="conv",
        code=0,
        memory_kind="conv",
        overwrites=3,
        dense=True,
        reads=used_taps,
        access=blocked_convolution,
    ),
    OperatorType(
        "Conv",
        conv,
        kind="plain_conv",
        code=1,
        memory_kind="plain_conv",
        dense=True,
        scratch=convolution_scratch_bytes,
        access=plain_convolution,
    ),
    OperatorType(
        "com.microsoft:FusedConv",
        conv,
        kind="plain_conv",
        code=2,
        memory_kind="plain_conv",
        overwrites=3,
        dense=True,
        scratch=convolution_scratch_bytes,
        access=plain_convolution,
    ),
    OperatorType(
        "ConvTranspose",
        conv_transpose,
        kind="plain_conv",
        code=3,
        memory_kind="plain_conv",
        packs={1: REARRANGED},
        dense=True,
        scratch=transposed_convolution_scratch_bytes,
        access=staged,
    ),
    OperatorType(
        "Gemm", gemm, kind="gemm", code=4, memory_kind="gemm", packs={1: FLOAT_PANELS}, dense=True, access=once
    ),
    OperatorType(
        "com.microsoft:FusedGemm",
        gemm,
        kind="gemm",
        code=5,
        memory_kind="gemm",
        packs={1: FLOAT_PANELS},
        dense=True,
        access=once,
    ),
    OperatorType(
        "MatMul", matmul, kind="gemm", code=6, memory_kind="gemm", packs={1: FLOAT_PANELS}, dense=True, access=once
    ),
    OperatorType(
        "com.microsoft:FusedMatMul",
        matmul,
        kind="gemm",
        code=7,
        memory_kind="gemm",
        packs={1: FLOAT_PANELS},
        dense=True,
        access=once,
    ),
    OperatorType("MaxPool", pool, kind="pool", code=8, memory_kind="pool"),
    OperatorType("AveragePool", pool, kind="pool", code=9, memory_kind="pool"),
    OperatorType("GlobalAveragePool", per_input(1), kind="pool", code=10, memory_kind="global_pool"),
    OperatorType("GlobalMaxPool", per_input(1), kind="pool", code=11, memory_kind="global_pool"),
    OperatorType(
        "LRN",
        lrn,
        kind="pool",
        code=12,
        memory_kind="normalisation",
        scratch=local_normalization_scratch_bytes,
        access=local_normalization,
    ),
    OperatorType("ReduceMean", per_input(1), kind="pool", code=13, memory_kind="global_pool"),
    OperatorType("ReduceSum", per_input(1), kind="pool", code=14),
    OperatorType("ReduceMax", per_input(1), kind="pool", code=15),
    OperatorType("Resize", resize, kind="pool", code=16),
    OperatorType("com.microsoft.nchwc:MaxPool", pool, kind="pool", code=17, memory_kind="pool"),
    OperatorType("com.microsoft.nchwc:AveragePool", pool, kind="pool", code=18, memory_kind="pool"),
    OperatorType(
        "com.microsoft.nchwc:GlobalAveragePool", per_input(1), kind="pool", code=19, memory_kind="global_pool"
    ),
    OperatorType("com.microsoft.nchwc:GlobalMaxPool", per_input(1), kind="pool", code=20, memory_kind="global_pool"),
    OperatorType("com.microsoft.nchwc:Upsample", resize, kind="pool", code=21),
    OperatorType("Concat", nothing, kind="move", code=22, memory_kind="concat", access=concatenation),
    OperatorType("Split", nothing, kind="move", code=23, memory_kind="split", access=split),
    OperatorType("Slice", nothing, kind="move", code=24),
    OperatorType("Transpose", nothing, kind="move", code=25, memory_kind="transpose", access=image_by_image),
    OperatorType("Pad", nothing, kind="move", code=26),
    OperatorType("Gather", nothing, kind="move", code=27, reads=gathered_rows),
    OperatorType("Reshape", nothing, kind="move", code=28, memory_kind="rename", renames=True),
    OperatorType("Flatten", nothing, kind="move", code=29, memory_kind="rename", renames=True),
    OperatorType("Squeeze", nothing, kind="move", code=30, memory_kind="rename", renames=True),
    OperatorType("Unsqueeze", nothing, kind="move", code=31, memory_kind="rename", renames=True),
    OperatorType("Shape", nothing, kind="move", code=32),
    OperatorType("Expand", nothing, kind="move", code=33),
    OperatorType("Tile", nothing, kind="move", code=34),
    OperatorType("DepthToSpace", nothing, kind="move", code=35),
    OperatorType("SpaceToDepth", nothing, kind="move", code=36),
    OperatorType("Identity", nothing, kind="move", code=37, memory_kind="rename", renames=True),
    OperatorType("Cast", per_output(1), kind="move", code=38, memory_kind="in_place", overwrites=0),
    OperatorType("com.microsoft.nchwc:ReorderInput", nothing, kind="move", code=39, memory_kind="reorder"),
    OperatorType("com.microsoft.nchwc:ReorderOutput", nothing, kind="move", code=40, memory_kind="reorder"),
    OperatorType("Relu", per_output(1), code=41, memory_kind="in_place", overwrites=0),
    OperatorType("LeakyRelu", per_output(1), code=42, memory_kind="in_place", overwrites=0),
    OperatorType("PRelu", per_output(1), code=43),
    OperatorType("Clip", per_output(1), code=44, memory_kind="in_place", overwrites=0),
    OperatorType("Sigmoid", per_output(3), code=45, memory_kind="in_place", overwrites=0),
    OperatorType("Tanh", per_output(1), code=46, memory_kind="in_place", overwrites=0),
    OperatorType("HardSigmoid", per_output(3), code=47, memory_kind="in_place", overwrites=0),
    OperatorType("HardSwish", per_output(4), code=48),
    OperatorType("Elu", per_output(3), code=49, memory_kind="in_place", overwrites=0),
    OperatorType("Selu", per_output(3), code=50, memory_kind="in_place", overwrites=0),
    OperatorType("Softplus", per_output(3), code=51, memory_kind="in_place", overwrites=0),
    OperatorType("Erf", per_output(1), code=52),
    OperatorType("Gelu", per_output(8), code=53),
    OperatorType("com.microsoft:Gelu", per_output(8), code=54),
    OperatorType("com.microsoft:BiasGelu", per_output(9), code=55),
    OperatorType("com.microsoft:FastGelu", per_output(8), code=56),
    OperatorType("com.microsoft:QuickGelu", per_output(5), code=57),
    OperatorType("Exp", per_output(1), code=58),
    OperatorType("Log", per_output(1), code=59),
    OperatorType("Sqrt", per_output(1), code=60),
    OperatorType("Pow", variadic, code=61),
    OperatorType("Abs", per_output(1), code=62),
    OperatorType("Neg", per_output(1), code=63),
    OperatorType("Reciprocal", per_output(1), code=64),
    OperatorType("Add", variadic, code=65, memory_kind="combine", binary=True),
    OperatorType("Sub", variadic, code=66, memory_kind="combine", binary=True),
    OperatorType("Mul", variadic, code=67, memory_kind="combine", binary=True),
    OperatorType("Div", variadic, code=68, memory_kind="combine", binary=True),
    OperatorType("Sum", variadic, code=69, memory_kind="combine"),
    OperatorType("Max", variadic, code=70, memory_kind="combine", binary=True),
    OperatorType("Min", variadic, code=71, memory_kind="combine", binary=True),
    OperatorType("Mean", variadic, code=72, memory_kind="combine"),
    OperatorType("BatchNormalization", per_output(2), code=73, memory_kind="normalisation"),
    OperatorType("LayerNormalization", per_output(8), code=74, memory_kind="normalisation"),
    OperatorType("InstanceNormalization", per_output(8), code=75, memory_kind="normalisation"),
    OperatorType("com.microsoft:SkipLayerNormalization", per_output(9), code=76),
    OperatorType("Softmax", per_output(4), code=77, memory_kind="in_place", overwrites=0),
    OperatorType("LogSoftmax", per_output(4), code=78),
    OperatorType("ArgMax", per_input(1), code=79),
)

OPERATORS: dict[str, OperatorType] = {row.name: row for row in (*_TRAINED, *UNTRAINED)}
"""All known types by their qualified name."""

_UNKNOWN = OperatorType("")


def describe(op: Operator) -> OperatorType:
    """The row of an operator's type; for an unknown type, one without arithmetic."""
    return OPERATORS.get(op.qualified_type, _UNKNOWN)


def kind_of(op: Operator, graph: Dataflow) -> str:
    """The kind of an operator: the latency model that it shares with others."""
    kind = describe(op).kind
    if kind == "conv":
        group = op.attributes.get("group", 1)
        if isinstance(group, int) and 1 < group == graph.tensors[op.outputs[0]].shape[1]:
            return "depthwise"
    return kind


def trained_types() -> Mapping[int, OperatorType]:
    """Types that the latency models were trained on, by code."""
    return {row.code: row for row in sorted(OPERATORS.values(), key=lambda row: row.code) if row.code >= 0}
