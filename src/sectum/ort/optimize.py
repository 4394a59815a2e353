"""From a graph to the optimized graph: what ONNX Runtime 1.31 executes on the CPU.

At its default optimization level the runtime folds constants and batch normalization, fuses activations and sums into
convolutions, and moves convolutions and pools to a blocked layout with padded channels. What then runs, in which order
and on which physical shapes decides both latency and memory. It is worked out here without loading a weight.
Tests compare it with what the runtime itself says (`tests/support/observed.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sectum.graph.ir import AttributeValue, Graph, TensorKind
from sectum.ort.constants import constant_aliases
from sectum.ort.cpu import Cpu
from sectum.ort.fusions import fuse_conv_add
from sectum.ort.nchwc import to_blocked_layout
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.quantized import dequantized_weights, to_channels_last
from sectum.ort.rewrites import apply_rewrites
from sectum.ort.transposes import optimise_transposes
from sectum.ort.workgraph import WorkGraph

# Functions without a kernel of their own on the CPU: the input times a chain of unary operators on it. Their bodies
# are in the ONNX specification.
_COMPOSED: Mapping[str, tuple[tuple[str, Mapping[str, AttributeValue]], ...]] = {
    "HardSwish": (("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),),
    "Mish": (("Softplus", {}), ("Tanh", {})),
}


def optimize(graph: Graph, cpu: Cpu) -> OptimizedGraph:
    """Work out what ONNX Runtime 1.31 executes for a network with static shapes.

    Args:
        graph: the network as its file says.
        cpu: that it runs on: ``Cpu.here()`` is this machine's.

    Returns:
        The optimized graph. Where two conversions back to the plain layout feed one operator, the runtime itself orders
        them differently from session to session (it numbers them in the order of a hash table of addresses); then this
        is one of its possible orders.
    """
    work = _load(graph)
    apply_rewrites(work)
    if cpu.nchwc_block > 1:
        to_blocked_layout(work, cpu.nchwc_block)
    fuse_conv_add(work)
    if to_channels_last(work):
        optimise_transposes(work, placed=True)
    return work.freeze(cpu)


def _load(graph: Graph) -> WorkGraph:
    """Copy what is not constant, with merged constants; operators that are defined by others come last."""
    work = WorkGraph(graph)
    tensors = work.tensors
    aliases = constant_aliases(graph)
    weight = TensorKind.WEIGHT
    composed = []
    dequantized = dequantized_weights(graph)
    for index, op in enumerate(graph.operators):
        if index in dequantized:
            made = op.outputs[0]
            tensors[made] = replace(tensors[made], kind=TensorKind.ACTIVATION, value=None)
        elif tensors[op.outputs[0] or next(filter(None, op.outputs))].kind is weight:
            continue
        if op.type in _COMPOSED and not op.domain:
            composed.append((index, op))
            continue
        inputs = [aliases.get(name, name) for name in op.inputs] if aliases else list(op.inputs)
        if op.type == "CastLike" and not op.domain:
            work.add("Cast", inputs[:1], list(op.outputs), {}, "", op.name, (index,))
        else:
            work.add(op.type, inputs, list(op.outputs), op.attributes, op.domain, op.name, (index,))
    for index, op in composed:
        source, result = op.inputs[0], op.outputs[0]
        last = source
        for kind, attributes in _COMPOSED[op.type]:
            made = work.new_tensor(result, tensors[result].shape, tensors[result])
            work.add(kind, [last], [made], attributes, sources=(index,))
            last = made
        work.add("Mul", [source, last], [result], name=op.name, sources=(index,))
    _drop_read_by_folded(work, graph)
    return work


def _drop_read_by_folded(work: WorkGraph, graph: Graph) -> None:
    """Remove what only folded operators read, such as the Shape of a tensor: the runtime removes it with them."""
    tensors = graph.tensors
    waiting = [
        node
        for op in graph.operators
        if op.outputs and tensors[next(filter(None, op.outputs))].kind is TensorKind.WEIGHT
        for name in op.inputs
        if (node := work.producer.get(name)) is not None
    ]
    while waiting:
        node = waiting.pop()
        if node.dead or any(work.uses(name) for name in node.outputs if name):
            continue
        waiting += [before for name in node.inputs if (before := work.producer.get(name)) is not None]
        work.remove(node)
