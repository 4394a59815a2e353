"""Finds out whether a model computes each item of a batch from that item alone, so that a batch of it can be split.

The answer is yes only if it is known of every operator; an operator that is not listed here counts as one that mixes
items. Shapes are derived for two numbers of items. What differs between these depends on the number of items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

import numpy as np

from sectum.errors import SectumError
from sectum.graph.ir import Graph, Operator, Tensor
from sectum.graph.reader import parse
from sectum.hetee.worker.models import LIMITS

_FEW, _MORE = 3, 8  # items


class _Source(Enum):
    FIXED = "the same in every batch"
    ITEMS = "its first dimension is that of the items, and each of them comes from the same item of the inputs"
    COUNT = "depends on the number of items"


class _Case(NamedTuple):
    """An operator that is judged, with the tensors of both graphs."""

    op: Operator
    few: Mapping[str, Tensor]
    more: Mapping[str, Tensor]
    sources: Mapping[str, _Source]
    opset: int

    @property
    def given(self) -> list[int]:
        """Positions of the inputs that are not left out."""
        return [position for position, name in enumerate(self.op.inputs) if name]

    @property
    def made(self) -> list[str]:
        """Names of the outputs that are not left out."""
        return [name for name in self.op.outputs if name]

    def source(self, position: int) -> _Source:
        """Where an input comes from; one that is left out is fixed."""
        if position not in self.given:
            return _Source.FIXED
        name = self.op.inputs[position]
        return self.sources.get(name) or (_Source.FIXED if self.equal(name) else _Source.COUNT)

    def items(self, position: int) -> bool:
        return self.source(position) is _Source.ITEMS

    def fixed(self, *positions: int) -> bool:
        return all(self.source(position) is _Source.FIXED for position in positions)

    def only_first(self) -> bool:
        """Whether the first input has the items, and all others are fixed."""
        return self.items(0) and self.fixed(*self.given[1:])

    def equal(self, name: str) -> bool:
        """Whether a constant is the same in both graphs, as far as its value is known."""
        few, more = self.few[name], self.more[name]
        if few.shape != more.shape:
            return False
        return few.value is None or more.value is None or bool(np.array_equal(few.value, more.value))

    def known_equal(self, name: str) -> bool:
        """Whether the value of a tensor is known, and the same in both graphs."""
        return self.few[name].value is not None and self.more[name].value is not None and self.equal(name)

    def rank(self, position: int) -> int:
        return len(self.few[self.op.inputs[position]].shape)

    @property
    def out_rank(self) -> int:
        return len(self.few[self.op.result].shape)

    def numbers(self, attribute: str, position: int) -> tuple[int, ...] | None:
        """Integers that are an attribute, or in newer versions of the operator a fixed input; None if neither."""
        if isinstance(found := self.op.attributes.get(attribute), tuple):
            return tuple(int(number) for number in found)
        if position not in self.given or not self.fixed(position):
            return None
        value = self.few[self.op.inputs[position]].value
        return None if value is None else tuple(int(number) for number in value.reshape(-1))

    def whole(self, attribute: str, default: int) -> int:
        """An integer attribute."""
        found = self.op.attributes.get(attribute, default)
        assert isinstance(found, int)
        return found

    def inner(self, *axes: int, rank: int | None = None) -> bool:
        """Whether none of the axes of the first input is that of the items."""
        rank = self.rank(0) if rank is None else rank
        return bool(axes) and all(axis % rank for axis in axes)

    def lengths(self, name: str) -> bool:
        """Whether the first dimension of a tensor, and no other, is the number of items in both graphs."""
        few, more = self.few[name].shape, self.more[name].shape
        return few[:1] == (_FEW,) and more[:1] == (_MORE,) and few[1:] == more[1:]


def _elementwise(case: _Case) -> bool:
    return all(case.rank(at) == case.out_rank if case.items(at) else case.fixed(at) for at in case.given)


def _reshaped(case: _Case) -> bool:
    # Elements keep their order. So if the first dimension stays, each item keeps its own.
    return case.items(0) and not any(case.items(at) for at in case.given[1:])


def _expanded(case: _Case) -> bool:
    return _reshaped(case) and case.rank(0) == case.out_rank


def _resized(case: _Case) -> bool:
    return _reshaped(case) and case.op.attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize"


def _one_output(case: _Case) -> bool:
    return case.only_first() and len(case.made) == 1  # a second one of a pool has positions in the whole batch


def _normalised(case: _Case) -> bool:
    return _one_output(case) and not case.whole("training_mode", 0)


def _dropped(case: _Case) -> bool:
    training = 2 in case.given and (case.numbers("", 2) or (1,))[0]
    return case.only_first() and not training


def _along(default: int) -> Callable[[_Case], bool]:
    return lambda case: case.only_first() and case.inner(case.whole("axis", default))


def _softmax(case: _Case) -> bool:
    return case.only_first() and case.inner(case.whole("axis", -1 if case.opset >= 13 else 1))


def _joined(case: _Case) -> bool:
    return all(case.items(at) for at in case.given) and case.inner(case.whole("axis", 0))


def _transposed(case: _Case) -> bool:
    order = case.op.attributes.get("perm")
    return case.items(0) and isinstance(order, tuple) and order[0] == 0


def _gathered(case: _Case) -> bool:
    axis = case.whole("axis", 0) % max(case.rank(0), 1)
    return (case.only_first() and axis > 0) or (case.fixed(0) and case.items(1) and axis == 0)


def _axes(attribute: str, position: int) -> Callable[[_Case], bool]:
    return lambda case: case.only_first() and case.inner(*(case.numbers(attribute, position) or ()))


def _padded(case: _Case) -> bool:
    pads = case.numbers("pads", 1)
    whole = pads is not None and len(pads) == 2 * case.rank(0)  # not of some axes only
    return case.only_first() and whole and pads is not None and not pads[0] and not pads[case.rank(0)]


def _tiled(case: _Case) -> bool:
    repeats = case.numbers("", 1)
    return case.only_first() and repeats is not None and repeats[0] == 1


def _multiplied(case: _Case) -> bool:
    matrices = [at for at in (0, 1) if case.items(at)]
    aligned = all(case.rank(at) == case.out_rank for at in matrices) and (1 not in matrices or case.rank(1) > 2)
    return aligned and case.fixed(*(at for at in case.given if at not in matrices))


def _general_product(case: _Case) -> bool:
    return case.only_first() and not case.whole("transA", 0)


_SAME_RULE: Mapping[Callable[[_Case], bool], str] = {
    _elementwise: "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil "
    "Celu Clip Cos Cosh DequantizeLinear Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish "
    "IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear "
    "Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu "
    "Where Xor",
    _one_output: "AveragePool Conv ConvInteger ConvTranspose DepthToSpace GlobalAveragePool GlobalLpPool GlobalMaxPool "
    "GroupNormalization InstanceNormalization LRN LpPool MaxPool QLinearConv SpaceToDepth",
    _reshaped: "Flatten Identity Reshape Squeeze Unsqueeze",
    _axes(
        "axes", 1
    ): "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare",
    _along(-1): "LayerNormalization LpNormalization RMSNormalization TopK",
    _along(0): "ArgMax ArgMin Split",
    _softmax: "Hardmax LogSoftmax Softmax",
}
_RULES: Mapping[str, Callable[[_Case], bool]] = {
    **{name: rule for rule, names in _SAME_RULE.items() for name in names.split()},
    "BatchNormalization": _normalised,
    "Concat": _joined,
    "Dropout": _dropped,
    "Expand": _expanded,
    "Gather": _gathered,
    "Gemm": _general_product,
    "MatMul": _multiplied,
    "Pad": _padded,
    "Resize": _resized,
    "Slice": _axes("axes", 3),
    "Tile": _tiled,
    "Transpose": _transposed,
}
_DRAWS = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)
_ASKS = frozenset(("Shape", "Size"))  # of a tensor's shape only


def why_mixed(content: bytes, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why a batch of a model cannot be split, in words; None if it can.

    Args:
        content: the ONNX file, which was checked.
        shapes: shape of each input, the first dimension being the number of items.
    """
    try:
        parsed = parse(content, limits=LIMITS)
        few, more = (
            parsed.bind(inputs={name: (items, *shape[1:]) for name, shape in shapes.items()}) for items in (_FEW, _MORE)
        )
        if few.fixes_batch or more.fixes_batch:
            return "it has the number of items in a constant"
        if [op.type for op in few.graph.operators] != [op.type for op in more.graph.operators]:
            return "its operators depend on the number of items"
        return _judge(few.graph, more.graph)
    except SectumError as error:
        return f"the shapes in it are not known: {error}"
    except Exception as error:  # noqa: BLE001  # a hostile model may make it raise anything
        return f"its operators could not be understood: {type(error).__name__}"


