"""Rows of the operator types that the shipped latency models were trained on.

Their order gives them their codes in the features of the latency models: a new row goes to
`sectum.ort.untrained_operators`, until the models are trained again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sectum.ort.access_pattern import (
    blocked_convolution,
    concatenation,
    image_by_image,
    local_normalization,
    once,
    plain_convolution,
    recurrent,
    split,
    staged,
)
from sectum.ort.byte_kernels import (
    convolution_buffer,
    integer_convolution_buffer,
    product_buffer,
    recurrent_buffer,
    widened_buffer,
)
from sectum.ort.flops import (
    attention,
    conv,
    conv_transpose,
    einsum,
    fourier_transform,
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
    accumulator_scratch_bytes,
    convolution_scratch_bytes,
    four_bit_scratch_bytes,
    integer_convolution_scratch_bytes,
    local_normalization_scratch_bytes,
    quantized_convolution_scratch_bytes,
    quantized_input_scratch_bytes,
    recurrent_scratch_bytes,
    selection_scratch_bytes,
    transposed_convolution_scratch_bytes,
)
from sectum.ort.operator_type import OperatorType
from sectum.ort.weight_memory import (
    BYTE_FILTERS,
    BYTE_PANELS,
    FLOAT_PANELS,
    FOUR_BIT_BLOCKS,
    REARRANGED,
    RECURRENT_PANELS,
    four_bit_inputs,
    gathered_rows,
    used_taps,
)

_Product = partial(OperatorType, kind="gemm", dense=True, access=once)
_Gemm = partial(_Product, memory_kind="gemm", packs={1: FLOAT_PANELS})
_PlainConv = partial(OperatorType, kind="plain_conv", memory_kind="plain_conv", dense=True)
_DirectConv = partial(_PlainConv, flops=conv, scratch=convolution_scratch_bytes, access=plain_convolution)

_FLOAT = (
    OperatorType(
        "com.microsoft.nchwc:Conv",
        conv,
        kind="conv",
        memory_kind="conv",
        overwrites=3,
        dense=True,
        reads=used_taps,
        access=blocked_convolution,
    ),
    _DirectConv("Conv"),
    _DirectConv("com.microsoft:FusedConv", overwrites=3),
    _PlainConv(
        "ConvTranspose",
        conv_transpose,
        packs={1: REARRANGED},
        scratch=transposed_convolution_scratch_bytes,
        access=staged,
    ),
    _Gemm("Gemm", gemm),
    _Gemm("com.microsoft:FusedGemm", gemm),
    _Gemm("MatMul", matmul),
    _Gemm("com.microsoft:FusedMatMul", matmul),
    OperatorType("MaxPool", pool, kind="pool", memory_kind="pool"),
    OperatorType("AveragePool", pool, kind="pool", memory_kind="pool"),
    OperatorType("GlobalAveragePool", per_input(1), kind="pool", memory_kind="global_pool"),
    OperatorType("GlobalMaxPool", per_input(1), kind="pool", memory_kind="global_pool"),
    OperatorType(
        "LRN",
        lrn,
        kind="pool",
        memory_kind="normalisation",
        scratch=local_normalization_scratch_bytes,
        access=local_normalization,
    ),
    OperatorType("ReduceMean", per_input(1), kind="pool", memory_kind="global_pool"),
    OperatorType("ReduceSum", per_input(1), kind="pool"),
    OperatorType("ReduceMax", per_input(1), kind="pool"),
    OperatorType("Resize", resize, kind="pool"),
    OperatorType("com.microsoft.nchwc:MaxPool", pool, kind="pool", memory_kind="pool"),
    OperatorType("com.microsoft.nchwc:AveragePool", pool, kind="pool", memory_kind="pool"),
    OperatorType("com.microsoft.nchwc:GlobalAveragePool", per_input(1), kind="pool", memory_kind="global_pool"),
    OperatorType("com.microsoft.nchwc:GlobalMaxPool", per_input(1), kind="pool", memory_kind="global_pool"),
    OperatorType("com.microsoft.nchwc:Upsample", resize, kind="pool"),
    OperatorType("Concat", nothing, kind="move", memory_kind="concat", access=concatenation),
    OperatorType("Split", nothing, kind="move", memory_kind="split", access=split),
    OperatorType("Slice", nothing, kind="move"),
    OperatorType("Transpose", nothing, kind="move", memory_kind="transpose", access=image_by_image),
    OperatorType("Pad", nothing, kind="move"),
    OperatorType("Gather", nothing, kind="move", reads=gathered_rows),
    OperatorType("Reshape", nothing, kind="move", memory_kind="rename", renames=True),
    OperatorType("Flatten", nothing, kind="move", memory_kind="rename", renames=True),
    OperatorType("Squeeze", nothing, kind="move", memory_kind="rename", renames=True),
    OperatorType("Unsqueeze", nothing, kind="move", memory_kind="rename", renames=True),
    OperatorType("Shape", nothing, kind="move"),
    OperatorType("Expand", nothing, kind="move"),
    OperatorType("Tile", nothing, kind="move"),
    OperatorType("DepthToSpace", nothing, kind="move"),
    OperatorType("SpaceToDepth", nothing, kind="move"),
    OperatorType("Identity", nothing, kind="move", memory_kind="rename", renames=True),
    OperatorType("Cast", per_output(1), kind="move", memory_kind="in_place", overwrites=0),
    OperatorType("com.microsoft.nchwc:ReorderInput", nothing, kind="move", memory_kind="reorder"),
    OperatorType("com.microsoft.nchwc:ReorderOutput", nothing, kind="move", memory_kind="reorder"),
    OperatorType("Relu", per_output(1), memory_kind="in_place", overwrites=0),
    OperatorType("LeakyRelu", per_output(1), memory_kind="in_place", overwrites=0),
    OperatorType("PRelu", per_output(1)),
    OperatorType("Clip", per_output(1), memory_kind="in_place", overwrites=0),
    OperatorType("Sigmoid", per_output(3), memory_kind="in_place", overwrites=0),
    OperatorType("Tanh", per_output(1), memory_kind="in_place", overwrites=0),
    OperatorType("HardSigmoid", per_output(3), memory_kind="in_place", overwrites=0),
    OperatorType("HardSwish", per_output(4)),
    OperatorType("Elu", per_output(3), memory_kind="in_place", overwrites=0),
    OperatorType("Selu", per_output(3), memory_kind="in_place", overwrites=0),
    OperatorType("Softplus", per_output(3), memory_kind="in_place", overwrites=0),
    OperatorType("Erf", per_output(1)),
    OperatorType("Gelu", per_output(8)),
    OperatorType("com.microsoft:Gelu", per_output(8)),
    OperatorType("com.microsoft:BiasGelu", per_output(9)),
    OperatorType("com.microsoft:FastGelu", per_output(8)),
    OperatorType("com.microsoft:QuickGelu", per_output(5)),
    OperatorType("Exp", per_output(1)),
    OperatorType("Log", per_output(1)),
    OperatorType("Sqrt", per_output(1)),
    OperatorType("Pow", variadic),
    OperatorType("Abs", per_output(1)),
    OperatorType("Neg", per_output(1)),
    OperatorType("Reciprocal", per_output(1)),
    OperatorType("Add", variadic, memory_kind="combine", binary=True),
    OperatorType("Sub", variadic, memory_kind="combine", binary=True),
    OperatorType("Mul", variadic, memory_kind="combine", binary=True),
    OperatorType("Div", variadic, memory_kind="combine", binary=True),
    OperatorType("Sum", variadic, memory_kind="combine"),
    OperatorType("Max", variadic, memory_kind="combine", binary=True),
    OperatorType("Min", variadic, memory_kind="combine", binary=True),
    OperatorType("Mean", variadic, memory_kind="combine"),
    OperatorType("BatchNormalization", per_output(2), memory_kind="normalisation"),
    OperatorType("LayerNormalization", per_output(8), memory_kind="normalisation"),
    OperatorType("InstanceNormalization", per_output(8), memory_kind="normalisation"),
    OperatorType("com.microsoft:SkipLayerNormalization", per_output(9)),
    OperatorType("Softmax", per_output(4), memory_kind="in_place", overwrites=0),
    OperatorType("LogSoftmax", per_output(4)),
    OperatorType("ArgMax", per_input(1)),
)

_MS = "com.microsoft:"
_Quantized = partial(OperatorType, kind="quantized", dense=True, access=once)
_ByteProduct = partial(_Quantized, packs={1: BYTE_PANELS}, buffer=product_buffer(1))
_ScaledProduct = partial(
    _Quantized, packs={3: BYTE_PANELS}, scratch=accumulator_scratch_bytes, buffer=product_buffer(3)
)
_Recurrent = partial(OperatorType, kind="recurrent", dense=True, scratch=recurrent_scratch_bytes, access=recurrent)

_SEQUENCES = (
    _Recurrent("LSTM", recurrent_layer(4), packs=dict.fromkeys((1, 2), RECURRENT_PANELS)),
    _Recurrent("GRU", recurrent_layer(3), packs=dict.fromkeys((1, 2), RECURRENT_PANELS)),
    _Recurrent("RNN", recurrent_layer(1)),
    _Recurrent(
        f"{_MS}DynamicQuantizeLSTM", recurrent_layer(4), packs=dict.fromkeys((1, 2), BYTE_PANELS),
        buffer=recurrent_buffer,
    ),
    _Product("Einsum", einsum),
    *(_Product(f"{_MS}{name}", attention) for name in ("Attention", "MultiHeadAttention")),
    OperatorType("Where", per_output(1), scratch=selection_scratch_bytes, access=staged),
    OperatorType("GatherElements", nothing, kind="move"),
    OperatorType("GatherND", nothing, kind="move", reads=gathered_rows),
    OperatorType("ScatterND", nothing, kind="move"),
    OperatorType("OneHot", nothing, kind="move"),
    OperatorType("STFT", fourier_transform, kind="pool"),
    OperatorType("CumSum", per_input(1), kind="pool"),
    OperatorType("TopK", per_input(5), kind="pool"),
    OperatorType("GridSample", per_output(12), kind="pool"),
    OperatorType("ArgMin", per_input(1)),
    *(OperatorType(name, per_input(1), kind="pool") for name in ("ReduceMin", "ReduceProd", "ReduceL1")),
    *(OperatorType(name, per_input(2), kind="pool") for name in ("ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")),
    *(OperatorType(name, per_output(1), overwrites=0) for name in ("ThresholdedRelu",)),
    *(OperatorType(name, per_output(3), overwrites=0) for name in ("Celu", "Softsign")),
    *(OperatorType(name, per_output(1)) for name in ("Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Atan")),
    *(
        OperatorType(name, per_output(1), binary=True)
        for name in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
    ),
    OperatorType("Not", per_output(1)),
    *(OperatorType(name, variadic, binary=True) for name in ("And", "Or", "Xor")),
    OperatorType("LpNormalization", per_output(5)),
    OperatorType("SimplifiedLayerNormalization", per_output(6)),
    OperatorType(f"{_MS}SkipSimplifiedLayerNormalization", per_output(7)),
    OperatorType(f"{_MS}RotaryEmbedding", per_output(4)),
)  # fmt: skip

_QUANTIZED = (
    *(
        _Quantized(
            name, quantized_conv, packs={3: BYTE_FILTERS}, scratch=quantized_convolution_scratch_bytes,
            buffer=convolution_buffer,
        )
        for name in ("QLinearConv", f"{_MS}QLinearConv")
    ),
    _Quantized(
        "ConvInteger", quantized_conv, scratch=integer_convolution_scratch_bytes, buffer=integer_convolution_buffer
    ),
    _ScaledProduct("QLinearMatMul", matmul),
    _ByteProduct("MatMulInteger", matmul),
    _ByteProduct(f"{_MS}MatMulIntegerToFloat", matmul),
    _ByteProduct(f"{_MS}DynamicQuantizeMatMul", matmul, scratch=quantized_input_scratch_bytes),
    _ScaledProduct(f"{_MS}QGemm", gemm),
    _Quantized(
        f"{_MS}MatMulNBits", matmul, packs={1: FOUR_BIT_BLOCKS}, reads=four_bit_inputs, scratch=four_bit_scratch_bytes,
        buffer=widened_buffer,
    ),
    OperatorType("DynamicQuantizeLinear", per_input(4)),
    *(OperatorType(name, per_output(2)) for name in ("QuantizeLinear", "DequantizeLinear")),
    *(OperatorType(f"{_MS}{name}", per_output(4), binary=True) for name in ("QLinearAdd", "QLinearMul")),
    OperatorType(f"{_MS}QLinearLeakyRelu", per_output(4)),
    *(OperatorType(f"{_MS}{name}", per_output(6)) for name in ("QLinearSigmoid", "QLinearSoftmax")),
    OperatorType(f"{_MS}QLinearGlobalAveragePool", per_input(4), kind="pool"),
    OperatorType(f"{_MS}QLinearAveragePool", pool, kind="pool"),
    OperatorType(f"{_MS}QLinearConcat", nothing, kind="move"),
    OperatorType("ScatterElements", nothing, kind="move"),
)  # fmt: skip

TRAINED = tuple(replace(row, code=code) for code, row in enumerate((*_FLOAT, *_SEQUENCES, *_QUANTIZED)))
"""All of them, with their codes."""
