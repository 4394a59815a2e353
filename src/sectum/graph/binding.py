"""Giving the graph's inputs static shapes, and moving a model with a fixed batch to another batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sectum.errors import ShapeInconsistent, ShapeUnbound, UsageError
from sectum.graph.inference_context import Constant, Shape
from sectum.graph.limits import Limits
from sectum.graph.onnx_format import RawNode, RawValueInfo
from sectum.graph.shapes import Facts

_RESHAPERS: Mapping[str, int] = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Operators with an input that lists the output's sizes, and that input's position."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Shapes of the graph's inputs.

    Attributes:
        shapes: as asked for.
        original: as the file fixes them, where it fixes another batch; otherwise None.
        symbols: values of the file's symbolic dimensions.
    """

    shapes: Mapping[str, Shape]
    original: Mapping[str, Shape] | None
    symbols: Mapping[str, int]


def bind(declared: list[RawValueInfo], batch: int | None, inputs: Mapping[str, tuple[int, ...]] | None) -> Binding:
    """Find a value for every dimension of every input.

    A symbol has one value throughout. ``batch`` is the first dimension of every input whose first dimension
    is open, or fixed to the same number as that of the first input.

    Raises:
        ShapeUnbound: a dimension has no value.
        ShapeInconsistent: values contradict the file.
        UsageError: values contradict each other, or name no input.
    """
    given = dict(inputs or {})
    if batch is not None and batch < 1:
        raise UsageError(f"the batch is {batch}; it must be 1 or more")
    for name, shape in given.items():
        if not any(info.name == name for info in declared):
            known = ", ".join(repr(info.name) for info in declared)
            raise UsageError(f"the model has no input '{name}'; its inputs are {known}")
        if any(size < 1 for size in shape):
            raise UsageError(f"the shape {_text(shape)} of input '{name}' must consist of numbers from 1 up")
    symbols = _symbols(declared, given, batch)
    first = next((i.shape[0] for i in declared if i.shape and isinstance(i.shape[0], int) and i.shape[0] > 0), 0)
    shapes: dict[str, Shape] = {}
    original: dict[str, Shape] = {}
    for info in declared:
        shapes[info.name] = wanted = _bound(info, given.get(info.name), symbols, batch, first)
        fixed = info.shape[0] if info.shape else None
        leading = fixed if isinstance(fixed, int) and fixed > 0 else None
        original[info.name] = wanted if leading is None else (leading, *wanted[1:])
    return Binding(shapes, original if original != shapes else None, symbols)


def at_batch_one(declared: list[RawValueInfo], binding: Binding) -> Mapping[str, Shape] | None:
    """Give the same shapes with the open leading dimensions at 1; None where none is open."""
    shapes = dict(binding.shapes)
    for info in declared:
        if info.shape and not (isinstance(info.shape[0], int) and info.shape[0] > 0):
            shapes[info.name] = (1, *shapes[info.name][1:])
    return shapes if shapes != binding.shapes else None


def _symbols(declared: list[RawValueInfo], given: Mapping[str, tuple[int, ...]], batch: int | None) -> dict[str, int]:
    symbols: dict[str, int] = {}
    for info in declared:
        shape = given.get(info.name)
        if shape is None or info.shape is None:
            continue
        if len(shape) != len(info.shape):
            raise ShapeInconsistent(
                f"input '{info.name}' has {len(info.shape)} dimensions ({_text(info.shape)}); "
                f"{_text(shape)} has {len(shape)}"
            )
        for dim, size in zip(info.shape, shape, strict=True):
            if isinstance(dim, str) and symbols.setdefault(dim, size) != size:
                raise ShapeInconsistent(f"the dimension '{dim}' cannot be both {symbols[dim]} and {size}")
    if batch is not None:
        for info in declared:
            dim = info.shape[0] if info.shape else None
            if isinstance(dim, str) and symbols.setdefault(dim, batch) != batch:
                raise UsageError(f"the batch is given as {batch} and, in an input's shape, as {symbols[dim]}")
    return symbols


def _bound(
    info: RawValueInfo, given: Shape | None, symbols: Mapping[str, int], batch: int | None, fixed_batch: int
) -> Shape:
    if info.shape is None:
        if given is None:
            raise ShapeUnbound(
                f"input '{info.name}' has no shape in the file: give it, as --input {info.name}=1x3x224x224"
            )
        return given
    bound: list[int] = []
    for index, dim in enumerate(info.shape):
        size = given[index] if given else None
        if isinstance(dim, int) and dim > 0:
            rebatch = batch if index == 0 and dim == fixed_batch else None
            if size is not None and size != dim and index > 0:
                raise ShapeInconsistent(
                    f"dimension {index} of input '{info.name}' is fixed at {dim} in the file and {size} was "
                    "asked for: only the first dimension of a fixed shape can be changed"
                )
            chosen = size or rebatch or dim
        else:
            found = size or (symbols.get(dim) if isinstance(dim, str) else None) or (batch if index == 0 else None)
            if found is None:
                raise _unbound(info, index, dim)
            chosen = found
        if index == 0 and batch is not None and size is not None and size != batch:
            raise UsageError(f"the batch is given as {batch} and, in the shape of input '{info.name}', as {size}")
        bound.append(chosen)
    return tuple(bound)


def _unbound(info: RawValueInfo, index: int, dim: int | str | None) -> ShapeUnbound:
    assert info.shape is not None
    named = f"'{dim}'" if isinstance(dim, str) else "without a name"
    open_dims = [i for i, d in enumerate(info.shape) if not (isinstance(d, int) and d > 0)]
    sizes = (1, 3, 224, 224)
    example = "x".join(
        str(d) if isinstance(d, int) and d > 0 else str(sizes[i] if len(info.shape or ()) == 4 else 1)
        for i, d in enumerate(info.shape)
    )
    flag = "--batch 1" if open_dims == [0] else f"--input {info.name}={example}"
    return ShapeUnbound(
        f"dimension {index} of input '{info.name}' ({named}, shape {_text(info.shape)}) has no value: "
        f"give it, for example {flag}"
    )


def _text(shape: tuple[int | str | None, ...]) -> str:
    return "x".join("?" if d is None or d == -1 else str(d) for d in shape)


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