def _judge(few: Graph, more: Graph) -> str | None:
    sources = dict.fromkeys(few.inputs, _Source.ITEMS)
    for op in few.operators:
        case = _Case(op, few.tensors, more.tensors, sources, few.opset)
        if op.type in _ASKS or not any(case.items(at) for at in case.given):
            if op.type in _DRAWS:
                return f"the operator {op.type} '{op.name[:40]}' draws numbers"
            sources |= {name: _of_no_item(case, name) for name in case.made}
            continue
        rule = _RULES.get(op.type) if op.domain in ("", "ai.onnx") else None
        if rule is None or not rule(case) or not all(case.lengths(name) for name in case.made):
            return f"the operator {op.qualified_type} '{op.name[:40]}' may mix the items of a batch"
        sources |= dict.fromkeys(case.made, _Source.ITEMS)
    for name in few.outputs:
        if sources.get(name) is not _Source.ITEMS:
            return f"the output '{name[:40]}' does not come from the items one by one"
    return None


def _of_no_item(case: _Case, name: str) -> _Source:
    """Where an output comes from whose operator sees no item, but perhaps their number."""
    if (case.op.type not in _ASKS and case.fixed(*case.given)) or case.known_equal(name):
        return _Source.FIXED
    repeated = case.op.type == "Expand" and case.fixed(0) and case.few[case.op.inputs[0]].shape[:1] in ((), (1,))
    if case.lengths(name) and (repeated or case.op.type == "ConstantOfShape"):
        return _Source.ITEMS  # each is the same
    return _Source.COUNT
