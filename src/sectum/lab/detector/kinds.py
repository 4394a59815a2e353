"""Kinds of operators, as far as memory is concerned."""

from __future__ import annotations

from collections.abc import Sequence

from sectum.graph.ir import Operator

KINDS = (
    "conv", "depthwise", "plain_conv", "gemm", "pool", "global_pool", "normalisation", "in_place", "unary", "combine",
    "concat", "split", "rename", "reorder", "transpose", "other",
)  # fmt: skip

_NCHWC = "com.microsoft.nchwc:"

KIND_OF_TYPE = {
    "Conv": "plain_conv", "com.microsoft:FusedConv": "plain_conv", "ConvTranspose": "plain_conv",
    "Gemm": "gemm", "com.microsoft:FusedGemm": "gemm", "MatMul": "gemm", "com.microsoft:FusedMatMul": "gemm",
    "MaxPool": "pool", "AveragePool": "pool", f"{_NCHWC}MaxPool": "pool", f"{_NCHWC}AveragePool": "pool",
    "GlobalAveragePool": "global_pool", "GlobalMaxPool": "global_pool", "ReduceMean": "global_pool",
    f"{_NCHWC}GlobalAveragePool": "global_pool", f"{_NCHWC}GlobalMaxPool": "global_pool",
    "LRN": "normalisation", "BatchNormalization": "normalisation", "LayerNormalization": "normalisation",
    "InstanceNormalization": "normalisation",
    "Cast": "in_place", "Clip": "in_place", "Elu": "in_place", "HardSigmoid": "in_place", "LeakyRelu": "in_place",
    "Relu": "in_place", "Selu": "in_place", "Sigmoid": "in_place", "Softmax": "in_place", "Softplus": "in_place",
    "Tanh": "in_place",
    "Concat": "concat", "Split": "split", "Transpose": "transpose",
    "Reshape": "rename", "Flatten": "rename", "Squeeze": "rename", "Unsqueeze": "rename", "Identity": "rename",
    "Dropout": "rename",
    f"{_NCHWC}ReorderInput": "reorder", f"{_NCHWC}ReorderOutput": "reorder",
}  # fmt: skip
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean"})


def kind_of(op: Operator, activations: int, out_shape: Sequence[int]) -> str:
    """Tell an operator's kind.

    Args:
        op: the operator.
        activations: inputs that are no weights.
        out_shape: of its first output.
    """
    kind = op.qualified_type
    if kind == f"{_NCHWC}Conv":
        return "depthwise" if 1 < group_of(op) == out_shape[1] else "conv"
    if kind in ELEMENTWISE:
        return "combine" if activations > 1 else "unary"
    return KIND_OF_TYPE.get(kind, "unary" if activations == 1 else "other")


def group_of(op: Operator) -> int:
    """Groups of a convolution; 1 of all else."""
    value = op.attributes.get("group", 1)
    return value if isinstance(value, int) else 1
