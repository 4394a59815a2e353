"""One operator with what is known about its inputs: what a shape rule or a constant folding rule looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from sectum.errors import ModelMalformed, ShapeInconsistent
from sectum.graph.onnx_format import RawNode

Shape = tuple[int, ...]
Typed = tuple[Shape, str]
Constant = NDArray[np.generic]


class ShapeUnknown(ShapeInconsistent):
    """A shape that neither a rule, nor ONNX's own inference, nor the file gives. A run of the model would tell it.

    Attributes:
        op_type: domain and type of the operator that makes the tensor.
        decided_by: tensor whose values decide the shape; None where the operator is not known.
    """

    def __init__(self, message: str, op_type: tuple[str, str], decided_by: str | None = None) -> None:
        super().__init__(message)
        self.op_type, self.decided_by = op_type, decided_by


@dataclass(slots=True)
class InferenceContext:
    """An operator and its inputs. Absent optional inputs have ``None`` everywhere.

    Attributes:
        node: the operator as it is in the file.
        shapes: shape of each input.
        dtypes: element type of each input.
        values: value of each input, where it is a small constant.
        opset: version of the default operator set.
    """

    node: RawNode
    shapes: list[Shape | None]
    dtypes: list[str | None]
    values: list[Constant | None]
    opset: int

    def fail(self, problem: str) -> NoReturn:
        """Raise ShapeInconsistent about this operator."""
        known = ", ".join(
            f"{name or '(none)'}{list(shape) if shape is not None else ''}"
            for name, shape in zip(self.node.inputs[:6], self.shapes, strict=False)
        )
        raise ShapeInconsistent(
            f"operator '{self.label}' ({self.node.op_type}): {problem}. Its inputs are {known}. "
            "Check the input shapes that you gave, or export the model again"
        )

    def undecided(self, index: int, what: str) -> NoReturn:
        """Raise ShapeUnknown: the value of input ``index``, which the output's shape needs, is not known."""
        raise ShapeUnknown(
            f"operator '{self.label}' ({self.node.op_type}): its {what} is computed from the values of the "
            "network's input, so the shape of its output is not fixed. State the shape in the file "
            "(value_info), or export the model with fixed shapes",
            (self.node.domain, self.node.op_type),
            self.node.inputs[index] if index < len(self.node.inputs) else "",
        )

    @property
    def label(self) -> str:
        """The operator's name, or its first output's where it has none."""
        return self.node.name or next((name for name in self.node.outputs if name), "?")

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input that must be there."""
        shape = self.shapes[index] if index < len(self.shapes) else None
        if shape is None:
            raise ModelMalformed(
                f"operator '{self.label}' ({self.node.op_type}) lacks its input {index}: export the model again"
            )
        return shape

    def dtype(self, index: int = 0) -> str:
        """Element type of an input that must be there."""
        self.shape(index)
        dtype = self.dtypes[index]
        assert dtype is not None
        return dtype

    def has(self, index: int) -> bool:
        """Whether the optional input is there."""
        return index < len(self.shapes) and self.shapes[index] is not None

    def value(self, index: int) -> Constant | None:
        """Value of an input, if it is a small constant."""
        return self.values[index] if index < len(self.values) else None

    def needed_ints(self, index: int, what: str) -> Shape:
        """Value of an integer input without which the shape cannot be known."""
        self.shape(index)
        value = self.values[index]
        if value is None:
            self.undecided(index, what)
        if value.dtype.kind not in "iu":
            self.fail(f"its {what} must be integers, not {value.dtype}")
        return tuple(int(v) for v in value.ravel())

    def floats(self, index: int) -> tuple[float, ...] | None:
        """Value of a float input, if it is a small constant."""
        value = self.value(index)
        return None if value is None else tuple(float(v) for v in value.ravel())

    def integer(self, name: str, default: int) -> int:
        """Integer attribute."""
        value = self.node.attributes.get(name, default)
        if isinstance(value, int):
            return value
        raise ModelMalformed(self._wrong(name, "an integer"))

    def ints(self, name: str) -> Shape | None:
        """List attribute of integers; None where it is absent."""
        value = self.node.attributes.get(name)
        if value is None:
            return None
        if isinstance(value, tuple) and all(isinstance(v, int) for v in value):
            return value  # type: ignore[return-value]  # the line above has just checked it
        raise ModelMalformed(self._wrong(name, "a list of integers"))

    def text(self, name: str, default: str) -> str:
        """Text attribute."""
        value = self.node.attributes.get(name, default)
        if isinstance(value, str):
            return value
        raise ModelMalformed(self._wrong(name, "text"))

    def _wrong(self, name: str, wanted: str) -> str:
        return (
            f"attribute '{name}' of operator '{self.label}' ({self.node.op_type}) must be {wanted}: "
            "export the model again"
        )

    def axis(self, axis: int, rank: int) -> int:
        """Axis counted from the front."""
        if not -rank <= axis < rank:
            self.fail(f"axis {axis} does not exist in {rank} dimensions")
        return axis % rank if rank else 0

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Distinct axes counted from the front, in order."""
        found = sorted({self.axis(a, rank) for a in axes})
        if len(found) != len(axes):
            self.fail(f"axes {list(axes)} name one dimension twice")
        return tuple(found)

    def positive(self, name: str, n: int, default: int) -> Shape:
        """List attribute with one number of 1 or more for each of ``n`` spatial dimensions."""
        values = self.ints(name) or (default,) * n
        if len(values) != n:
            self.fail(f"{name} has {len(values)} values for {n} spatial dimensions")
        if min(values, default=1) < 1:
            raise ModelMalformed(
                f"{name} of operator '{self.label}' ({self.node.op_type}) is {list(values)}: each must be 1 or more"
            )
        return values

    def same_dtype(self, *indices: int) -> str:
        """Element type that the inputs named share."""
        first = self.dtype(indices[0])
        for index in indices[1:]:
            if self.has(index) and self.dtypes[index] != first:
                raise ModelMalformed(
                    f"operator '{self.label}' ({self.node.op_type}) mixes the types {first} and "
                    f"{self.dtypes[index]}: they must be equal; export the model again"
                )
        return first

    def broadcast(self, shapes: Sequence[Shape]) -> Shape:
        """Shape of an elementwise result (multidirectional broadcasting)."""
        first = shapes[0]
        if all(shape == first for shape in shapes):
            return first
        rank = max(map(len, shapes))
        result = [1] * rank
        for shape in shapes:
            for i, size in enumerate(shape, rank - len(shape)):
                if result[i] == 1:
                    result[i] = size
                elif size not in (1, result[i]):
                    self.fail(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
        return tuple(result)
