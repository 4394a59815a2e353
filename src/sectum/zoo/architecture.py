"""A network as data: layers wired into an acyclic graph. Emitters turn it into ONNX or other forms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sectum.zoo.layers import Layer, Shape

INPUT_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Node:
    """A layer in its place. Inputs and outputs are numbers of values; value 0 is the network's input."""

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        name: what it is called.
        family: the family that it belongs to, as in :func:`sectum.zoo.families`.
        nodes: in an order in which they can run.
        shapes: of each value, without the batch; ``shapes[0]`` is the input, ``(3, height, width)``.
        output: the number of the value that the network returns.
        seed: from which emitters draw the weights when they are given no other.
    """

    name: str
    family: str
    nodes: tuple[Node, ...]
    shapes: tuple[Shape, ...]
    output: int
    seed: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Send equal layers to another process once: several times faster than node by node."""
        numbers: dict[Layer, int] = {}
        nodes = [
            (node.name, numbers.setdefault(node.layer, len(numbers)), node.inputs, node.outputs) for node in self.nodes
        ]
        return _rebuilt, (self.name, self.family, tuple(numbers), nodes, self.shapes, self.output, self.seed)

    @property
    def resolution(self) -> int:
        """Height and width of the input, in pixels."""
        return self.shapes[0][1]

    @cached_property
    def parameters(self) -> int:
        """Trained parameters; the stored statistics of batch normalisation are not among them."""
        return sum(
            math.prod(shape) for node in self.nodes for shape in node.layer.parameters(self.inputs(node)).values()
        )

    def inputs(self, node: Node) -> tuple[Shape, ...]:
        """Shapes of a node's inputs."""
        return tuple([self.shapes[value] for value in node.inputs])

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each value the indices of the nodes that read it."""
        found: list[list[int]] = [[] for _ in self.shapes]
        for index, node in enumerate(self.nodes):
            for value in node.inputs:
                found[value].append(index)
        return tuple(map(tuple, found))


def _rebuilt(
    name: str,
    family: str,
    layers: Sequence[Layer],
    nodes: Iterable[tuple[str, int, tuple[int, ...], tuple[int, ...]]],
    shapes: tuple[Shape, ...],
    output: int,
    seed: int,
) -> Architecture:
    """Rebuild an architecture that another process sent."""
    placed = tuple([Node(its, layers[number], inputs, outputs) for its, number, inputs, outputs in nodes])
    return Architecture(name, family, placed, shapes, output, seed)


class Builder:
    """Wires layers one by one, and knows the shape of every value on the way."""

    def __init__(self, name: str, family: str, resolution: int, seed: int = 0) -> None:
        self._name, self._family, self._seed = name, family, seed
        self._nodes: list[Node] = []
        self._shapes: list[Shape] = [(INPUT_CHANNELS, resolution, resolution)]
        self._scope: tuple[str, ...] = ()
        self._taken: dict[str, int] = {}

    @property
    def input(self) -> int:
        """The network's input."""
        return 0

    def shape(self, value: int) -> Shape:
        """Shape of a value, without the batch."""
        return self._shapes[value]

    def channels(self, value: int) -> int:
        """Channels of a feature map."""
        return self._shapes[value][0]

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Nodes made inside carry ``name.`` in front of their own."""
        outer = self._scope
        self._scope = (*outer, name)
        try:
            yield
        finally:
            self._scope = outer

    def add(self, layer: Layer, *inputs: int, name: str = "") -> int:
        """Append a layer with one output; returns the output's number.

        Raises:
            ShapeInconsistent: the layer cannot take these inputs.
        """
        (output,) = self.add_many(layer, *inputs, name=name)
        return output

    def add_many(self, layer: Layer, *inputs: int, name: str = "") -> tuple[int, ...]:
        """Append a layer; returns the numbers of its outputs.

        Raises:
            ShapeInconsistent: the layer cannot take these inputs.
        """
        shapes = layer.shapes(tuple(self._shapes[value] for value in inputs))
        outputs = tuple(range(len(self._shapes), len(self._shapes) + len(shapes)))
        self._shapes += shapes
        self._nodes.append(Node(self._unique(name or type(layer).__name__.lower()), layer, inputs, outputs))
        return outputs

    def finish(self, output: int) -> Architecture:
        """Return the network whose result is ``output``."""
        return Architecture(self._name, self._family, tuple(self._nodes), tuple(self._shapes), output, self._seed)

    def _unique(self, name: str) -> str:
        path = ".".join((*self._scope, name))
        count = self._taken[path] = self._taken.get(path, -1) + 1
        return f"{path}_{count}" if count else path
