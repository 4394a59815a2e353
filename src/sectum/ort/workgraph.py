"""A graph that can be rewritten: nodes with the runtime's indices, producers and consumers kept up to date.

ONNX Runtime numbers nodes in the order of the file and gives every node that it makes the next number. These
numbers decide the order of execution, and that order decides where activations are placed; so they are kept here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind

_WEIGHT = TensorKind.WEIGHT


class Node:
    """One node under rewriting. ``index`` is the runtime's number; ``dead`` marks a removed node."""

    __slots__ = ("attributes", "dead", "domain", "index", "inputs", "name", "outputs", "type")

    def __init__(
        self,
        index: int,
        name: str,
        kind: str,
        inputs: list[str],
        outputs: list[str],
        attributes: Mapping[str, AttributeValue],
        domain: str = "",
    ) -> None:
        self.index = index
        self.name = name
        self.type = kind
        self.inputs = inputs
        self.outputs = outputs
        self.attributes = attributes
        self.domain = domain
        self.dead = False


class WorkGraph:
    """A network under rewriting.

    Attributes:
        nodes: all nodes by index, dead ones included.
        tensors: tensors by name; rewrites add to them.
        producer: node that makes a tensor. Weights and graph inputs have none.
        consumers: nodes that read a tensor, once for each input slot.
        outputs: names of the graph's outputs.
    """

    def __init__(self, name: str, opset: int, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        self.name = name
        self.opset = opset
        self.inputs = inputs
        self.outputs = outputs
        self.output_set = frozenset(outputs)
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.producer: dict[str, Node] = {}
        self.consumers: dict[str, list[Node]] = {}
        self._fresh = 0

    def add(
        self,
        kind: str,
        inputs: list[str],
        outputs: list[str],
        attributes: Mapping[str, AttributeValue] | None = None,
        domain: str = "",
        name: str = "",
    ) -> Node:
        """Append a node, which gets the next index, and connect it."""
        node = Node(len(self.nodes), name or outputs[0], kind, inputs, outputs, attributes or {}, domain)
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
        self.remove(successor)
        for item in node.outputs:
            self.producer.pop(item, None)
        node.outputs = outputs
        for item in outputs:
            if item:
                self.producer[item] = node

    def bypass(self, node: Node, source: str) -> bool:
        """Remove ``node`` and let its readers read ``source``.

        Returns:
            False, with nothing done, where ``node`` makes a graph output that nobody else can make.
        """
        result = node.outputs[0]
        if result in self.output_set:
            maker = self.producer.get(source)
            if maker is None or source in self.output_set or len(self.consumers[source]) != 1:
                return False
            self.remove(node)
            maker.outputs = [result if item == source else item for item in maker.outputs]
            self.producer.pop(source, None)
            self.producer[result] = maker
            return True
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

    def freeze(self) -> Graph:
        """The graph as immutable data, in execution order, with the tensors that are still used."""
        tensors = self.tensors
        used: dict[str, Tensor] = {name: tensors[name] for name in self.inputs}
        operators = []
        for node in self.execution_order():
            for item in node.inputs:
                if item and item not in used:
                    used[item] = tensors[item]
            for item in node.outputs:
                if item:
                    used[item] = tensors[item]
            operators.append(
                Operator(
                    node.name,
                    node.type,
                    tuple(node.inputs),
                    tuple(node.outputs),
                    node.attributes,
                    node.domain,
                )
            )
        for item in self.outputs:
            if item not in used:
                used[item] = tensors[item]
        return Graph(self.name, tuple(operators), used, self.inputs, self.outputs, self.opset)


def _index(node: Node) -> int:
    return node.index


def ints(value: AttributeValue | None) -> tuple[int, ...]:
    """An attribute that holds integers, as a tuple; empty where it is absent."""
    return tuple(int(v) for v in value) if isinstance(value, tuple) else ()
