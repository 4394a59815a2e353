"""Rows of the operator types that the shipped latency models were not trained on."""

from __future__ import annotations

from functools import partial

from sectum.ort.access_pattern import once, recurrent, staged
from sectum.ort.flops import (
    attention,
    einsum,
    fourier_transform,
    gemm,
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
    quantized_convolution_scratch_bytes,
    quantized_input_scratch_bytes,
    recurrent_scratch_bytes,
    selection_scratch_bytes,
)
from sectum.ort.operator_type import OperatorType
from sectum.ort.weight_memory import (
    BYTE_PANELS,
    FLOAT_PANELS,
    REARRANGED,
    RECURRENT_PANELS,
    embedded_rows,
    gathered_rows,
)

_Product = partial(OperatorType, kind="gemm", dense=True, access=once)
_Recurrent = partial(
    OperatorType, kind="gemm", dense=True, scratch=recurrent_scratch_bytes, access=recurrent
)  # fmt: skip
_MS = "com.microsoft:"

_LAYERS = (
    _Recurrent("LSTM", recurrent_layer(4), packs=dict.fromkeys((1, 2), RECURRENT_PANELS)),
    _Recurrent("GRU", recurrent_layer(3), packs=dict.fromkeys((1, 2), RECURRENT_PANELS)),
    _Recurrent("RNN", recurrent_layer(1)),
    _Recurrent(f"{_MS}DynamicQuantizeLSTM", recurrent_layer(4), packs=dict.fromkeys((1, 2), BYTE_PANELS)),
    *(
        _Product(name, quantized_conv, packs={3: REARRANGED}, scratch=quantized_convolution_scratch_bytes)
        for name in ("QLinearConv", f"{_MS}QLinearConv")
    ),
    _Product("ConvInteger", quantized_conv),
    _Product("QLinearMatMul", matmul, packs={3: BYTE_PANELS}, scratch=accumulator_scratch_bytes),
    _Product("MatMulInteger", matmul, packs={1: BYTE_PANELS}),
    _Product(f"{_MS}MatMulIntegerToFloat", matmul, packs={1: BYTE_PANELS}),
    _Product(f"{_MS}DynamicQuantizeMatMul", matmul, packs={1: BYTE_PANELS}, scratch=quantized_input_scratch_bytes),
    _Product(f"{_MS}QGemm", gemm, packs={3: BYTE_PANELS}, scratch=accumulator_scratch_bytes),
    _Product(f"{_MS}MatMulNBits", matmul),
    _Product(f"{_MS}TransposeMatMul", matmul, packs={1: FLOAT_PANELS}),
    _Product("Einsum", einsum),
    *(
        _Product(name, attention)
        for name in (
            "Attention", f"{_MS}Attention", f"{_MS}QAttention", f"{_MS}MultiHeadAttention",
            f"{_MS}GroupQueryAttention", f"{_MS}DecoderMaskedMultiHeadAttention",
        )
    ),
    OperatorType(f"{_MS}EmbedLayerNormalization", per_output(10), reads=embedded_rows),
    OperatorType("Where", per_output(1), scratch=selection_scratch_bytes, access=staged),
    OperatorType("Dropout", nothing, memory_kind="rename", renames=True),
    OperatorType("GatherND", nothing, kind="move", reads=gathered_rows),
    OperatorType("STFT", fourier_transform),
    OperatorType("DFT", fourier_transform),
    *(OperatorType(name, per_output(1), overwrites=0) for name in ("ThresholdedRelu",)),
    *(OperatorType(name, per_output(3), overwrites=0) for name in ("Celu", "Softsign")),
)  # fmt: skip

_PER_INPUT = {
    1: ("ArgMin", "CumSum", "ReduceMin", "ReduceProd", "ReduceL1"),
    2: ("GlobalLpPool", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
    4: ("DynamicQuantizeLinear", f"{_MS}QLinearGlobalAveragePool", f"{_MS}QLinearReduceMean"),
    5: ("TopK", "Unique"),
    10: ("NonMaxSuppression",),
}

_PER_OUTPUT = {
    1: (
        "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh",
        "Atanh", "IsNaN", "IsInf", "Not", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "BitwiseAnd",
        "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift", "Shrink",
    ),
    2: ("QuantizeLinear", "DequantizeLinear", f"{_MS}QuantizeLinear", f"{_MS}DequantizeLinear", "MelWeightMatrix"),
    4: (
        "Hardmax", "Swish", f"{_MS}BiasSoftmax", f"{_MS}RotaryEmbedding", "RotaryEmbedding", f"{_MS}QLinearAdd",
        f"{_MS}QLinearMul", f"{_MS}QLinearLeakyRelu",
    ),
    5: ("Mish", "LpNormalization", "RandomNormalLike", "RandomUniformLike", "RandomNormal", "RandomUniform"),
    6: ("SimplifiedLayerNormalization", "RMSNormalization", f"{_MS}QLinearSigmoid", f"{_MS}QLinearSoftmax"),
    7: (f"{_MS}SkipSimplifiedLayerNormalization",),
    8: ("GroupNormalization", "MeanVarianceNormalization", f"{_MS}LayerNormalization"),
    12: ("GridSample", "RoiAlign"),
}  # fmt: skip

_MOVES = (
    "GatherElements", "ScatterND", "ScatterElements", "Trilu", "Size", "Constant", "ConstantOfShape", "Range",
    "NonZero",
)  # fmt: skip

UNTRAINED = (
    *_LAYERS,
    *(OperatorType(name, per_input(count)) for count, names in _PER_INPUT.items() for name in names),
    *(OperatorType(name, per_output(count)) for count, names in _PER_OUTPUT.items() for name in names),
    *(OperatorType(name, variadic) for name in ("Mod", "And", "Or", "Xor")),
    *(OperatorType(name, pool) for name in ("LpPool", f"{_MS}NhwcMaxPool", f"{_MS}QLinearAveragePool")),
    OperatorType("Upsample", resize),
    *(OperatorType(name, nothing) for name in _MOVES),
    *(
        OperatorType(name, nothing, kind="move")
        for name in ("OneHot", "ReverseSequence", "EyeLike", "Compress", f"{_MS}QLinearConcat")
    ),
)
"""All of them; none has a code."""
