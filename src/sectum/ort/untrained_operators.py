"""Rows of the operator types that the shipped latency models were not trained on."""

from __future__ import annotations

from functools import partial

from sectum.ort.access_pattern import once
from sectum.ort.flops import (
    attention,
    fourier_transform,
    matmul,
    nothing,
    per_input,
    per_output,
    pool,
    resize,
    variadic,
)  # fmt: skip
from sectum.ort.operator_type import OperatorType
from sectum.ort.weight_memory import (
    FLOAT_PANELS,
    embedded_rows,
)

_Product = partial(OperatorType, kind="gemm", dense=True, access=once)
_MS = "com.microsoft:"

_LAYERS = (
    _Product(f"{_MS}TransposeMatMul", matmul, packs={1: FLOAT_PANELS}),
    *(
        _Product(name, attention)
        for name in (
            "Attention", f"{_MS}QAttention", f"{_MS}GroupQueryAttention", f"{_MS}DecoderMaskedMultiHeadAttention",
        )
    ),
    OperatorType(f"{_MS}EmbedLayerNormalization", per_output(10), reads=embedded_rows),
    OperatorType("Dropout", nothing, memory_kind="rename", renames=True),
    OperatorType("DFT", fourier_transform),
)  # fmt: skip

_PER_INPUT = {
    2: ("GlobalLpPool", "ReduceLogSum"),
    4: (f"{_MS}QLinearReduceMean",),
    5: ("Unique",),
    10: ("NonMaxSuppression",),
}

_PER_OUTPUT = {
    1: (
        "Tan", "Asin", "Acos", "Sinh", "Cosh", "Asinh", "Acosh",
        "Atanh", "IsNaN", "IsInf", "BitwiseAnd",
        "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift", "Shrink",
    ),
    2: (f"{_MS}QuantizeLinear", f"{_MS}DequantizeLinear", "MelWeightMatrix"),
    4: (
        "Hardmax", "Swish", f"{_MS}BiasSoftmax", "RotaryEmbedding",
    ),
    5: ("Mish", "RandomNormalLike", "RandomUniformLike", "RandomNormal", "RandomUniform"),
    6: ("RMSNormalization",),
    8: ("GroupNormalization", "MeanVarianceNormalization", f"{_MS}LayerNormalization"),
    12: ("RoiAlign",),
}  # fmt: skip

_MOVES = (
    "Trilu", "Size", "Constant", "ConstantOfShape", "Range",
    "NonZero",
)  # fmt: skip

UNTRAINED = (
    *_LAYERS,
    *(OperatorType(name, per_input(count)) for count, names in _PER_INPUT.items() for name in names),
    *(OperatorType(name, per_output(count)) for count, names in _PER_OUTPUT.items() for name in names),
    *(OperatorType(name, variadic) for name in ("Mod",)),
    *(OperatorType(name, pool) for name in ("LpPool", f"{_MS}NhwcMaxPool")),
    OperatorType("Upsample", resize),
    *(OperatorType(name, nothing) for name in _MOVES),
    *(OperatorType(name, nothing, kind="move") for name in ("ReverseSequence", "EyeLike", "Compress")),
)
"""All of them; none has a code."""
