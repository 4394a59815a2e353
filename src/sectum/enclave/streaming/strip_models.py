"""The operators of a stage, as one strip runs them: with pads of its own, and with slices of what has more rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, NodeProto, helper, numpy_helper

from sectum.enclave.streaming.strip_operator import Rows
from sectum.enclave.streaming.strips import Strip, Strips

_SLICE_READS_PLACES = 10
"""The first version of ONNX's operators in which Slice reads where to cut; before, attributes say so."""

Form = tuple[object, ...]
"""What strips have in common that one model can run."""


def form_of(strip: Strip, nodes: Sequence[NodeProto], sources: Sequence[str]) -> Form:
    """How many rows each operator reads and makes, which of those that are there, and its pads."""
    there = dict(zip(sources, strip.sources, strict=True))
    form: list[object] = [end - begin for begin, end in strip.sources]
    for node, one in zip(nodes, strip.operators, strict=True):
        for name, rows in zip(node.input, one.reads, strict=False):
            if rows is not None:
                begin = there[name][0]
                form.append((rows[0] - begin, rows[1] - begin))
        there[node.output[0]] = one.made
        form.append((one.made[1] - one.made[0], one.pads))
    return tuple(form)


def strip_nodes(
    strips: Strips,
    strip: Strip,
    nodes: Sequence[NodeProto],
    sources: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
    opset: int,
) -> list[tuple[int | None, NodeProto]]:
    """The operators of one strip, each with its place in the stage, and slices between them, which have none.

    Args:
        strips: of the stage.
        strip: one of them.
        nodes: the stage's operators.
        sources: names of the tensors that strips read.
        shapes: of the whole tensors.
        opset: version of ONNX's own operators.

    Raises:
        ValueError: an operator reads rows that the strip does not have.
    """
    there = dict(zip(sources, strip.sources, strict=True))
    outer = {name: one.outer for name, one in zip(sources, strips.sources, strict=True)}
    made: list[tuple[int | None, NodeProto]] = []
    for place, (node, one) in enumerate(zip(nodes, strip.operators, strict=True)):
        own = NodeProto()
        own.CopyFrom(node)
        for slot, rows in enumerate(one.reads):
            if rows is None:
                continue
            name = node.input[slot]
            if name not in there or not there[name][0] <= rows[0] < rows[1] <= there[name][1]:
                raise ValueError(f"operator '{node.name}' reads rows {rows} of '{name}', which its strip does not have")
            if rows != there[name]:
                own.input[slot] = f"{name} for {node.name} {slot}"
                cut = _Cut(name, own.input[slot], there[name], rows, shapes[name], outer[name])
                made += [(None, node) for node in cut.nodes(opset)]
        if one.pads is not None:
            _set_pads(own, one.pads)
        made.append((place, own))
        there[node.output[0]], outer[node.output[0]] = one.made, strips.outer[place]
    return made


def _set_pads(node: NodeProto, pads: Sequence[int]) -> None:
    kept: list[AttributeProto] = [one for one in node.attribute if one.name not in ("pads", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", list(pads))])


@dataclass(frozen=True, slots=True)
class _Cut:
    """Some rows of a tensor. In the blocked layout, rows are not where the shape says: it is cut as blocks of rows."""

    name: str
    result: str
    there: Rows
    rows: Rows
    shape: Sequence[int]
    outer: int

    def nodes(self, opset: int) -> list[NodeProto]:
        """Operators that cut them out."""
        height, wanted = self.there[1] - self.there[0], self.rows[1] - self.rows[0]
        begin = self.rows[0] - self.there[0]
        result, whole, cut = self.result, f"{self.result} whole", f"{self.result} cut"
        blocks, start, end, axis, back = (f"{result} {what}" for what in ("blocks", "from", "to", "axis", "shape"))
        made = [
            _constant(blocks, [self.outer, height, -1]),
            _constant(back, [self.shape[0], self.shape[1], wanted, self.shape[3]]),
            helper.make_node("Reshape", [self.name, blocks], [whole]),
        ]
        if opset < _SLICE_READS_PLACES:
            made.append(helper.make_node("Slice", [whole], [cut], starts=[begin], ends=[begin + wanted], axes=[1]))
        else:
            made += [_constant(start, [begin]), _constant(end, [begin + wanted]), _constant(axis, [1])]
            made.append(helper.make_node("Slice", [whole, start, end, axis], [cut]))
        return [*made, helper.make_node("Reshape", [cut, back], [result])]


def _constant(name: str, value: Sequence[int]) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.int64)))
