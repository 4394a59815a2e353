"""Output shapes of the operators that networks consist of, from the text of the ONNX operator specification.

A rule takes an :class:`~sectum.graph.inference_context.InferenceContext` and gives shape and type of the outputs, in
their order; it may give more than the operator has. Operators without a rule here are left to ONNX's own inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from sectum.errors import ModelMalformed
from sectum.graph.inference_context import InferenceContext, Shape, Typed
from sectum.graph.raw_tensor import DTYPES

Rule = Callable[[InferenceContext], list[Typed]]


def _same(ctx: InferenceContext) -> list[Typed]:
    return [(ctx.shape(), ctx.dtype())]


def _broadcast(ctx: InferenceContext) -> list[Typed]:
    n = len(ctx.shapes) or 1
    return [(ctx.broadcast([ctx.shape(i) for i in range(n)]), ctx.same_dtype(*range(n)))]


def _compare(ctx: InferenceContext) -> list[Typed]:
    (shape, _), *_ = _broadcast(ctx)
    return [(shape, "bool")]


def _where(ctx: InferenceContext) -> list[Typed]:
    return [(ctx.broadcast([ctx.shape(0), ctx.shape(1), ctx.shape(2)]), ctx.same_dtype(1, 2))]


def _dropout(ctx: InferenceContext) -> list[Typed]:
    return [(ctx.shape(), ctx.dtype()), (ctx.shape(), "bool")]


def _spatial(ctx: InferenceContext) -> tuple[Shape, int]:
    shape = ctx.shape()
    if len(shape) < 3:
        ctx.fail("it needs a batch, a channel and at least one spatial dimension")
    return shape, len(shape) - 2


def _pads(ctx: InferenceContext, n: int) -> Shape:
    pads = ctx.ints("pads") or (0,) * (2 * n)
    if len(pads) != 2 * n:
        ctx.fail(f"pads has {len(pads)} values for {n} spatial dimensions; {2 * n} are needed")
    if min(pads) < 0:
        raise ModelMalformed(f"pads of operator '{ctx.label}' is {list(pads)}: each must be 0 or more")
    return pads


def _windows(ctx: InferenceContext, spatial: Shape, kernel: Shape) -> Shape:
    """How many windows fit along each spatial dimension (convolution and pooling)."""
    n = len(spatial)
    strides, dilations = ctx.positive("strides", n, 1), ctx.positive("dilations", n, 1)
    auto_pad = ctx.text("auto_pad", "NOTSET")
    pads = _pads(ctx, n) if auto_pad in ("NOTSET", "") else (0,) * (2 * n)
    ceil_mode = ctx.integer("ceil_mode", 0)
    result = []
    for i, size in enumerate(spatial):
        reach = dilations[i] * (kernel[i] - 1) + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            result.append(-(-size // strides[i]))
            continue
        free = size + pads[i] + pads[i + n] - reach
        if free < 0:
            ctx.fail(f"a window of {reach} does not fit into {size} plus padding along spatial dimension {i}")
        windows = (-(-free // strides[i]) if ceil_mode else free // strides[i]) + 1
        if ceil_mode and (windows - 1) * strides[i] >= size + pads[i]:
            windows -= 1  # a window may not start beyond the data
        result.append(windows)
    return tuple(result)


def _group(ctx: InferenceContext) -> int:
    group = ctx.integer("group", 1)
    if group < 1:
        raise ModelMalformed(f"operator '{ctx.label}' ({ctx.node.op_type}) has group {group}: it must be 1 or more")
    return group


def _conv(ctx: InferenceContext) -> list[Typed]:
    (batch, channels, *spatial), n = _spatial(ctx)
    weight = ctx.shape(1)
    group = _group(ctx)
    if len(weight) != n + 2:
        ctx.fail(f"its weight has {len(weight)} dimensions instead of {n + 2}")
    if channels != weight[1] * group or weight[0] % group:
        ctx.fail(f"{channels} channels do not fit the weight {list(weight)} with group {group}")
    kernel = ctx.ints("kernel_shape") or weight[2:]
    if kernel != weight[2:]:
        ctx.fail(f"kernel_shape {list(kernel)} contradicts the weight {list(weight)}")
    if min(kernel) < 1:
        raise ModelMalformed(f"operator '{ctx.label}' (Conv) has an empty kernel")
    if ctx.has(2) and ctx.shape(2) != (weight[0],):
        ctx.fail(f"its bias must have shape [{weight[0]}]")
    return [((batch, weight[0], *_windows(ctx, tuple(spatial), kernel)), ctx.same_dtype(0, 1, 2))]


def _conv_transpose(ctx: InferenceContext) -> list[Typed]:
    (batch, channels, *spatial), n = _spatial(ctx)
    weight = ctx.shape(1)
    group = _group(ctx)
    if len(weight) != n + 2 or channels != weight[0]:
        ctx.fail(f"{channels} channels do not fit the weight {list(weight)}")
    kernel = ctx.positive("kernel_shape", n, 1) if "kernel_shape" in ctx.node.attributes else weight[2:]
    strides, dilations = ctx.positive("strides", n, 1), ctx.positive("dilations", n, 1)
    extra = ctx.ints("output_padding") or (0,) * n
    auto_pad = ctx.text("auto_pad", "NOTSET")
    pads = _pads(ctx, n) if auto_pad in ("NOTSET", "") else (0,) * (2 * n)
    fixed = ctx.ints("output_shape")
    if len(extra) != n or (fixed and len(fixed) not in (n, n + 2)):
        ctx.fail("output_padding or output_shape does not have one value for each spatial dimension")
    result = []
    for i, size in enumerate(spatial):
        if fixed:
            made = fixed[len(fixed) - n + i]
        else:
            whole = strides[i] * (size - 1) + extra[i] + dilations[i] * (kernel[i] - 1) + 1
            if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
                made = min(whole, size * strides[i])  # padding is never negative
            else:
                made = whole - pads[i] - pads[i + n]
        if made < 1:
            ctx.fail(f"spatial dimension {i} of the output would have {made} elements")
        result.append(made)
    return [((batch, weight[1] * group, *result), ctx.same_dtype(0, 1, 2))]


def _pool(ctx: InferenceContext) -> list[Typed]:
    (batch, channels, *spatial), n = _spatial(ctx)
    if "kernel_shape" not in ctx.node.attributes:
        raise ModelMalformed(f"operator '{ctx.label}' ({ctx.node.op_type}) has no kernel_shape")
    kernel = ctx.positive("kernel_shape", n, 1)
    shape = (batch, channels, *_windows(ctx, tuple(spatial), kernel))
    return [(shape, ctx.dtype()), (shape, "int64")]


def _global_pool(ctx: InferenceContext) -> list[Typed]:
    shape, n = _spatial(ctx)
    return [((*shape[:2], *(1,) * n), ctx.dtype())]


def _batch_norm(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    if len(shape) < 2:
        ctx.fail("it needs a batch and a channel dimension")
    channels = shape[1]
    for index in range(1, 5):
        if ctx.shape(index) != (channels,):
            ctx.fail(f"input {index} must have shape [{channels}]")
    statistics: Typed = ((channels,), ctx.dtype(3))
    return [(shape, ctx.dtype()), *(statistics,) * 4]


def _layer_norm(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    axis = ctx.axis(ctx.integer("axis", -1), len(shape))
    reduced = shape[:axis] + (1,) * (len(shape) - axis)
    return [(shape, ctx.dtype()), (reduced, "float32"), (reduced, "float32")]


def _gemm(ctx: InferenceContext) -> list[Typed]:
    a, b = ctx.shape(0), ctx.shape(1)
    if len(a) != 2 or len(b) != 2:
        ctx.fail("its inputs must be matrices")
    if ctx.integer("transA", 0):
        a = a[::-1]
    if ctx.integer("transB", 0):
        b = b[::-1]
    if a[1] != b[0]:
        ctx.fail(f"inner sizes {a[1]} and {b[0]} differ")
    shape = (a[0], b[1])
    if ctx.has(2) and ctx.broadcast([shape, ctx.shape(2)]) != shape:
        ctx.fail("its bias does not broadcast to the output")
    return [(shape, ctx.same_dtype(0, 1, 2))]


def _matmul(ctx: InferenceContext) -> list[Typed]:
    a, b = ctx.shape(0), ctx.shape(1)
    if ctx.node.domain:  # com.microsoft:FusedMatMul
        if ctx.integer("transA", 0) and len(a) > 1:
            a = (*a[:-2], a[-1], a[-2])
        if ctx.integer("transB", 0) and len(b) > 1:
            b = (*b[:-2], b[-1], b[-2])
    if not a or not b:
        ctx.fail("its inputs must have at least one dimension")
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    if left[-1] != right[-2]:
        ctx.fail(f"inner sizes {left[-1]} and {right[-2]} differ")
    outer = ctx.broadcast([left[:-2], right[:-2]])
    shape = outer + (left[-2:-1] if len(a) > 1 else ()) + (right[-1:] if len(b) > 1 else ())
    return [(shape, ctx.same_dtype(0, 1))]


def _reduce(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    axes = ctx.ints("axes")
    if axes is None and ctx.has(1):
        axes = ctx.needed_ints(1, "list of axes")
    if not axes and ctx.integer("noop_with_empty_axes", 0):
        return [(shape, ctx.dtype())]
    gone = ctx.axes(axes, len(shape)) if axes else tuple(range(len(shape)))
    return [(_without(shape, gone, ctx.integer("keepdims", 1)), ctx.dtype())]


def _arg_reduce(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    axis = ctx.axis(ctx.integer("axis", 0), len(shape))
    return [(_without(shape, (axis,), ctx.integer("keepdims", 1)), "int64")]


def _without(shape: Shape, axes: tuple[int, ...], keep: int) -> Shape:
    if keep:
        return tuple(1 if i in axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def _cast(ctx: InferenceContext) -> list[Typed]:
    code = ctx.integer("to", 0)
    if code not in DTYPES:
        raise ModelMalformed(f"operator '{ctx.label}' (Cast) converts to the unknown type {code}")
    return [(ctx.shape(), DTYPES[code])]


def _prelu(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    if ctx.broadcast([shape, ctx.shape(1)]) != shape:
        ctx.fail("its slope does not broadcast to the input")
    return [(shape, ctx.same_dtype(0, 1))]


def _range(ctx: InferenceContext) -> list[Typed]:
    start, limit, delta = (ctx.value(i) for i in range(3))
    if start is None or limit is None or delta is None:
        ctx.undecided(next(i for i in range(3) if ctx.value(i) is None), "range")
    first, last, step = (float(v.ravel()[0]) if v.size == 1 else math.nan for v in (start, limit, delta))
    if not step or not math.isfinite(first + last + step):
        ctx.fail("its bounds must be finite scalars and its step not zero")
    n = math.ceil((last - first) / step)
    return [((max(n, 0),), ctx.dtype())]


_UNARY = """Relu LeakyRelu Sigmoid Tanh HardSigmoid HardSwish Clip Elu Selu Celu Softplus Softsign Erf Exp Log
    ThresholdedRelu Sqrt Neg Abs Floor Ceil Round Reciprocal Sign Sin Cos Identity LRN Softmax LogSoftmax
    Hardmax Gelu Mish Not Swish InstanceNormalization GroupNormalization LpNormalization
    MeanVarianceNormalization CumSum Trilu"""
_BROADCASTING = "Add Sub Mul Div Sum Max Min Mean And Or Xor Mod"
_COMPARING = "Equal Greater Less GreaterOrEqual LessOrEqual"

RULES: Mapping[tuple[str, str], Rule] = {
    **{("", name): _same for name in _UNARY.split()},
    **{("", name): _broadcast for name in _BROADCASTING.split()},
    **{("", name): _compare for name in _COMPARING.split()},
    **{("", f"Reduce{kind}"): _reduce for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum",
                                                   "LogSumExp", "SumSquare")},
    ("", "Pow"): lambda ctx: [(ctx.broadcast([ctx.shape(0), ctx.shape(1)]), ctx.dtype())],
    ("", "PRelu"): _prelu,
    ("", "Where"): _where,
    ("", "Dropout"): _dropout,
    ("", "Conv"): _conv,
    ("", "ConvTranspose"): _conv_transpose,
    ("", "MaxPool"): _pool,
    ("", "AveragePool"): _pool,
    ("", "LpPool"): _pool,
    ("", "GlobalAveragePool"): _global_pool,
    ("", "GlobalMaxPool"): _global_pool,
    ("", "GlobalLpPool"): _global_pool,
    ("", "BatchNormalization"): _batch_norm,
    ("", "LayerNormalization"): _layer_norm,
    ("", "Gemm"): _gemm,
    ("", "MatMul"): _matmul,
    ("", "ArgMax"): _arg_reduce,
    ("", "ArgMin"): _arg_reduce,
    ("", "Cast"): _cast,
    ("", "Range"): _range,
}  # fmt: skip
