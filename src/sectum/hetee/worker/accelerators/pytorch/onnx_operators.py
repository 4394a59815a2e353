"""The operators of ONNX models that can be trained, as functions of PyTorch. Importing this loads PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch.nn import functional

Value: TypeAlias = torch.Tensor | None
Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Value], Attributes, bool], tuple[torch.Tensor, ...]]


def _given(inputs: Sequence[Value], at: int) -> torch.Tensor:
    value = inputs[at] if at < len(inputs) else None
    if value is None:
        raise ValueError(f"input {at} of an operator is missing")
    return value


def _maybe(inputs: Sequence[Value], at: int) -> Value:
    return inputs[at] if at < len(inputs) else None


def _numbers(inputs: Sequence[Value], at: int, attributes: Attributes, name: str) -> list[int] | None:
    """Integers that newer operator sets give as an input, and older ones as an attribute."""
    value = _maybe(inputs, at)
    if value is not None:
        return [int(number) for number in value.reshape(-1).tolist()]
    return list(attributes[name]) if name in attributes else None


def _simple(function: Callable[..., torch.Tensor]) -> Operator:
    def operator(inputs: Sequence[Value], _attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
        return (function(*(value for value in inputs if value is not None)),)

    return operator


def _padded(picture: torch.Tensor, attributes: Attributes, fill: float = 0.0) -> tuple[torch.Tensor, list[int]]:
    """Pad what PyTorch's convolutions and pools do not: sides that differ. Returns the rest of the padding."""
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET", "VALID", b"VALID"):
        raise ValueError("auto_pad: export the model with explicit pads")
    rank = picture.ndim - 2
    pads = list(attributes.get("pads", (0,) * 2 * rank))
    begins, ends = pads[:rank], pads[rank:]
    if begins == ends:
        return picture, begins
    sides = [side for pair in zip(reversed(begins), reversed(ends), strict=True) for side in pair]
    return functional.pad(picture, sides, value=fill), [0] * rank


