"""Output shapes of the operators that move, cut and join data, by the ONNX operator specification."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sectum.errors import ModelMalformed
from sectum.graph.shape_rules import Rule
from sectum.graph.site import Shape, Site, Typed


def _reshape(site: Site) -> list[Typed]:
    shape = site.shape()
    wanted = site.needed_ints(1, "target shape") if site.has(1) else site.ints("shape")
    if wanted is None:
        raise ModelMalformed(f"operator '{site.label}' (Reshape) has no target shape: export the model again")
    zero_is_zero = site.integer("allowzero", 0)
    made: list[int] = []
    for i, size in enumerate(wanted):
        if size == 0 and not zero_is_zero:
            if i >= len(shape):
                site.fail(f"target {list(wanted)} copies dimension {i}, which the data does not have")
            made.append(shape[i])
        elif size < -1:
            site.fail(f"target {list(wanted)} has a negative dimension")
        else:
            made.append(size)
    total = math.prod(shape)
    if made.count(-1) > 1:
        site.fail(f"target {list(wanted)} leaves more than one dimension open")
    if -1 in made:
        known = math.prod(size for size in made if size != -1)
        if not known or total % known:
            site.fail(f"{total} elements cannot take the shape {list(wanted)}")
        made[made.index(-1)] = total // known
    if math.prod(made) != total:
        site.fail(f"{total} elements cannot take the shape {list(wanted)}")
    return [(tuple(made), site.dtype())]


def _flatten(site: Site) -> list[Typed]:
    shape = site.shape()
    axis = site.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        site.fail(f"axis {axis} does not exist in {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    return [((math.prod(shape[:axis]), math.prod(shape[axis:])), site.dtype())]


def _axes_of(site: Site) -> Shape | None:
    axes = site.ints("axes")
    return site.needed_ints(1, "list of axes") if axes is None and site.has(1) else axes


def _squeeze(site: Site) -> list[Typed]:
    shape = site.shape()
    axes = _axes_of(site)
    if axes is None:
        return [(tuple(size for size in shape if size != 1), site.dtype())]
    gone = site.axes(axes, len(shape))
    if any(shape[i] != 1 for i in gone):
        site.fail(f"axes {list(axes)} of {list(shape)} are not all of size 1")
    return [(tuple(size for i, size in enumerate(shape) if i not in gone), site.dtype())]


def _unsqueeze(site: Site) -> list[Typed]:
    axes = _axes_of(site)
    if axes is None:
        raise ModelMalformed(f"operator '{site.label}' (Unsqueeze) has no axes: export the model again")
    rank = len(site.shape()) + len(axes)
    new = site.axes(axes, rank)
    old = iter(site.shape())
    return [(tuple(1 if i in new else next(old) for i in range(rank)), site.dtype())]


def _transpose(site: Site) -> list[Typed]:
    shape = site.shape()
    order = site.ints("perm") or tuple(reversed(range(len(shape))))
    if sorted(order) != list(range(len(shape))):
        site.fail(f"perm {list(order)} does not order {len(shape)} dimensions")
    return [(tuple(shape[i] for i in order), site.dtype())]


def _concat(site: Site) -> list[Typed]:
    first = site.shape()
    axis = site.axis(site.integer("axis", 1), len(first))
    total = 0
    for index in range(len(site.shapes)):
        shape = site.shape(index)
        if len(shape) != len(first) or shape[:axis] != first[:axis] or shape[axis + 1 :] != first[axis + 1 :]:
            site.fail(f"{list(first)} and {list(shape)} differ outside axis {axis}")
        total += shape[axis]
    return [((*first[:axis], total, *first[axis + 1 :]), site.same_dtype(*range(len(site.shapes))))]


def _split(site: Site) -> list[Typed]:
    shape = site.shape()
    axis = site.axis(site.integer("axis", 0), len(shape))
    n = len(site.node.outputs)
    parts = site.needed_ints(1, "list of parts") if site.has(1) else site.ints("split")
    if parts is None:
        size = -(-shape[axis] // n)
        if "num_outputs" not in site.node.attributes and shape[axis] % n:
            site.fail(f"{shape[axis]} elements cannot be split into {n} equal parts")
        parts = (*(size,) * (n - 1), shape[axis] - size * (n - 1))
    if len(parts) != n or sum(parts) != shape[axis] or min(parts) < 0:
        site.fail(f"parts {list(parts)} do not make up {shape[axis]} in {n} outputs")
    return [((*shape[:axis], part, *shape[axis + 1 :]), site.dtype()) for part in parts]


def slices(site: Site) -> list[slice]:
    """Range that a Slice takes of each dimension."""
    shape = site.shape()
    if site.has(1):
        starts, ends = site.needed_ints(1, "list of starts"), site.needed_ints(2, "list of ends")
        axes = site.needed_ints(3, "list of axes") if site.has(3) else None
        steps = site.needed_ints(4, "list of steps") if site.has(4) else None
    else:
        starts, ends, axes, steps = (
            site.ints("starts") or (),
            site.ints("ends") or (),
            site.ints("axes"),
            None,
        )
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        site.fail("starts, ends, axes and steps differ in length")
    taken = [slice(0, size, 1) for size in shape]
    for start, end, raw_axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = site.axis(raw_axis, len(shape))
        if step == 0:
            raise ModelMalformed(f"operator '{site.label}' (Slice) has a step of 0: it must not be 0")
        taken[axis] = slice(*slice(start, end, step).indices(shape[axis]))
    return taken


def _slice(site: Site) -> list[Typed]:
    return [(tuple(len(range(s.start, s.stop, s.step)) for s in slices(site)), site.dtype())]


def _gather(site: Site) -> list[Typed]:
    shape = site.shape()
    axis = site.axis(site.integer("axis", 0), len(shape))
    return [(shape[:axis] + site.shape(1) + shape[axis + 1 :], site.dtype())]


def _pad(site: Site) -> list[Typed]:
    shape = site.shape()
    pads = site.needed_ints(1, "padding") if site.has(1) else site.ints("pads") or site.ints("paddings")
    axes = site.needed_ints(3, "list of axes") if site.has(3) else tuple(range(len(shape)))
    if pads is None or len(pads) != 2 * len(axes):
        site.fail(f"it needs {2 * len(axes)} pads")
    made = list(shape)
    for i, raw_axis in enumerate(axes):
        made[site.axis(raw_axis, len(shape))] += pads[i] + pads[i + len(axes)]
    if min(made, default=0) < 0:
        site.fail(f"pads {list(pads)} cut away more than there is")
    return [(tuple(made), site.dtype())]


def _expand(site: Site) -> list[Typed]:
    target = site.needed_ints(1, "target shape")
    if min(target, default=0) < 0:
        site.fail(f"target {list(target)} has a negative dimension")
    return [(site.broadcast([site.shape(), target]), site.dtype())]


def _tile(site: Site) -> list[Typed]:
    repeats = site.needed_ints(1, "list of repeats")
    if len(repeats) != len(site.shape()) or min(repeats, default=0) < 0:
        site.fail(f"repeats {list(repeats)} do not fit")
    return [(tuple(a * b for a, b in zip(site.shape(), repeats, strict=True)), site.dtype())]


def _resize(site: Site) -> list[Typed]:
    shape = site.shape()
    scales_at, sizes_at = (1, 3) if site.node.op_type == "Upsample" or site.opset < 11 else (2, 3)
    axes = site.ints("axes") or tuple(range(len(shape)))
    places = [site.axis(a, len(shape)) for a in axes]
    if site.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        site.fail("keep_aspect_ratio_policy other than 'stretch' is not modelled")
    made = list(shape)
    if site.has(sizes_at) and site.shape(sizes_at) != (0,):
        sizes = site.needed_ints(sizes_at, "list of sizes")
        if len(sizes) != len(places) or min(sizes, default=1) < 1:
            site.fail(f"sizes {list(sizes)} do not fit")
        for place, size in zip(places, sizes, strict=True):
            made[place] = size
        return [(tuple(made), site.dtype())]
    attribute = site.node.attributes.get("scales")
    scales = attribute if isinstance(attribute, tuple) else site.floats(scales_at)
    if scales is None:
        site.undecided("list of scales")
    if len(scales) != len(places):
        site.fail(f"it has {len(scales)} scales for {len(places)} dimensions")
    for place, scale in zip(places, scales, strict=True):
        if not isinstance(scale, (int, float)) or not 0 < scale < 1e9:
            site.fail(f"scale {scale} is not a positive number")
        made[place] = math.floor(made[place] * scale)
    return [(tuple(made), site.dtype())]


def _depth_to_space(site: Site) -> list[Typed]:
    block, (batch, channels, height, width) = _block(site)
    if channels % (block * block):
        site.fail(f"{channels} channels are no multiple of the block {block} squared")
    return [((batch, channels // (block * block), height * block, width * block), site.dtype())]


def _space_to_depth(site: Site) -> list[Typed]:
    block, (batch, channels, height, width) = _block(site)
    if height % block or width % block:
        site.fail(f"{height}x{width} is no multiple of the block {block}")
    return [((batch, channels * block * block, height // block, width // block), site.dtype())]


def _block(site: Site) -> tuple[int, Shape]:
    block = site.integer("blocksize", 0)
    if block < 1:
        raise ModelMalformed(
            f"operator '{site.label}' ({site.node.op_type}) has blocksize {block}: 1 or more is needed"
        )
    if len(site.shape()) != 4:
        site.fail("it needs four dimensions")
    return block, site.shape()


def shape_range(site: Site) -> Shape:
    """Dimensions that a Shape operator gives."""
    shape = site.shape()
    end = site.integer("end", len(shape))
    return shape[slice(*slice(site.integer("start", 0), end).indices(len(shape)))]


def _shape(site: Site) -> list[Typed]:
    return [((len(shape_range(site)),), "int64")]


def _size(site: Site) -> list[Typed]:
    site.shape()
    return [((), "int64")]


def _constant_of_shape(site: Site) -> list[Typed]:
    made = site.needed_ints(0, "shape")
    if min(made, default=0) < 0:
        site.fail(f"shape {list(made)} has a negative dimension")
    value = site.node.tensors.get("value")
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
