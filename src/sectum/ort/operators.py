"""The operator types: one row for each, which all other parts look up.

A type that has no row is never free: see `sectum.ort.costs`. To add a type, add a row: its arithmetic, the latency
model that it shares (``kind``), and what is special about its memory. ``code`` is only for types that the shipped
latency models were trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.access_pattern import (
    AccessPattern,
    blocked_convolution,
    concatenation,
    image_by_image,
    local_normalization,
    once,
    plain_convolution,
    recurrent,
    split,
    streaming,
)  # fmt: skip
from sectum.ort.flops import (
    Flops,
    conv,
    conv_transpose,
    gemm,
    lrn,
    matmul,
    nothing,
    per_input,
    per_output,
    pool,
    quantized_conv,
    recurrent_layer,
    resize,
    variadic,
)  # fmt: skip
from sectum.ort.kernel_memory import (
    convolution_scratch_bytes,
    local_normalization_scratch_bytes,
    recurrent_scratch_bytes,
    selection_scratch_bytes,
    transposed_convolution_scratch_bytes,
)
from sectum.ort.weight_memory import (
    FLOAT_PANELS,
    REARRANGED,
    RECURRENT_PANELS,
    Packing,
    UsedParts,
    gathered_rows,
    used_taps,
    whole_weight,
)

KINDS = ("conv", "depthwise", "plain_conv", "gemm", "pool", "pointwise", "move")
"""Kinds of operators: each has one latency model."""


def no_scratch(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """No scratch memory."""
    return ()


@dataclass(frozen=True, slots=True)
class OperatorType:
    """What is known of the operators of one type.

    Attributes:
        name: qualified, such as ``Conv`` or ``com.microsoft:FusedConv``.
        flops: counts its floating-point operations; None where that is not known, so that they are estimated.
        kind: one of `KINDS`. A blocked convolution with one channel in a group is ``depthwise``, see `kind_of`.
        code: number in the features of the latency models; -1 for a type that they were not trained on.
        memory_kind: kind in the graph network of over-commitment; empty where that network has none for it.
        renames: whether the output is another name for input 0 (``Alias(0, 0)`` in the kernel's definition).
        overwrites: input whose buffer the kernel may overwrite with output 0 (``MayInplace`` in its definition), or
            None. Arithmetic such as Add and Mul has none in 1.31: seen in the size of the block that the runtime asks
            its arena for.
        packs: how it packs weights, by position of the input.
        used: which parts of a weight it reads.
        dense: whether it is mostly dense arithmetic, which the machine slows as the GEMM reference kernel.
        binary: whether one operand may be broadcast over the other.
        scratch: sizes of the allocations that its kernel takes from the arena while it runs.
        access: how it goes through its tensors.
    """

    name: str
    flops: Flops | None = None
    kind: str = "pointwise"
    code: int = -1
    memory_kind: str = ""
    renames: bool = False
    overwrites: int | None = None
    packs: Mapping[int, Packing] = field(default_factory=dict)
    used: UsedParts = whole_weight
    dense: bool = False
    binary: bool = False
    scratch: Callable[[Operator, Dataflow, int], tuple[int, ...]] = no_scratch
    access: AccessPattern = streaming


_ROWS = (
    OperatorType(
        "com.microsoft.nchwc:Conv",
        conv,
        kind="conv",
        code=0,
        memory_kind="conv",
        overwrites=3,
        dense=True,
        used=used_taps,
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
    OperatorType("Gather", nothing, kind="move", code=27, used=gathered_rows),
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
    OperatorType(
        "LSTM",
        recurrent_layer(4),
        kind="gemm",
        packs=dict.fromkeys((1, 2), RECURRENT_PANELS),
        dense=True,
        scratch=recurrent_scratch_bytes,
        access=recurrent,
    ),
    OperatorType(
        "GRU",
        recurrent_layer(3),
        kind="gemm",
        packs=dict.fromkeys((1, 2), RECURRENT_PANELS),
        dense=True,
        scratch=recurrent_scratch_bytes,
        access=recurrent,
    ),
    OperatorType("RNN", recurrent_layer(1), kind="gemm", dense=True, scratch=recurrent_scratch_bytes, access=recurrent),
    OperatorType("QLinearConv", quantized_conv),
    OperatorType("ConvInteger", quantized_conv),
    OperatorType("QLinearMatMul", matmul),
    OperatorType("MatMulInteger", matmul),
    OperatorType("LpPool", pool),
    OperatorType("ArgMin", per_input(1)),
    OperatorType("CumSum", per_input(1)),
    OperatorType("ReduceMin", per_input(1)),
    OperatorType("ReduceProd", per_input(1)),
    OperatorType("ReduceL1", per_input(1)),
    OperatorType("GlobalLpPool", per_input(2)),
    OperatorType("ReduceL2", per_input(2)),
    OperatorType("ReduceSumSquare", per_input(2)),
    OperatorType("ReduceLogSum", per_input(2)),
    OperatorType("ReduceLogSumExp", per_input(2)),
    OperatorType("Mod", variadic),
    OperatorType("And", variadic),
    OperatorType("Or", variadic),
    OperatorType("Xor", variadic),
    OperatorType("ThresholdedRelu", per_output(1), overwrites=0),
    OperatorType("Floor", per_output(1)),
    OperatorType("Ceil", per_output(1)),
    OperatorType("Round", per_output(1)),
    OperatorType("Sign", per_output(1)),
    OperatorType("Sin", per_output(1)),
    OperatorType("Cos", per_output(1)),
    OperatorType("Where", per_output(1), scratch=selection_scratch_bytes),
    OperatorType("Not", per_output(1)),
    OperatorType("Equal", per_output(1)),
    OperatorType("Greater", per_output(1)),
    OperatorType("Less", per_output(1)),
    OperatorType("GreaterOrEqual", per_output(1)),
    OperatorType("LessOrEqual", per_output(1)),
    OperatorType("QuantizeLinear", per_output(2)),
    OperatorType("DequantizeLinear", per_output(2)),
    OperatorType("Celu", per_output(3), overwrites=0),
    OperatorType("Softsign", per_output(3), overwrites=0),
    OperatorType("Hardmax", per_output(4)),
    OperatorType("Swish", per_output(4)),
    OperatorType("Mish", per_output(5)),
    OperatorType("LpNormalization", per_output(5)),
    OperatorType("GroupNormalization", per_output(8)),
    OperatorType("MeanVarianceNormalization", per_output(8)),
    OperatorType("Upsample", resize),
    OperatorType("Dropout", nothing, memory_kind="rename", renames=True),
    OperatorType("GatherElements", nothing),
    OperatorType("GatherND", nothing, used=gathered_rows),
    OperatorType("ScatterND", nothing),
    OperatorType("ScatterElements", nothing),
    OperatorType("Trilu", nothing),
    OperatorType("Size", nothing),
    OperatorType("Constant", nothing),
    OperatorType("ConstantOfShape", nothing),
    OperatorType("Range", nothing),
    OperatorType("NonZero", nothing),
    OperatorType("com.microsoft:TransposeMatMul", matmul),
    OperatorType("com.microsoft:BiasSoftmax", per_output(4)),
    OperatorType("com.microsoft:LayerNormalization", per_output(8)),
)

OPERATORS: dict[str, OperatorType] = {row.name: row for row in _ROWS}
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
