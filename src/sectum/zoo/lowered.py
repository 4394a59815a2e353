"""A network written as ONNX operators, without any tensor's content."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from sectum.zoo.layers import Shape

OPSET = 17
INPUT, OUTPUT = "input", "output"

Attribute = int | float | tuple[int, ...]


class Weight(NamedTuple):
    """A float32 tensor of normal numbers; all of them ``mean`` where ``spread`` is 0."""

    name: str
    shape: tuple[int, ...]
    mean: float
    spread: float

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Integers:
    """A constant int64 vector: a shape, or the sizes of a split."""

    name: str
    values: tuple[int, ...]


class LoweredOperator(NamedTuple):
    """An ONNX node of the default domain."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass
class Lowered:
    """A network's operators, its constants, and the shape of each activation without its batch."""

    name: str
    operators: list[LoweredOperator] = field(default_factory=list)
    constants: dict[str, Weight | Integers] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)


@lru_cache(maxsize=64)
def float32(value: float) -> float:
    """Round as a float32 does, since ONNX attributes are float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
