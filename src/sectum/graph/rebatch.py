"""Moving a model with a fixed batch to another batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sectum.errors import ShapeInconsistent
from sectum.graph.inference_context import Constant, Shape
from sectum.graph.limits import Limits
from sectum.graph.onnx_format import RawNode
from sectum.graph.shapes import Facts

_RESHAPERS: Mapping[str, int] = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Operators with an input that lists the output's sizes, and that input's position."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """An operator's shape constant replaced by another: which input of which operator, and by what."""

    node: int
    position: int
    name: str
    value: Constant


class Rebatch:
    """Moves shape constants with the old batch in them to the new batch, while shapes are inferred anew.

    Data whose first dimension runs over the images of the batch, outermost, keeps each image's elements
    together. Reshaping such data at another batch is therefore the same reshape with the target's first entry
    scaled.
    """

    def __init__(self, old: Facts, before: Mapping[str, Shape], after: Mapping[str, Shape]) -> None:
        name = next(n for n in after if after[n] != before[n])
        self._old = old
        self._from, self._to = before[name][0], after[name][0]
        self.rewrites: list[Rewrite] = []

    def scaled(self, shape: Shape) -> Shape | None:
        """Shape at the new batch of what has ``shape`` at the old one; None if it cannot be scaled."""
        if not shape or shape[0] * self._to % self._from:
            return None
        return (shape[0] * self._to // self._from, *shape[1:])

    def adjust(self, index: int, node: RawNode, facts: Facts, limits: Limits) -> RawNode:
        """Operator, with a new shape constant where the old one holds the old batch."""
        position = _RESHAPERS.get(node.op_type) if not node.domain else None
        if position is None or position >= len(node.inputs) or node.inputs[0] in facts.constants:
            return node
        data, target = node.inputs[0], node.inputs[position]
        value = facts.values.get(target)
        types, old = facts.types, self._old.types
        if value is None or not value.size or value.ndim != 1 or data not in types or data not in old:
            return node
        if types[data][0] != self.scaled(old[data][0]) or node.outputs[0] not in old:
            return node
        wanted = self.scaled(old[node.outputs[0]][0])
        if wanted is None or int(value[0]) in (-1, 0, wanted[0]):
            return node
        if node.op_type == "Expand" and value.size < len(wanted):
            return node
        changed = value.astype(np.int64)
        changed[0] = wanted[0]
        name = f"{target}/batch{self._to}/{index}"
        facts.add(name, (changed.shape, "int64"), True, limits)
        facts.values[name] = changed
        self.rewrites.append(Rewrite(index, position, name, changed))
        inputs = list(node.inputs)
        inputs[position] = name
        return replace(node, inputs=inputs)

    def check_outputs(self, facts: Facts, outputs: list[str]) -> None:
        """Verify that every output is the old one with its first dimension scaled.

        Raises:
            ShapeInconsistent: it is not.
        """
        for name in outputs:
            old, new = self._old.types[name][0], facts.types[name][0]
            if new != self.scaled(old):
                raise ShapeInconsistent(
                    f"{self.complaint()}: output '{name}' has shape {list(old)} in the file and would become "
                    f"{list(new)}. Export the model with a symbolic batch"
                )

    def complaint(self) -> str:
        """Say what cannot be done."""
        return f"the file's batch of {self._from} cannot be changed to {self._to}"
