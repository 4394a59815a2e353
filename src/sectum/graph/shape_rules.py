"""Output shapes of the operators that CNNs consist of, from the text of the ONNX operator specification.

A rule takes a :class:`~sectum.graph.site.Site` and gives shape and type of the outputs, in their order; it
may give more than the operator has. Operators without a rule here are left to ONNX's own inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from sectum.errors import ModelMalformed
from sectum.graph.raw_tensor import DTYPES
from sectum.graph.site import Shape, Site, Typed

Rule = Callable[[Site], list[Typed]]


def _same(site: Site) -> list[Typed]:
    return [(site.shape(), site.dtype())]


def _broadcast(site: Site) -> list[Typed]:
    n = len(site.shapes) or 1
    return [(site.broadcast([site.shape(i) for i in range(n)]), site.same_dtype(*range(n)))]


def _compare(site: Site) -> list[Typed]:
    (shape, _), *_ = _broadcast(site)
    return [(shape, "bool")]


def _where(site: Site) -> list[Typed]:
    return [(site.broadcast([site.shape(0), site.shape(1), site.shape(2)]), site.same_dtype(1, 2))]


def _dropout(site: Site) -> list[Typed]:
    return [(site.shape(), site.dtype()), (site.shape(), "bool")]


def _spatial(site: Site) -> tuple[Shape, int]:
    shape = site.shape()
    if len(shape) < 3:
        site.fail("it needs a batch, a channel and at least one spatial dimension")
    return shape, len(shape) - 2


def _pads(site: Site, n: int) -> Shape:
    pads = site.ints("pads") or (0,) * (2 * n)
    if len(pads) != 2 * n:
        site.fail(f"pads has {len(pads)} values for {n} spatial dimensions; {2 * n} are needed")
    if min(pads) < 0:
        raise ModelMalformed(f"pads of operator '{site.label}' is {list(pads)}: each must be 0 or more")
    return pads


def _windows(site: Site, spatial: Shape, kernel: Shape) -> Shape:
    """How many windows fit along each spatial dimension (convolution and pooling)."""
    n = len(spatial)
    strides, dilations = site.positive("strides", n, 1), site.positive("dilations", n, 1)
    auto_pad = site.text("auto_pad", "NOTSET")
    pads = _pads(site, n) if auto_pad in ("NOTSET", "") else (0,) * (2 * n)
    ceil_mode = site.integer("ceil_mode", 0)
    result = []
    for i, size in enumerate(spatial):
        reach = dilations[i] * (kernel[i] - 1) + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            result.append(-(-size // strides[i]))
            continue
        free = size + pads[i] + pads[i + n] - reach
        if free < 0:
            site.fail(f"a window of {reach} does not fit into {size} plus padding along spatial dimension {i}")
        windows = (-(-free // strides[i]) if ceil_mode else free // strides[i]) + 1
        if ceil_mode and (windows - 1) * strides[i] >= size + pads[i]:
            windows -= 1  # a window may not start beyond the data
        result.append(windows)
    return tuple(result)


def _conv(site: Site) -> list[Typed]:
    (batch, channels, *spatial), n = _spatial(site)
    weight = site.shape(1)
    group = site.integer("group", 1)
    if group < 1:
        raise ModelMalformed(f"operator '{site.label}' (Conv) has group {group}: it must be 1 or more")
    if len(weight) != n + 2:
        site.fail(f"its weight has {len(weight)} dimensions instead of {n + 2}")
    if channels != weight[1] * group or weight[0] % group:
        site.fail(f"{channels} channels do not fit the weight {list(weight)} with group {group}")
    kernel = site.ints("kernel_shape") or weight[2:]
    if kernel != weight[2:]:
        site.fail(f"kernel_shape {list(kernel)} contradicts the weight {list(weight)}")
    if min(kernel) < 1:
        raise ModelMalformed(f"operator '{site.label}' (Conv) has an empty kernel")
    if site.has(2) and site.shape(2) != (weight[0],):
        site.fail(f"its bias must have shape [{weight[0]}]")
    return [((batch, weight[0], *_windows(site, tuple(spatial), kernel)), site.same_dtype(0, 1, 2))]


def _conv_transpose(site: Site) -> list[Typed]:
    (batch, channels, *spatial), n = _spatial(site)
    weight = site.shape(1)
    group = site.integer("group", 1)
    if group < 1:
        raise ModelMalformed(f"operator '{site.label}' (ConvTranspose) has group {group}: it must be 1 or more")
    if len(weight) != n + 2 or channels != weight[0]:
        site.fail(f"{channels} channels do not fit the weight {list(weight)}")
    kernel = site.positive("kernel_shape", n, 1) if "kernel_shape" in site.node.attributes else weight[2:]
    strides, dilations = site.positive("strides", n, 1), site.positive("dilations", n, 1)
    extra = site.ints("output_padding") or (0,) * n
    auto_pad = site.text("auto_pad", "NOTSET")
    pads = _pads(site, n) if auto_pad in ("NOTSET", "") else (0,) * (2 * n)
    fixed = site.ints("output_shape")
    if len(extra) != n or (fixed and len(fixed) not in (n, n + 2)):
        site.fail("output_padding or output_shape does not have one value for each spatial dimension")
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
            site.fail(f"spatial dimension {i} of the output would have {made} elements")
        result.append(made)
    return [((batch, weight[1] * group, *result), site.same_dtype(0, 1, 2))]


def _pool(site: Site) -> list[Typed]:
    (batch, channels, *spatial), n = _spatial(site)
    if "kernel_shape" not in site.node.attributes:
        raise ModelMalformed(f"operator '{site.label}' ({site.node.op_type}) has no kernel_shape")
    kernel = site.positive("kernel_shape", n, 1)
    shape = (batch, channels, *_windows(site, tuple(spatial), kernel))
    return [(shape, site.dtype()), (shape, "int64")]


def _global_pool(site: Site) -> list[Typed]:
    shape, n = _spatial(site)
    return [((*shape[:2], *(1,) * n), site.dtype())]


def _batch_norm(site: Site) -> list[Typed]:
    shape = site.shape()
    if len(shape) < 2:
        site.fail("it needs a batch and a channel dimension")
    channels = shape[1]
    for index in range(1, 5):
        if site.shape(index) != (channels,):
            site.fail(f"input {index} must have shape [{channels}]")
    statistics: Typed = ((channels,), site.dtype(3))
    return [(shape, site.dtype()), *(statistics,) * 4]


def _layer_norm(site: Site) -> list[Typed]:
    shape = site.shape()
    axis = site.axis(site.integer("axis", -1), len(shape))
    reduced = shape[:axis] + (1,) * (len(shape) - axis)
    return [(shape, site.dtype()), (reduced, "float32"), (reduced, "float32")]


def _gemm(site: Site) -> list[Typed]:
    a, b = site.shape(0), site.shape(1)
    if len(a) != 2 or len(b) != 2:
        site.fail("its inputs must be matrices")
    if site.integer("transA", 0):
        a = a[::-1]
    if site.integer("transB", 0):
        b = b[::-1]
    if a[1] != b[0]:
        site.fail(f"inner sizes {a[1]} and {b[0]} differ")
    shape = (a[0], b[1])
    if site.has(2) and site.broadcast([shape, site.shape(2)]) != shape:
        site.fail("its bias does not broadcast to the output")
    return [(shape, site.same_dtype(0, 1, 2))]


def _matmul(site: Site) -> list[Typed]:
    a, b = site.shape(0), site.shape(1)
    if site.node.domain:  # com.microsoft:FusedMatMul
        if site.integer("transA", 0) and len(a) > 1:
            a = (*a[:-2], a[-1], a[-2])
        if site.integer("transB", 0) and len(b) > 1:
            b = (*b[:-2], b[-1], b[-2])
    if not a or not b:
        site.fail("its inputs must have at least one dimension")
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    if left[-1] != right[-2]:
        site.fail(f"inner sizes {left[-1]} and {right[-2]} differ")
    outer = site.broadcast([left[:-2], right[:-2]])
    shape = outer + (left[-2:-1] if len(a) > 1 else ()) + (right[-1:] if len(b) > 1 else ())
    return [(shape, site.same_dtype(0, 1))]


def _reduce(site: Site) -> list[Typed]:
    shape = site.shape()
    axes = site.ints("axes")
    if axes is None and site.has(1):
        axes = site.needed_ints(1, "list of axes")
    if not axes and site.integer("noop_with_empty_axes", 0):
        return [(shape, site.dtype())]
    gone = site.axes(axes, len(shape)) if axes else tuple(range(len(shape)))
    return [(_without(shape, gone, site.integer("keepdims", 1)), site.dtype())]


def _arg_reduce(site: Site) -> list[Typed]:
    shape = site.shape()
    axis = site.axis(site.integer("axis", 0), len(shape))
    return [(_without(shape, (axis,), site.integer("keepdims", 1)), "int64")]


def _without(shape: Shape, axes: tuple[int, ...], keep: int) -> Shape:
    if keep:
        return tuple(1 if i in axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def _cast(site: Site) -> list[Typed]:
    code = site.integer("to", 0)
    if code not in DTYPES:
        raise ModelMalformed(f"operator '{site.label}' (Cast) converts to the unknown type {code}")
    return [(site.shape(), DTYPES[code])]


def _prelu(site: Site) -> list[Typed]:
    shape = site.shape()
    if site.broadcast([shape, site.shape(1)]) != shape:
        site.fail("its slope does not broadcast to the input")
    return [(shape, site.same_dtype(0, 1))]


def _fused_gelu_bias(site: Site) -> list[Typed]:
    return [(site.broadcast([site.shape(0), site.shape(1)]), site.same_dtype(0, 1))]


def _range(site: Site) -> list[Typed]:
    start, limit, delta = (site.value(i) for i in range(3))
    if start is None or limit is None or delta is None:
        site.undecided("range")
    first, last, step = (float(v.ravel()[0]) if v.size == 1 else math.nan for v in (start, limit, delta))
    if not step or not math.isfinite(first + last + step):
        site.fail("its bounds must be finite scalars and its step not zero")
    n = math.ceil((last - first) / step)
    return [((max(n, 0),), site.dtype())]


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
    ("", "Pow"): lambda site: [(site.broadcast([site.shape(0), site.shape(1)]), site.dtype())],
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
    ("com.microsoft", "FusedConv"): _conv,
    ("com.microsoft", "FusedGemm"): _gemm,
    ("com.microsoft", "FusedMatMul"): _matmul,
    ("com.microsoft", "QuickGelu"): _same,
    ("com.microsoft", "Gelu"): _same,
    ("com.microsoft", "FastGelu"): _same,
    ("com.microsoft", "BiasGelu"): _fused_gelu_bias,
}  # fmt: skip
