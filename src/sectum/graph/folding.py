"""Values of small constants: what shape computations in a graph come to once the inputs' shapes are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sectum.graph.inference_context import Constant, InferenceContext, Shape
from sectum.graph.layout_rules import shape_range, slices

MAX_ELEMENTS = 1024
"""Larger constants have no known value: shapes and axes are far smaller, and this bounds all evaluation."""

Fold = Callable[[InferenceContext, list[Constant], Shape], "Constant | None"]


def fold(ctx: InferenceContext, made: Shape, dtype: str) -> Constant | None:
    """Value of the operator's first output, or None where it is unknown.

    Args:
        ctx: the operator with its inputs.
        made: shape of the output, as its shape rule gave it.
        dtype: type of the output.
    """
    rule = FOLDS.get(ctx.node.op_type) if not ctx.node.domain else None
    if rule is None or len(made) > 8:
        return None
    size = 1
    for dim in made:
        size *= dim
    if size > MAX_ELEMENTS:
        return None
    known: list[Constant] = []
    if ctx.node.op_type not in _NEED_NO_VALUES:
        for value, shape in zip(ctx.values, ctx.shapes, strict=True):
            if value is None:
                if shape is not None:
                    return None
            else:
                known.append(value)
    with np.errstate(all="ignore"):
        result = rule(ctx, known, made)
    if result is None or result.shape != made:
        return None
    return result.astype(dtype, copy=False) if dtype != result.dtype.name else result


def _divide(a: Constant, b: Constant) -> Constant | None:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    if not b.all():
        return None
    # ONNX rounds integer division towards zero, numpy towards minus infinity.
    quotient: Constant = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
    return quotient


def _modulo(ctx: InferenceContext, v: list[Constant]) -> Constant | None:
    if not v[1].all():
        return None
    return np.fmod(*v) if ctx.integer("fmod", 0) else np.mod(*v)


def _gather(ctx: InferenceContext, v: list[Constant]) -> Constant | None:
    axis = ctx.axis(ctx.integer("axis", 0), v[0].ndim)
    size = v[0].shape[axis] if v[0].ndim else 0
    if v[1].dtype.kind != "i" or not size or (v[1].size and not -size <= v[1].min() <= v[1].max() < size):
        return None
    return v[0].take(v[1].astype(np.int64), axis=axis)


def _constant_of_shape(ctx: InferenceContext, made: Shape) -> Constant | None:
    value = ctx.node.attributes.get("value", 0.0)
    return np.full(made, value) if isinstance(value, (int, float)) else None


def _reduce(kind: Callable[..., Constant]) -> Fold:
    def rule(ctx: InferenceContext, v: list[Constant], made: Shape) -> Constant | None:
        axes = ctx.ints("axes") or (tuple(int(a) for a in v[1].ravel()) if len(v) > 1 else None)
        if axes is None and ctx.integer("noop_with_empty_axes", 0):
            return v[0]
        return kind(v[0], axis=axes or None).reshape(made)

    return rule


def _range(_: InferenceContext, v: list[Constant], made: Shape) -> Constant:
    result: Constant = v[0].ravel()[0] + np.arange(made[0]) * v[2].ravel()[0]
    return result


def _expand(_: InferenceContext, v: list[Constant], made: Shape) -> Constant:
    return np.broadcast_to(v[0], made)


def _split(ctx: InferenceContext, v: list[Constant], made: Shape) -> Constant:
    axis = ctx.axis(ctx.integer("axis", 0), v[0].ndim)
    return v[0][(slice(None),) * axis + (slice(0, made[axis]),)]


def _elementwise(function: Callable[..., Constant | None]) -> Fold:
    return lambda _, v, __: function(*v)


def _many(function: Callable[..., Constant]) -> Fold:
    def rule(_: InferenceContext, v: list[Constant], __: Shape) -> Constant:
        result = v[0]
        for value in v[1:]:
            result = function(result, value)
        return result

    return rule


def _moved(_: InferenceContext, v: list[Constant], made: Shape) -> Constant:
    return v[0].reshape(made)


def _integer_power(a: Constant, b: Constant) -> Constant | None:
    return None if a.dtype.kind != "f" else np.power(a, b)


_NEED_NO_VALUES = frozenset({"Shape", "Size", "ConstantOfShape"})

FOLDS: Mapping[str, Fold] = {
    "Shape": lambda s, _, __: np.array(shape_range(s), dtype=np.int64),
    "Size": lambda s, _, __: np.array(np.prod(s.shape(), dtype=np.int64)),
    "ConstantOfShape": lambda s, _, made: _constant_of_shape(s, made),
    "Gather": lambda s, v, _: _gather(s, v),
    "Concat": lambda s, v, _: np.concatenate(v, axis=s.axis(s.integer("axis", 1), v[0].ndim)),
    "Slice": lambda s, v, _: v[0][tuple(_open(part) for part in slices(s))],
    "Transpose": lambda s, v, _: v[0].transpose(s.ints("perm")),
    "Split": _split,
    "Expand": _expand,
    "Range": _range,
    "Where": _elementwise(np.where),
    "Mod": lambda s, v, _: _modulo(s, v),
    "Div": _elementwise(_divide),
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Pow": _elementwise(_integer_power),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Sqrt": _elementwise(np.sqrt),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Equal": _elementwise(np.equal),
    "Greater": _elementwise(np.greater),
    "Less": _elementwise(np.less),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "LessOrEqual": _elementwise(np.less_equal),
    "Not": _elementwise(np.logical_not),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Max": _many(np.maximum),
    "Min": _many(np.minimum),
    "Sum": _many(np.add),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    **dict.fromkeys(("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"), _moved),
}


def _open(part: slice) -> slice:
    # A descending slice that ends before index 0 has stop -1, which Python would read as "the last".
    return slice(part.start, None, part.step) if part.stop is not None and part.stop < 0 else part
