"""A network that is written operator by operator: for all that is not layers on images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sectum.errors import UsageError
from sectum.graph.ir import Operator
from sectum.zoo.lowered import Attribute, Input, Lowered, Values, Weight

MICROSOFT = "com.microsoft"


class Writer:
    """Writes operators one by one. Values are named by numbers, in the order in which they are made.

    Shapes are not followed: whoever writes knows the sizes of what is written.
    """

    def __init__(self, name: str) -> None:
        self.lowered = Lowered(name)
        self._constants: dict[tuple[object, ...], str] = {}

    def input(self, name: str, *shape: int, dtype: str = "float32") -> str:
        """Declare an input of the network; returns its name."""
        self.lowered.inputs.append(Input(name, shape, dtype))
        return name

    def weight(self, *shape: int, gain: float = 1.0, fan_in: int = 0, dtype: str = "float32") -> str:
        """Declare a weight whose products keep the size of what they multiply, times ``gain``.

        Args:
            shape: of the weight.
            gain: 1 keeps the variance.
            fan_in: products that are added up for one output; 0 for the first dimension of a matrix, and for the
                product of all but the first of anything larger.
            dtype: of the elements; integers use the whole range.
        """
        terms = fan_in or (shape[0] if len(shape) == 2 else math.prod(shape[1:]) or 1)
        return self._weight(shape, 0.0, gain / math.sqrt(terms) if "float" in dtype else 1.0, dtype)

    def vector(self, size: int, *, mean: float = 0.0, spread: float = 0.05, shape: Sequence[int] = ()) -> str:
        """Declare a bias, or the scales of a normalization."""
        return self._weight(tuple(shape) or (size,), mean, spread, "float32")

    def _weight(self, shape: tuple[int, ...], mean: float, spread: float, dtype: str) -> str:
        name = f"w{len(self.lowered.constants)}"
        self.lowered.constants[name] = Weight(name, shape, mean, spread, dtype)
        return name

    def values(self, *values: int | float, dtype: str = "int64", shape: Sequence[int] | None = None) -> str:
        """Declare a constant whose content matters; equal ones are declared once."""
        dims = None if shape is None else tuple(shape)
        key = (values, dtype, dims)
        if key not in self._constants:
            name = f"w{len(self.lowered.constants)}"
            self.lowered.constants[name] = Values(name, values, dtype, dims)
            self._constants[key] = name
        return self._constants[key]

    def scalar(self, value: int | float, dtype: str = "float32") -> str:
        """Declare a constant of rank 0."""
        return self.values(value, dtype=dtype, shape=())

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """Append an operator with one output; returns the output's name. An empty input is left out."""
        (output,) = self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)
        return output

    def ops(self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Attribute) -> tuple[str, ...]:
        """Append an operator; returns the names of its outputs."""
        index = len(self.lowered.operators)
        names = (f"v{index}",) if outputs == 1 else tuple(f"v{index}_{port}" for port in range(outputs))
        operator = Operator(f"{kind}_{index}", kind, inputs, names, attributes, domain)
        self.lowered.operators.append(operator)
        return names

    def output(self, value: str, dtype: str = "float32") -> None:
        """Declare a value to be an output of the network; an empty type leaves it to whoever reads the model."""
        self.lowered.outputs.append((value, dtype))


Write = Callable[[Writer, int], None]
"""Writes a network for a number of samples, its batch."""


@dataclass(frozen=True)
class Program:
    """A network without its weights.

    Attributes:
        name: what it is called.
        family: the family that it belongs to, as in :func:`sectum.zoo.families`.
        write: writes it; a function of a module, or a partial of one, so that another process can have it.
        seed: from which emitters draw the weights when they are given no other.
    """

    name: str
    family: str
    write: Write
    seed: int = 0

    def lowered(self, batch: int = 1) -> Lowered:
        """Write it for a batch; what is returned is shared and must not be changed.

        Raises:
            UsageError: the batch is not positive.
        """
        if batch < 1:
            raise UsageError(f"batch {batch} is out of range: give 1 or more")
        return _lowered(self, batch)

    @property
    def parameters(self) -> int:
        """Elements of all weights."""
        return sum(c.elements for c in self.lowered().constants.values() if isinstance(c, Weight))

    @property
    def structure(self) -> str:
        """As :func:`sectum.zoo.structure`."""
        return self._digest(sizes=True)

    @property
    def topology(self) -> str:
        """As :func:`sectum.zoo.topology`: operators, their attributes and wiring, without the sizes of tensors."""
        return self._digest(sizes=False)

    def _digest(self, *, sizes: bool) -> str:
        lowered = self.lowered()
        operators = [
            (op.domain, op.type, op.inputs, op.outputs, sorted(op.attributes.items())) for op in lowered.operators
        ]
        constants = [tuple(c)[1:] for c in lowered.constants.values()] if sizes else []
        described = [operators, [tuple(i) for i in lowered.inputs] if sizes else [], constants, lowered.outputs]
        return hashlib.sha256(json.dumps(described, separators=(",", ":")).encode()).hexdigest()


@lru_cache(maxsize=4)
def _lowered(program: Program, batch: int) -> Lowered:
    writer = Writer(program.name)
    program.write(writer, batch)
    return writer.lowered
