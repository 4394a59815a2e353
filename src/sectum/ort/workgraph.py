"""A graph that can be rewritten: nodes with the runtime's indices, producers and consumers kept up to date.

ONNX Runtime numbers nodes in the order of the file and gives every node that it makes the next number. These
numbers decide the order of execution, and that order decides where activations are placed; so they are kept here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.ort.cpu import Cpu
from sectum.ort.optimized import OptimizedGraph

_WEIGHT = TensorKind.WEIGHT


class Node:
    """One node under rewriting.

    Attributes:
        index: the runtime's number.
        sources: indices of the source operators that it carries out; rewrites hand them on.
        dead: whether it was removed.
    """

    __slots__ = ("attributes", "dead", "domain", "index", "inputs", "name", "outputs", "sources", "type")

    def __init__(
        self,
        index: int,
        name: str,
        kind: str,
        inputs: list[str],
        outputs: list[str],
        attributes: Mapping[str, AttributeValue],
        domain: str,
        sources: Iterable[int],
    ) -> None:
        self.index = index
        self.name = name
        self.type = kind
        self.inputs = inputs
        self.outputs = outputs
        self.attributes = attributes
        self.domain = domain
        self.sources = set(sources)
        self.dead = False


class WorkGraph:
    """A network under rewriting.

    Args:
        source: the network as it was read; its operators are added one by one.

    Attributes:
        nodes: all nodes by index, dead ones included.
        tensors: tensors by name; rewrites add to them.
        producer: node that makes a tensor. Weights and graph inputs have none.
        consumers: nodes that read a tensor, once for each input slot.
        outputs: names of the graph's outputs.
        shapeless: tensors that a fusion made; the runtime does not know their shapes when it moves transposes.
    """

    def __init__(self, source: Graph) -> None:
        self.source = source
        self.opset = source.opset
        self.output_set = frozenset(source.outputs)
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = dict(source.tensors)
        self.producer: dict[str, Node] = {}
        self.consumers: dict[str, list[Node]] = {}
        self.shapeless: set[str] = set()
        self._fresh = 0

    def add(
        self,
        kind: str,
        inputs: list[str],
        outputs: list[str],
        attributes: Mapping[str, AttributeValue] | None = None,
        domain: str = "",
        name: str = "",
        sources: Iterable[int] = (),
    ) -> Node:
        """Append a node, which gets the next index, and connect it."""
        node = Node(len(self.nodes), name or outputs[0], kind, inputs, outputs, attributes or {}, domain, sources)
        self.nodes.append(node)
        consumers = self.consumers
        for item in inputs:
            if item in consumers:
                consumers[item].append(node)
            elif item:
                consumers[item] = [node]
        for item in outputs:
            if item:
                self.producer[item] = node
        return node

    def remove(self, node: Node) -> None:
        """Disconnect a node for good. Its outputs are left for another node to make."""
        node.dead = True
        for item in node.inputs:
            if item:
                self.consumers[item].remove(node)
        for item in node.outputs:
            if self.producer.get(item) is node:
                del self.producer[item]

    def replace(
        self,
        nodes: Sequence[Node],
        kind: str,
        inputs: list[str],
        outputs: list[str],
        attributes: Mapping[str, AttributeValue] | None = None,
        domain: str = "",
        name: str = "",
    ) -> Node:
        """Put one node in the place of some, whose work it carries out."""
        for node in nodes:
            self.remove(node)
        return self.add(kind, inputs, outputs, attributes, domain, name, sources_of(*nodes))

    def set_input(self, node: Node, slot: int, name: str) -> None:
        """Let input ``slot`` of ``node`` read ``name``; absent optional inputs before it are filled with ``""``."""
        while len(node.inputs) <= slot:
            node.inputs.append("")
        old = node.inputs[slot]
        if old:
            self.consumers[old].remove(node)
        node.inputs[slot] = name
        if name:
            self.consumers.setdefault(name, []).append(node)

    def take_output(self, node: Node, successor: Node) -> None:
        """Fuse ``successor``, the only reader of ``node``, into it: ``node`` makes what ``successor`` made."""
        outputs = successor.outputs
        node.sources |= successor.sources
        self.remove(successor)
        for item in node.outputs:
            self.producer.pop(item, None)
        node.outputs = outputs
        for item in outputs:
            if item:
                self.producer[item] = node

    def bypass(self, node: Node, source: str, into: Node | None = None) -> bool:
        """Remove ``node`` and let its readers read ``source``.

        Args:
            node: to remove.
            source: what it reads.
            into: the node that carries out its work from now on; by default the one that makes ``source``, or its first
                reader where ``source`` is a graph input.

        Returns:
            False, with nothing done, where ``node`` makes a graph output that nobody else can make.
        """
        result = node.outputs[0]
        if result in self.output_set:
            maker = self.producer.get(source)
            if maker is None or source in self.output_set or len(self.consumers[source]) != 1:
                return False
            maker.sources |= node.sources
            self.remove(node)
            maker.outputs = [result if item == source else item for item in maker.outputs]
            self.producer.pop(source, None)
            self.producer[result] = maker
            return True
        heir = into or self.producer.get(source) or next(iter(self.consumers.get(result, ())), None)
        if heir is not None:
            heir.sources |= node.sources
        self.remove(node)
        for reader in tuple(self.consumers.get(result, ())):
            for slot, item in enumerate(reader.inputs):
                if item == result:
                    self.set_input(reader, slot, source)
        return True

    def weight(self, name: str) -> Tensor | None:
        """The tensor of that name if it is known before the first inference, else None."""
        tensor = self.tensors.get(name) if name else None
        return tensor if tensor is not None and tensor.kind is _WEIGHT else None

    def sole_consumer(self, node: Node) -> Node | None:
        """The node that reads ``node``'s first output, if it is one, reads it once, and it is no graph output."""
        result = node.outputs[0]
        if result in self.output_set:
            return None
        readers = self.consumers.get(result, ())
        return readers[0] if len(readers) == 1 else None

    def chain(self, first: Node, kinds: Sequence[str]) -> list[Node] | None:
        """A node and those that follow it one by one; None where they are not of these types of ONNX."""
        found = [first]
        for kind in kinds:
            after = self.sole_consumer(found[-1])
            if after is None or after.type != kind or after.domain:
                return None
            found.append(after)
        return found

    def uses(self, name: str) -> int:
        """How often a tensor is used: input slots that read it, and one more for a graph output."""
        return len(self.consumers.get(name, ())) + (name in self.output_set)

    def new_tensor(self, stem: str, shape: tuple[int, ...], like: Tensor) -> str:
        """Declare a tensor with ``like``'s type and kind under a fresh name made from ``stem``."""
        self._fresh += 1
        name = f"{stem}~{self._fresh}"
        self.tensors[name] = Tensor(name, shape, like.dtype, like.kind)
        return name

    def new_shape(self, values: tuple[int, ...], *, shared: bool = True) -> str:
        """Declare the int64 constant that a Reshape reads; by default, equal ones are one."""
        name = f"shape~{values}"
        if not shared:
            self._fresh += 1
            name += f"~{self._fresh}"
        if name not in self.tensors:
            value = np.array(values, np.int64)
            self.tensors[name] = Tensor(name, (len(values),), "int64", _WEIGHT, value)
        return name

    def new_constant(self, stem: str, value: NDArray[Any]) -> str:
        """Declare a constant of ``value``'s type under a fresh name made from ``stem``."""
        self._fresh += 1
        name = f"{stem}~{self._fresh}"
        self.tensors[name] = Tensor(name, value.shape, value.dtype.name, _WEIGHT, value)
        return name

    def execution_order(self) -> list[Node]:
        """Nodes in the runtime's default order.

        A depth-first walk from the leaves towards the inputs, in which of several candidates the one with the
        highest index is entered first (``Graph::ReverseDFSFrom`` with ``NodeCompare`` in ONNX Runtime).
        """
        producer, readers = self.producer.get, self.consumers.get
        stack: list[Node] = []
        for node in self.nodes:
            if not node.dead:
                for item in node.outputs:
                    if readers(item):
                        break
                else:
                    stack.append(node)
        entered = bytearray(len(self.nodes))  # 1: its inputs are being visited; 2: it has been left
        order: list[Node] = []
        while stack:
            node = stack[-1]
            index = node.index
            if entered[index]:
                stack.pop()
                if entered[index] == 1:
                    entered[index] = 2
                    order.append(node)
                continue
            entered[index] = 1
            sources = [source for item in node.inputs if (source := producer(item)) and not entered[source.index]]
            if sources:
                if len(sources) > 1:
                    sources.sort(key=_index)
                stack += sources
        return order

    def freeze(self, cpu: Cpu) -> OptimizedGraph:
        """The graph as immutable data, in execution order, with the tensors that are still used."""
        tensors, source = self.tensors, self.source
        used: dict[str, Tensor] = {name: tensors[name] for name in source.inputs}
        operators, carried_out = [], []
        names: dict[int, str] = {}
        for node in self.execution_order():
            for item in node.inputs:
                if item and item not in used:
                    used[item] = tensors[item]
            for item in node.outputs:
                if item:
                    used[item] = tensors[item]
            operators.append(
                Operator(node.name, node.type, tuple(node.inputs), tuple(node.outputs), node.attributes, node.domain)
            )
            indices = node.sources if len(node.sources) == 1 else sorted(node.sources)
            sources = tuple([source.operators[index] for index in indices])
            carried_out.append(sources)
            names[node.index] = self._layer_name(node, sources, names)
        for item in source.outputs:
            if item not in used:
                used[item] = tensors[item]
        return OptimizedGraph(
            source.name,
            tuple(operators),
            used,
            source.inputs,
            source.outputs,
            source.opset,
            cpu,
            tuple(carried_out),
            tuple(names.values()),
        )

    def _layer_name(self, node: Node, sources: Sequence[Operator], names: Mapping[int, str]) -> str:
        """Name of the main source operator; a node without one goes by the node whose result it reads."""
        if len(sources) == 1:
            return sources[0].name
        if sources:
            plain = node.type.removeprefix("Fused")
            return next((op for op in sources if op.type == plain), sources[0]).name
        before = self.producer.get(node.inputs[0]) if node.inputs else None
        if before is not None:
            return names[before.index]
        return node.inputs[0] if node.inputs and node.inputs[0] in self.source.inputs else node.name


def _index(node: Node) -> int:
    return node.index


def sources_of(*nodes: Node) -> set[int]:
    """The source operators that some nodes carry out."""
    return set().union(*(node.sources for node in nodes))


def other_input(node: Node, name: str) -> str:
    """What a node with two inputs reads beside ``name``."""
    return node.inputs[1] if node.inputs[0] == name else node.inputs[0]


def ints(value: AttributeValue | None) -> tuple[int, ...]:
    """An attribute that holds integers, as a tuple; empty where it is absent."""
    return tuple(int(v) for v in value) if isinstance(value, tuple) else ()


def constant_integers(work: WorkGraph, node: Node, slot: int) -> tuple[int, ...] | None:
    """The integers that an input holds; None if they are not known, or there is no such input."""
    tensor = work.weight(node.inputs[slot]) if slot < len(node.inputs) else None
    return None if tensor is None or tensor.value is None else tuple(tensor.value.astype(int).ravel().tolist())
