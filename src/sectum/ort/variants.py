"""Which of its algorithms a kernel takes: operators of one type that take different ones have different costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.contiguity import along_last_axis, reduced_axes

Variant = Callable[[Operator, Dataflow], str]


def variant_of(op: Operator, graph: Dataflow) -> str:
    """Name the algorithm in a word; empty where a type has only one, or the usual one is taken."""
    rule = _RULES.get(op.type)
    if rule is None and op.type.startswith(("Reduce", "Arg")):
        rule = _reduced_end
    return rule(op, graph) if rule else ""


def variant_names() -> tuple[str, ...]:
    """All variants, in the order of their codes."""
    return _NAMES


def variant_code(name: str) -> int:
    """Number of a variant, for trees; 0 for the usual one."""
    return _CODES[name]


def _mode(*usual: str) -> Variant:
    def rule(op: Operator, _: Dataflow) -> str:
        stated = op.attributes.get("mode", usual[0])
        text = stated.decode("ascii", "replace") if isinstance(stated, bytes) else str(stated)
        return text if text in _CODES and text not in usual else ""

    return rule


def _exponent(op: Operator, graph: Dataflow) -> str:
    """Squares and cubes are multiplied; other powers are computed one by one."""
    value = graph.tensors[op.inputs[1]].value if len(op.inputs) > 1 else None
    if value is None or value.size != 1:
        return "any power"
    return {2.0: "", 3.0: "cube"}.get(float(value.reshape(-1)[0]), "any power")


def _axis_inside(op: Operator, graph: Dataflow) -> str:
    return "" if along_last_axis(op, graph) else "inner axis"


def _reduced_end(op: Operator, graph: Dataflow) -> str:
    """Whether the last axis is reduced, or only axes before it."""
    rank = len(graph.tensors[op.inputs[0]].shape)
    axes = reduced_axes(op, graph, rank)
    return "" if not axes or rank - 1 in axes else "inner axis"


def _stepped(op: Operator, graph: Dataflow) -> str:
    value = graph.tensors[op.inputs[4]].value if len(op.inputs) > 4 and op.inputs[4] else None
    return "" if value is None or all(step == 1 for step in value.reshape(-1).tolist()) else "with steps"


def _integer_products(op: Operator, _: Dataflow) -> str:
    return "int8 products" if op.attributes.get("accuracy_level") == 4 else ""


def _reset_after(op: Operator, _: Dataflow) -> str:
    return "" if op.attributes.get("linear_before_reset") else "reset before product"


def _order(op: Operator, graph: Dataflow) -> str:
    """A matrix turned, one axis moved, or any other order; rows of the last axis are copied whole where it stays.

    Axes of size 1 do not count, and neighbours that stay neighbours are one axis.
    """
    shape = graph.tensors[op.inputs[0]].shape
    stated = op.attributes.get("perm")
    order = [int(axis) for axis in stated] if isinstance(stated, tuple) and stated else list(range(len(shape)))[::-1]
    order = [axis for axis in order if shape[axis] != 1]
    blocks: list[list[int]] = []
    kept = [axis for axis in range(len(shape)) if shape[axis] != 1]
    follows = dict(pairwise(kept))
    for axis in order:
        if blocks and follows.get(blocks[-1][-1]) == axis:
            blocks[-1].append(axis)
        else:
            blocks.append([axis])
    if not order or order[-1] == kept[-1]:
        return ""
    if len(blocks) == 2 or (len(blocks) == 3 and blocks[0][0] == kept[0]):
        return "matrix turned"
    return "any order"


def _element_types(op: Operator, graph: Dataflow) -> str:
    """Half precision is converted in software; between other types a cast is a loop."""
    types = graph.tensors[op.inputs[0]].dtype, graph.tensors[op.outputs[0]].dtype
    if "float16" in types:
        return "half precision"
    return "bool" if "bool" in types else ""


def _integers(op: Operator, graph: Dataflow) -> str:
    return "" if "float" in graph.tensors[op.inputs[0]].dtype else "integers"


def _signs(weight: int) -> Variant:
    """Kernels multiply unsigned by signed integers; other pairs of types take other kernels, some of them slow.

    Args:
        weight: position of the weight, or of the second operand.
    """

    def rule(op: Operator, graph: Dataflow) -> str:
        if graph.tensors[op.inputs[0]].dtype == "int8":
            return "signed"
        name = op.inputs[weight] if len(op.inputs) > weight else ""
        return "unsigned weights" if name and graph.tensors[name].dtype == "uint8" else ""

    return rule


def _scattered(op: Operator, _: Dataflow) -> str:
    return "" if op.attributes.get("reduction", "none") in ("none", b"none") else "combined"


def _frames(op: Operator, graph: Dataflow) -> str:
    """A frame whose length is no power of 2 is transformed by way of three longer ones."""
    length = graph.tensors[op.inputs[3]].value if len(op.inputs) > 3 and op.inputs[3] else None
    if length is not None:
        size = int(length.reshape(-1)[0])
    else:
        size = graph.tensors[op.inputs[2]].elements if len(op.inputs) > 2 and op.inputs[2] else 0
    return "" if size & (size - 1) == 0 else "odd frames"


_RULES: Mapping[str, Variant] = {
    "Resize": _mode("nearest"),
    "Upsample": _mode("nearest"),
    "GridSample": _mode("bilinear", "linear"),
    "Pad": _mode("constant"),
    "Pow": _exponent,
    **dict.fromkeys(("Softmax", "LogSoftmax", "TopK", "CumSum", "QLinearSoftmax"), _axis_inside),
    "Slice": _stepped,
    "MatMulNBits": _integer_products,
    "GRU": _reset_after,
    "Transpose": _order,
    "Cast": _element_types,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min"), _integers),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), _signs(3)),
    **dict.fromkeys(
        ("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"),
        _signs(1),
    ),
    "ScatterElements": _scattered,
    "STFT": _frames,
}
_NAMES = (
    "", "linear", "cubic", "nearest", "reflect", "edge", "wrap", "cube", "any power", "inner axis", "with steps",
    "int8 products", "reset before product", "matrix turned", "any order", "half precision", "bool", "integers",
    "signed", "odd frames", "bicubic", "unsigned weights", "combined",
)  # fmt: skip
_CODES = {name: code for code, name in enumerate(_NAMES)}
