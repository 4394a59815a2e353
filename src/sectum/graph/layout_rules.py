"""Output shapes of the operators that move, cut and join data, by the ONNX operator specification."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sectum.errors import ModelMalformed
from sectum.graph.inference_context import InferenceContext, Shape, Typed
from sectum.graph.shape_rules import Rule


def _reshape(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    wanted = ctx.needed_ints(1, "target shape") if ctx.has(1) else ctx.ints("shape")
    if wanted is None:
        raise ModelMalformed(f"operator '{ctx.label}' (Reshape) has no target shape: export the model again")
    zero_is_zero = ctx.integer("allowzero", 0)
    made: list[int] = []
    for i, size in enumerate(wanted):
        if size == 0 and not zero_is_zero:
            if i >= len(shape):
                ctx.fail(f"target {list(wanted)} copies dimension {i}, which the data does not have")
            made.append(shape[i])
        elif size < -1:
            ctx.fail(f"target {list(wanted)} has a negative dimension")
        else:
            made.append(size)
    total = math.prod(shape)
    if made.count(-1) > 1:
        ctx.fail(f"target {list(wanted)} leaves more than one dimension open")
    if -1 in made:
        known = math.prod(size for size in made if size != -1)
        if not known or total % known:
            ctx.fail(f"{total} elements cannot take the shape {list(wanted)}")
        made[made.index(-1)] = total // known
    if math.prod(made) != total:
        ctx.fail(f"{total} elements cannot take the shape {list(wanted)}")
    return [(tuple(made), ctx.dtype())]


def _flatten(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    axis = ctx.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        ctx.fail(f"axis {axis} does not exist in {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    return [((math.prod(shape[:axis]), math.prod(shape[axis:])), ctx.dtype())]


def _axes_of(ctx: InferenceContext) -> Shape | None:
    axes = ctx.ints("axes")
    return ctx.needed_ints(1, "list of axes") if axes is None and ctx.has(1) else axes


def _squeeze(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    axes = _axes_of(ctx)
    if axes is None:
        return [(tuple(size for size in shape if size != 1), ctx.dtype())]
    gone = ctx.axes(axes, len(shape))
    if any(shape[i] != 1 for i in gone):
        ctx.fail(f"axes {list(axes)} of {list(shape)} are not all of size 1")
    return [(tuple(size for i, size in enumerate(shape) if i not in gone), ctx.dtype())]


def _unsqueeze(ctx: InferenceContext) -> list[Typed]:
    axes = _axes_of(ctx)
    if axes is None:
        raise ModelMalformed(f"operator '{ctx.label}' (Unsqueeze) has no axes: export the model again")
    rank = len(ctx.shape()) + len(axes)
    new = ctx.axes(axes, rank)
    old = iter(ctx.shape())
    return [(tuple(1 if i in new else next(old) for i in range(rank)), ctx.dtype())]


def _transpose(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    order = ctx.ints("perm") or tuple(reversed(range(len(shape))))
    if sorted(order) != list(range(len(shape))):
        ctx.fail(f"perm {list(order)} does not order {len(shape)} dimensions")
    return [(tuple(shape[i] for i in order), ctx.dtype())]


def _concat(ctx: InferenceContext) -> list[Typed]:
    first = ctx.shape()
    axis = ctx.axis(ctx.integer("axis", 1), len(first))
    total = 0
    for index in range(len(ctx.shapes)):
        shape = ctx.shape(index)
        if len(shape) != len(first) or shape[:axis] != first[:axis] or shape[axis + 1 :] != first[axis + 1 :]:
            ctx.fail(f"{list(first)} and {list(shape)} differ outside axis {axis}")
        total += shape[axis]
    return [((*first[:axis], total, *first[axis + 1 :]), ctx.same_dtype(*range(len(ctx.shapes))))]


def _split(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    axis = ctx.axis(ctx.integer("axis", 0), len(shape))
    n = len(ctx.node.outputs)
    parts = ctx.needed_ints(1, "list of parts") if ctx.has(1) else ctx.ints("split")
    if parts is None:
        size = -(-shape[axis] // n)
        if "num_outputs" not in ctx.node.attributes and shape[axis] % n:
            ctx.fail(f"{shape[axis]} elements cannot be split into {n} equal parts")
        parts = (*(size,) * (n - 1), shape[axis] - size * (n - 1))
    if len(parts) != n or sum(parts) != shape[axis] or min(parts) < 0:
        ctx.fail(f"parts {list(parts)} do not make up {shape[axis]} in {n} outputs")
    return [((*shape[:axis], part, *shape[axis + 1 :]), ctx.dtype()) for part in parts]


def slices(ctx: InferenceContext) -> list[slice]:
    """Range that a Slice takes of each dimension."""
    shape = ctx.shape()
    if ctx.has(1):
        starts, ends = ctx.needed_ints(1, "list of starts"), ctx.needed_ints(2, "list of ends")
        axes = ctx.needed_ints(3, "list of axes") if ctx.has(3) else None
        steps = ctx.needed_ints(4, "list of steps") if ctx.has(4) else None
    else:
        starts, ends, axes, steps = (
            ctx.ints("starts") or (),
            ctx.ints("ends") or (),
            ctx.ints("axes"),
            None,
        )
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        ctx.fail("starts, ends, axes and steps differ in length")
    taken = [slice(0, size, 1) for size in shape]
    for start, end, raw_axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = ctx.axis(raw_axis, len(shape))
        if step == 0:
            raise ModelMalformed(f"operator '{ctx.label}' (Slice) has a step of 0: it must not be 0")
        taken[axis] = slice(*slice(start, end, step).indices(shape[axis]))
    return taken


def _slice(ctx: InferenceContext) -> list[Typed]:
    return [(tuple(len(range(s.start, s.stop, s.step)) for s in slices(ctx)), ctx.dtype())]


def _gather(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    axis = ctx.axis(ctx.integer("axis", 0), len(shape))
    return [(shape[:axis] + ctx.shape(1) + shape[axis + 1 :], ctx.dtype())]


def _pad(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    pads = ctx.needed_ints(1, "padding") if ctx.has(1) else ctx.ints("pads") or ctx.ints("paddings")
    axes = ctx.needed_ints(3, "list of axes") if ctx.has(3) else tuple(range(len(shape)))
    if pads is None or len(pads) != 2 * len(axes):
        ctx.fail(f"it needs {2 * len(axes)} pads")
    made = list(shape)
    for i, raw_axis in enumerate(axes):
        made[ctx.axis(raw_axis, len(shape))] += pads[i] + pads[i + len(axes)]
    if min(made, default=0) < 0:
        ctx.fail(f"pads {list(pads)} cut away more than there is")
    return [(tuple(made), ctx.dtype())]


def _expand(ctx: InferenceContext) -> list[Typed]:
    target = ctx.needed_ints(1, "target shape")
    if min(target, default=0) < 0:
        ctx.fail(f"target {list(target)} has a negative dimension")
    return [(ctx.broadcast([ctx.shape(), target]), ctx.dtype())]


def _tile(ctx: InferenceContext) -> list[Typed]:
    repeats = ctx.needed_ints(1, "list of repeats")
    if len(repeats) != len(ctx.shape()) or min(repeats, default=0) < 0:
        ctx.fail(f"repeats {list(repeats)} do not fit")
    return [(tuple(a * b for a, b in zip(ctx.shape(), repeats, strict=True)), ctx.dtype())]


def _resize(ctx: InferenceContext) -> list[Typed]:
    shape = ctx.shape()
    scales_at, sizes_at = (1, 3) if ctx.node.op_type == "Upsample" or ctx.opset < 11 else (2, 3)
    axes = ctx.ints("axes") or tuple(range(len(shape)))
    places = [ctx.axis(a, len(shape)) for a in axes]
    if ctx.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        ctx.fail("keep_aspect_ratio_policy other than 'stretch' is not modelled")
    made = list(shape)
    if ctx.has(sizes_at) and ctx.shape(sizes_at) != (0,):
        sizes = ctx.needed_ints(sizes_at, "list of sizes")
        if len(sizes) != len(places) or min(sizes, default=1) < 1:
            ctx.fail(f"sizes {list(sizes)} do not fit")
        for place, size in zip(places, sizes, strict=True):
            made[place] = size
        return [(tuple(made), ctx.dtype())]
    attribute = ctx.node.attributes.get("scales")
    scales = attribute if isinstance(attribute, tuple) else ctx.floats(scales_at)
    if scales is None:
        ctx.undecided(scales_at, "list of scales")
    if len(scales) != len(places):
        ctx.fail(f"it has {len(scales)} scales for {len(places)} dimensions")
    for place, scale in zip(places, scales, strict=True):
        if not isinstance(scale, (int, float)) or not 0 < scale < 1e9:
            ctx.fail(f"scale {scale} is not a positive number")
        made[place] = math.floor(made[place] * scale)
    return [(tuple(made), ctx.dtype())]


def _depth_to_space(ctx: InferenceContext) -> list[Typed]:
    block, (batch, channels, height, width) = _block(ctx)
    if channels % (block * block):
        ctx.fail(f"{channels} channels are no multiple of the block {block} squared")
    return [((batch, channels // (block * block), height * block, width * block), ctx.dtype())]


def _space_to_depth(ctx: InferenceContext) -> list[Typed]:
    block, (batch, channels, height, width) = _block(ctx)
    if height % block or width % block:
        ctx.fail(f"{height}x{width} is no multiple of the block {block}")
    return [((batch, channels * block * block, height // block, width // block), ctx.dtype())]


def _block(ctx: InferenceContext) -> tuple[int, Shape]:
    block = ctx.integer("blocksize", 0)
    if block < 1:
        raise ModelMalformed(f"operator '{ctx.label}' ({ctx.node.op_type}) has blocksize {block}: 1 or more is needed")
    if len(ctx.shape()) != 4:
        ctx.fail("it needs four dimensions")
    return block, ctx.shape()


def shape_range(ctx: InferenceContext) -> Shape:
    """Dimensions that a Shape operator gives."""
    shape = ctx.shape()
    end = ctx.integer("end", len(shape))
    return shape[slice(*slice(ctx.integer("start", 0), end).indices(len(shape)))]


def _shape(ctx: InferenceContext) -> list[Typed]:
    return [((len(shape_range(ctx)),), "int64")]


def _size(ctx: InferenceContext) -> list[Typed]:
    ctx.shape()
    return [((), "int64")]


def _constant_of_shape(ctx: InferenceContext) -> list[Typed]:
    made = ctx.needed_ints(0, "shape")
    if min(made, default=0) < 0:
        ctx.fail(f"shape {list(made)} has a negative dimension")
    value = ctx.node.tensors.get("value")
    return [(made, value.dtype if value else "float32")]


LAYOUT_RULES: Mapping[tuple[str, str], Rule] = {
    ("", name): rule
    for name, rule in {
        "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
        "Transpose": _transpose, "Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather,
        "Pad": _pad, "Expand": _expand, "Tile": _tile, "Resize": _resize, "Upsample": _resize,
        "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth,
        "Shape": _shape,
        "Size": _size,
        "ConstantOfShape": _constant_of_shape,
    }.items()
}  # fmt: skip
