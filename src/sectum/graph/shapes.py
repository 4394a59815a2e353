"""Static shapes, types and small values of every tensor, operator by operator in the order of execution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from sectum.errors import ModelMalformed, ModelTooLarge
from sectum.graph.folding import MAX_ELEMENTS, fold
from sectum.graph.inference_context import Constant, InferenceContext, Shape, ShapeUnknown, Typed
from sectum.graph.ir import DTYPE_BYTES
from sectum.graph.layout_rules import LAYOUT_RULES
from sectum.graph.limits import Limits
from sectum.graph.onnx_format import RawNode
from sectum.graph.protobuf import Buffer
from sectum.graph.quantised_rules import QUANTISED_RULES
from sectum.graph.raw_tensor import RawTensor
from sectum.graph.shape_rules import RULES
from sectum.graph.transformer_rules import TRANSFORMER_RULES

ALL_RULES = {**RULES, **LAYOUT_RULES, **QUANTISED_RULES, **TRANSFORMER_RULES}
FLOATS_KEPT = 16
"""Float constants up to this many elements keep their value: scalars, scales of Resize, bounds of Clip."""

_RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
                     "Bernoulli"})  # fmt: skip


StatedType = Callable[[str], Typed | None]
"""Gives the shape and type that the file states for a tensor, or None."""


def nothing_stated(_: str) -> None:
    """Give None: for a file that states no shapes."""


@dataclass(slots=True)
class Facts:
    """What is known about the tensors so far.

    Attributes:
        types: shape and element type of each tensor.
        values: values of small constants, and of what is computed from given values of inputs.
        given: names of tensors whose values follow from those that the caller gave: the runtime computes them.
        assumed: conditions to assume, by the first output of the If, where values do not decide them.
        taken: operators whose branch is chosen by given or assumed values, with the branch's name.
        constants: names of tensors that are known before the first inference.
        stated: what the file states, for operators that have no rule here.
    """

    types: dict[str, Typed] = field(default_factory=dict)
    values: dict[str, Constant] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    assumed: Mapping[str, bool] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    stated: StatedType = nothing_stated
    weight_bytes: int = 0
    activation_bytes: int = 0

    def copy(self, stated: StatedType) -> Facts:
        """Same facts, to be added to, beside what the file states."""
        return Facts(
            dict(self.types),
            dict(self.values),
            set(self.constants),
            stated=stated,
            weight_bytes=self.weight_bytes,
            activation_bytes=self.activation_bytes,
        )

    def give(self, name: str, value: Constant) -> None:
        """Record the value of an input, where it is small enough to decide shapes and conditions."""
        if keeps_value(*self.types[name]) and value.shape == self.types[name][0]:
            self.values[name] = value
            self.given.add(name)

    def add(self, name: str, typed: Typed, constant: bool, limits: Limits) -> None:
        """Record a tensor.

        Raises:
            ModelTooLarge: over a limit.
        """
        shape, dtype = typed
        n_bytes = limits.check_shape(f"tensor '{name}'", shape, DTYPE_BYTES[dtype])
        self.types[name] = typed
        if constant:
            self.constants.add(name)
            self.weight_bytes += n_bytes
            if self.weight_bytes > limits.weight_bytes:
                raise ModelTooLarge(
                    f"the weights come to more than {limits.weight_bytes} bytes; check the file's source or "
                    "raise Limits.weight_bytes"
                )
        else:
            self.activation_bytes += n_bytes
            if self.activation_bytes > limits.activation_bytes:
                raise ModelTooLarge(
                    f"the activations of one inference come to more than {limits.activation_bytes} bytes; "
                    "use a smaller input or raise Limits.activation_bytes"
                )

    def add_tensor(self, buf: Buffer, name: str, tensor: RawTensor, limits: Limits) -> None:
        """Record an initialiser or a Constant, with its value where it is small."""
        self.add(name, (tensor.shape, tensor.dtype), True, limits)
        if keeps_value(tensor.shape, tensor.dtype):
            value = tensor.array(buf)
            if value is not None:
                self.values[name] = value


def keeps_value(shape: Shape, dtype: str) -> bool:
    """Whether a constant of this shape and type keeps its value in the graph."""
    elements = math.prod(shape)
    if dtype[0] in "iub" and dtype != "bfloat16":
        return elements <= MAX_ELEMENTS
    return elements <= FLOATS_KEPT


def context_of(node: RawNode, facts: Facts, opset: int) -> InferenceContext:
    """Operator with what is known about its inputs.

    Raises:
        ModelMalformed: an input that nothing defines.
    """
    shapes: list[Shape | None] = []
    dtypes: list[str | None] = []
    values: list[Constant | None] = []
    types, known = facts.types, facts.values
    for name in node.inputs:
        if not name:
            shapes.append(None)
            dtypes.append(None)
            values.append(None)
            continue
        typed = types.get(name)
        if typed is None:
            raise ModelMalformed(
                f"operator '{node.name or node.op_type}' ({node.op_type}) reads '{name}', which nothing in "
                "the file defines: export the model again"
            )
        shapes.append(typed[0])
        dtypes.append(typed[1])
        values.append(known.get(name))
    return InferenceContext(node, shapes, dtypes, values, opset)


def infer(node: RawNode, facts: Facts, opsets: Mapping[str, int], buf: Buffer, limits: Limits) -> None:
    """Add the outputs of one operator without subgraphs to the facts.

    Raises:
        ShapeInconsistent: shapes that contradict each other.
        ShapeUnknown: no rule tells the shape, or the input's values decide it.
        ModelMalformed: wrong attributes, wrong types, missing inputs.
        ModelTooLarge: an output over a limit.
    """
    if node.op_type == "Constant" and not node.domain:
        _constant(node, facts, buf, limits)
        return
    ctx = context_of(node, facts, opsets.get("", 1))
    rule = ALL_RULES.get((node.domain, node.op_type))
    types: list[Typed | None]
    if rule is not None:
        try:
            types = list(rule(ctx))
        except ShapeUnknown:
            types = [facts.stated(name) for name in node.outputs]
            if None in types:
                raise
    else:
        types = _foreign(ctx, facts, opsets, buf)
    constant = _is_constant(node, ctx, facts)
    # What the caller's values come to is known, though the runtime computes it in every inference.
    follows = not constant and not facts.given.isdisjoint(node.inputs) and node.op_type not in _RANDOM
    for index, name in enumerate(node.outputs):
        if not name:
            continue
        typed = types[index] if index < len(types) else None
        if typed is None:
            raise ShapeUnknown(
                f"the shape of tensor '{name}', made by operator '{ctx.label}' ({node.op_type}), cannot be "
                "found. Store shapes in the file (onnx.shape_inference) or replace the operator",
                (node.domain, node.op_type),
                # ONNX knows its own operators: only a value can be missing, and what comes last is no bulk of data.
                next((i for i in reversed(node.inputs) if i and i not in facts.constants), None)
                if not node.domain
                else None,
            )
        facts.add(name, typed, constant, limits)
        if (constant or follows) and index == 0 and keeps_value(*typed):
            value = fold(ctx, *typed)
            if value is not None:
                facts.values[name] = value
                if follows:
                    facts.given.add(name)


def _is_constant(node: RawNode, ctx: InferenceContext, facts: Facts) -> bool:
    if node.op_type in ("Shape", "Size") and not node.domain:
        return True  # shapes are static here, so a runtime folds these whatever they look at
    if node.op_type in _RANDOM or node.graphs:
        return False
    constants = facts.constants
    return bool(ctx.shapes) and all(not name or name in constants for name in node.inputs)


def _constant(node: RawNode, facts: Facts, buf: Buffer, limits: Limits) -> None:
    if len(node.outputs) != 1 or node.inputs:
        raise ModelMalformed(f"Constant '{node.name}' must have one output and no input: export the model again")
    name = node.outputs[0]
    if "value" in node.tensors:
        facts.add_tensor(buf, name, node.tensors["value"], limits)
        return
    for key, dtype in (("value_int", "int64"), ("value_ints", "int64"), ("value_float", "float32"),
                       ("value_floats", "float32")):  # fmt: skip
        value = node.attributes.get(key)
        if value is not None:
            if isinstance(value, (str, bytes)) or isinstance(value, tuple) != key.endswith("s"):
                break
            array = np.array(value, dtype=dtype)
            facts.add(name, (array.shape, dtype), True, limits)
            if keeps_value(array.shape, dtype):
                facts.values[name] = array
            return
    if "value_string" in node.attributes or "value_strings" in node.attributes:
        strings = node.attributes.get("value_strings")
        facts.add(name, ((len(strings),) if isinstance(strings, tuple) else (), "string"), True, limits)
        return
    raise ModelMalformed(f"Constant '{node.name}' has no value that Sectum can read: store it as a dense tensor")


def _foreign(ctx: InferenceContext, facts: Facts, opsets: Mapping[str, int], buf: Buffer) -> list[Typed | None]:
    """Types by ONNX's own inference, then by what the file states."""
    from sectum.graph.onnx_inference import infer_by_onnx

    node = ctx.node
    found = infer_by_onnx(ctx, opsets, buf) if node.domain in ("", "ai.onnx.ml") else {}
    return [found.get(name) or facts.stated(name) for name in node.outputs]