def _conv(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    picture, padding = _padded(_given(inputs, 0), attributes)
    weight = _given(inputs, 1)
    ones = [1] * (weight.ndim - 2)
    function = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[weight.ndim - 2]
    strides, dilations = list(attributes.get("strides", ones)), list(attributes.get("dilations", ones))
    groups = int(attributes.get("group", 1))
    return (function(picture, weight, _maybe(inputs, 2), strides, padding, dilations, groups),)


def _normalised(inputs: Sequence[Value], attributes: Attributes, training: bool) -> tuple[torch.Tensor, ...]:
    picture, scale, bias, mean, variance = (_given(inputs, at) for at in range(5))
    kept = float(attributes.get("momentum", 0.9))
    epsilon = float(attributes.get("epsilon", 1e-5))
    return (functional.batch_norm(picture, mean, variance, scale, bias, training, 1 - kept, epsilon),)


def _layer_normalised(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    value, scale = _given(inputs, 0), _given(inputs, 1)
    axis = int(attributes.get("axis", -1)) % value.ndim
    epsilon = float(attributes.get("epsilon", 1e-5))
    return (functional.layer_norm(value, list(value.shape[axis:]), scale, _maybe(inputs, 2), epsilon),)


def _max_pool(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    picture, padding = _padded(_given(inputs, 0), attributes, float("-inf"))
    size = list(attributes["kernel_shape"])
    strides, dilations = (
        list(attributes.get("strides", [1] * len(size))),
        list(attributes.get("dilations", [1] * len(size))),
    )
    function = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}[len(size)]
    return (function(picture, size, strides, padding, dilations, bool(attributes.get("ceil_mode", 0))),)


def _average_pool(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    counted = bool(attributes.get("count_include_pad", 0))
    picture, padding = _given(inputs, 0), list(attributes.get("pads", (0, 0, 0, 0)))
    size = list(attributes["kernel_shape"])
    if len(size) != 2 or padding[:2] != padding[2:]:
        raise ValueError("an average pool of other than two dimensions, or with sides that differ")
    strides = list(attributes.get("strides", [1, 1]))
    ceil = bool(attributes.get("ceil_mode", 0))
    return (functional.avg_pool2d(picture, size, strides, padding[:2], ceil, counted),)


def _mean_of_map(inputs: Sequence[Value], _attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    picture = _given(inputs, 0)
    return (picture.mean(tuple(range(2, picture.ndim)), keepdim=True),)


def _flatten(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    value, axis = _given(inputs, 0), int(attributes.get("axis", 1))
    return (
        value.flatten(axis)
        if axis == 1
        else value.reshape(-1 if axis else 1, value[:0].numel() or value.shape[axis:].numel()),
    )


def _reshape(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    value, wanted = _given(inputs, 0), _numbers(inputs, 1, attributes, "shape") or []
    sizes = [
        value.shape[at] if size == 0 and not attributes.get("allowzero") else size for at, size in enumerate(wanted)
    ]
    return (value.reshape(sizes),)


def _gemm(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    a, b, c = _given(inputs, 0), _given(inputs, 1), _maybe(inputs, 2)
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    a = a.T if attributes.get("transA", 0) else a
    b = b if attributes.get("transB", 0) else b.T
    if alpha == beta == 1.0 and (c is None or c.ndim == 1):
        return (functional.linear(a, b, c),)
    product = alpha * (a @ b.T)
    return (product if c is None else product + beta * c,)


def _clip(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    low, high = _maybe(inputs, 1), _maybe(inputs, 2)
    least = attributes.get("min") if low is None else float(low)
    most = attributes.get("max") if high is None else float(high)
    return (torch.clamp(_given(inputs, 0), least, most),)


def _dropout(inputs: Sequence[Value], attributes: Attributes, training: bool) -> tuple[torch.Tensor, ...]:
    ratio = _maybe(inputs, 1)
    share = float(attributes.get("ratio", 0.5)) if ratio is None else float(ratio)
    return (functional.dropout(_given(inputs, 0), share, training),)


def _softmax(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    return (torch.softmax(_given(inputs, 0), int(attributes.get("axis", -1))),)


def _transpose(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    value = _given(inputs, 0)
    return (value.permute(list(attributes.get("perm", reversed(range(value.ndim))))),)


def _concat(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    return (torch.cat([value for value in inputs if value is not None], int(attributes["axis"])),)


def _split(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    sizes = _numbers(inputs, 1, attributes, "split")
    if sizes is None:
        raise ValueError("a Split without sizes: export the model with them")
    return tuple(torch.split(_given(inputs, 0), sizes, int(attributes.get("axis", 0))))


def _squeeze(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    value, axes = _given(inputs, 0), _numbers(inputs, 1, attributes, "axes")
    return (value.squeeze() if axes is None else value.squeeze(tuple(axes)),)


def _unsqueeze(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    value, axes = _given(inputs, 0), _numbers(inputs, 1, attributes, "axes") or []
    rank = value.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        value = value.unsqueeze(axis)
    return (value,)


def _mean(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    value, axes = _given(inputs, 0), _numbers(inputs, 1, attributes, "axes")
    return (value.mean(axes or tuple(range(value.ndim)), keepdim=bool(attributes.get("keepdims", 1))),)


def _sum(inputs: Sequence[Value], _attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    total = _given(inputs, 0)
    for value in inputs[1:]:
        assert value is not None
        total = total + value
    return (total,)


def _hard_sigmoid(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    alpha, beta = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    return (torch.clamp(alpha * _given(inputs, 0) + beta, 0, 1),)


def _leaky(inputs: Sequence[Value], attributes: Attributes, _training: bool) -> tuple[torch.Tensor, ...]:
    return (functional.leaky_relu(_given(inputs, 0), float(attributes.get("alpha", 0.01))),)


OPERATORS: dict[str, Operator] = {
    "Add": _simple(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _normalised,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _simple(torch.div),
    "Dropout": _dropout,
    "Erf": _simple(torch.erf),
    "Exp": _simple(torch.exp),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _mean_of_map,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _simple(functional.hardswish),
    "Identity": _simple(lambda value: value),
    "LayerNormalization": _layer_normalised,
    "LeakyRelu": _leaky,
    "MatMul": _simple(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _simple(torch.mul),
    "Pow": _simple(torch.pow),
    "ReduceMean": _mean,
    "Relu": _simple(functional.relu),
    "Reshape": _reshape,
    "Sigmoid": _simple(torch.sigmoid),
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _simple(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _simple(torch.sub),
    "Sum": _sum,
    "Tanh": _simple(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By ONNX's names. A random operator draws from PyTorch's generator, which is seeded for each step."""
