"""The network as data: tensors, operators, and the graph that they form. No weight's value is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from sectum.graph.lifetimes import Lifetimes, lifetimes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AttributeValue = int | float | str | bytes | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

DTYPE_BYTES: Mapping[str, int] = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2,
    "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1,
    "complex64": 8, "complex128": 16, "string": 0,
    "float8e4m3fn": 1, "float8e5m2": 1, "int4": 1, "uint4": 1,
}  # fmt: skip


class TensorKind(StrEnum):
    """Where a tensor's content comes from."""

    INPUT = "input"
    WEIGHT = "weight"  # known before the first inference: initialisers and what is folded from them
    ACTIVATION = "activation"  # made by an operator in every inference; graph outputs too


@dataclass(slots=True)
class Tensor:
    """One tensor: its static shape and its type; ``value`` only where it is a small constant (shapes, axes).

    Nobody may change one, which type checking holds. A frozen dataclass holds it too, but takes four times as long to
    make, and a search makes 600 tensors and operators for each candidate.
    """

    name: Final[str]
    shape: Final[tuple[int, ...]]
    dtype: Final[str]
    kind: Final[TensorKind]
    value: Final[NDArray[np.generic] | None] = field(default=None, compare=False, repr=False)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Size in bytes, unpadded."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


@dataclass(slots=True)
class Operator:
    """One node, which nobody may change.

    ``inputs`` and ``outputs`` may hold ``""`` for what is left out, as in ONNX.
    """

    name: Final[str]
    type: Final[str]
    inputs: Final[tuple[str, ...]]
    outputs: Final[tuple[str, ...]]
    attributes: Final[Mapping[str, AttributeValue]] = field(default_factory=dict)
    domain: Final[str] = ""

    @property
    def qualified_type(self) -> str:
        """``Conv``, or ``com.microsoft.nchwc:Conv`` outside the default domain."""
        return f"{self.domain}:{self.type}" if self.domain else self.type

    @property
    def result(self) -> str:
        """Name of the first output that is not left out."""
        return self.outputs[0] or next(filter(None, self.outputs), "")


@dataclass(frozen=True)
class Dataflow:
    """Operators and the tensors between them: what a graph and an optimized graph have in common.

    Attributes:
        name: of the network.
        operators: in an order in which they can run.
        tensors: by name.
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs.
        opset: version of ONNX's default domain.
    """

    name: str
    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int

    def is_constant(self, op: Operator) -> bool:
        """Whether all the operator makes is known before the first inference, so that a runtime folds it."""
        tensors, weight = self.tensors, TensorKind.WEIGHT
        for name in op.outputs:  # noqa: SIM110  # a generator would take twice as long, and this is asked very often
            if name and tensors[name].kind is not weight:
                return False
        return True

    def weights(self, op: Operator) -> Iterator[Tensor]:
        """Tensors among the operator's inputs that are known before the first inference."""
        for name in op.inputs:
            if name and self.tensors[name].kind is TensorKind.WEIGHT:
                yield self.tensors[name]

    @cached_property
    def n_bytes(self) -> Mapping[str, int]:
        """Size of each tensor in bytes, unpadded."""
        return {name: tensor.n_bytes for name, tensor in self.tensors.items()}

    @cached_property
    def weight_names(self) -> frozenset[str]:
        """Tensors that are known before the first inference."""
        return frozenset([name for name, tensor in self.tensors.items() if tensor.kind is TensorKind.WEIGHT])

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all weights that an operator reads in an inference, each counted once."""
        weights = self.weight_names
        used = {name for op in self.operators if not self.is_constant(op) for name in op.inputs if name in weights}
        return sum([self.n_bytes[name] for name in used])

    @cached_property
    def lifetimes(self) -> Lifetimes:
        """From which operator to which each activation and input is alive."""
        return lifetimes(self)


@dataclass(frozen=True)
class Graph(Dataflow):
    """A network with static shapes, as its file says. What runs is an `sectum.ort.OptimizedGraph`."""
