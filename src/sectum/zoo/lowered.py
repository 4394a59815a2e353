"""A network written as ONNX operators, without the content of its weights."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from sectum.graph.ir import Operator
from sectum.zoo.layers import Shape

OPSET = 17
INPUT, OUTPUT = "input", "output"

Attribute = int | float | str | tuple[int, ...]


class Weight(NamedTuple):
    """A tensor of normal numbers; all of them ``mean`` where ``spread`` is 0. Integers are rounded and clipped."""

    name: str
    shape: tuple[int, ...]
    mean: float
    spread: float
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of its raw encoding."""
        return self.elements * WEIGHT_BYTES[self.dtype]


WEIGHT_BYTES = {"float32": 4, "float16": 2, "int8": 1, "uint8": 1}
"""Bytes of an element, by the element types that weights have."""


class Values(NamedTuple):
    """A constant whose content matters: a shape, the sizes of a split, a scale. A vector unless it has a shape."""

    name: str
    values: tuple[int | float, ...]
    dtype: str = "int64"
    shape: tuple[int, ...] | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        """Its shape."""
        return (len(self.values),) if self.shape is None else self.shape


class Input(NamedTuple):
    """An input of the network."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass
class Lowered:
    """A network's operators and its constants.

    Attributes:
        name: of the network.
        operators: in an order in which they can run.
        constants: by name, in the order in which their content is drawn.
        shapes: of each activation without its batch, where they are known.
        inputs: with their whole shapes; empty for a network of layers, whose batch is open.
        outputs: names and element types; empty for a network of layers.
    """

    name: str
    operators: list[Operator] = field(default_factory=list)
    constants: dict[str, Weight | Values] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    inputs: list[Input] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)


@lru_cache(maxsize=64)
def float32(value: float) -> float:
    """Round as a float32 does, since ONNX attributes are float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
