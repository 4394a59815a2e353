"""From parsed operators and inferred shapes to a graph."""

from __future__ import annotations

from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.graph.onnx_format import RawNode
from sectum.graph.shapes import Facts


def build_graph(
    name: str, nodes: list[RawNode], facts: Facts, inputs: tuple[str, ...], outputs: tuple[str, ...], opset: int
) -> Graph:
    """Graph of these operators, with what is known about their tensors."""
    tensors: dict[str, Tensor] = {}
    types, values, constants = facts.types, facts.values, facts.constants

    def add(tensor_name: str, kind: TensorKind) -> None:
        shape, dtype = types[tensor_name]
        value = values.get(tensor_name) if kind is TensorKind.WEIGHT else None  # the runtime does not know the others
        tensors[tensor_name] = Tensor(tensor_name, shape, dtype, kind, value)

    for tensor_name in inputs:
        add(tensor_name, TensorKind.INPUT)
    operators: list[Operator] = []
    no_attributes: dict[str, AttributeValue] = {}
    for node in nodes:
        for tensor_name in (*node.inputs, *node.outputs):
            if tensor_name and tensor_name not in tensors:
                add(tensor_name, TensorKind.WEIGHT if tensor_name in constants else TensorKind.ACTIVATION)
        operators.append(
            Operator(
                node.name or next(filter(None, node.outputs), ""),
                node.op_type,
                tuple(node.inputs),
                tuple(node.outputs),
                node.attributes or no_attributes,
                node.domain,
            )
        )
    for tensor_name in outputs:
        if tensor_name not in tensors:
            add(tensor_name, TensorKind.WEIGHT if tensor_name in constants else TensorKind.ACTIVATION)
    return Graph(name, tuple(operators), tensors, inputs, outputs, opset)
