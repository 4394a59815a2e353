"""The graph that ONNX Runtime 1.31 executes on the CPU, worked out from the graph of the file.

At its default optimisation level the runtime folds constants and batch normalisation, fuses activations and sums
into convolutions, and moves convolutions and pools to a blocked layout with padded channels. What then runs, in
which order and on which physical shapes decides both latency and memory, so it is predicted here without loading
a weight; `sectum.graph.observed` asks the runtime itself, and tests hold the two together.
"""

from __future__ import annotations

from sectum.errors import UsageError
from sectum.graph.constants import constant_aliases
from sectum.graph.ir import Graph, TensorKind
from sectum.graph.nchwc import to_blocked_layout
from sectum.graph.observed import optimised_by_runtime
from sectum.graph.rewrites import apply_rewrites, fuse_conv_add
from sectum.graph.workgraph import WorkGraph

__all__ = ["NCHWC_BLOCKS", "optimised_by_runtime", "runtime_graph"]

# MlasNchwcGetBlockSize: 8 floats with AVX2, 16 with AVX-512, 1 (no blocked layout) on older machines.
NCHWC_BLOCKS = (1, 8, 16)


def runtime_graph(graph: Graph, *, nchwc_block: int = 8) -> Graph:
    """Work out what ONNX Runtime 1.31 executes for a network with static shapes.

    Args:
        graph: the network as it is in the file.
        nchwc_block: floats in a block of the layout NCHWc: 8 on a CPU with AVX2, 16 with AVX-512, 1 for a CPU
            without either, which keeps the plain layout.

    Returns:
        The executed operators with the runtime's own domains and types, in its default order. Shapes are physical:
        ``n_bytes`` of an activation or weight is what the runtime allocates for its content, padding included.

    Raises:
        UsageError: no CPU has that block size.
    """
    if nchwc_block not in NCHWC_BLOCKS:
        raise UsageError(
            f"nchwc_block is {nchwc_block}: expected one of {NCHWC_BLOCKS}; 8 for AVX2, 16 for AVX-512"
        )
    work = _load(graph)
    apply_rewrites(work)
    if nchwc_block > 1:
        to_blocked_layout(work, nchwc_block)
    fuse_conv_add(work)
    return work.freeze()


def _load(graph: Graph) -> WorkGraph:
    """Copy what is not constant, with merged constants; operators that are defined by others are written out."""
    work = WorkGraph(graph.name, graph.opset, graph.inputs, graph.outputs)
    tensors = work.tensors
    tensors.update(graph.tensors)
    aliases = constant_aliases(graph)
    weight = TensorKind.WEIGHT
    inlined = []
    for op in graph.operators:
        if tensors[op.outputs[0]].kind is weight:
            continue
        if op.type == "HardSwish" and not op.domain:
            inlined.append(op)
            continue
        inputs = [aliases.get(name, name) for name in op.inputs] if aliases else list(op.inputs)
        work.add(op.type, inputs, list(op.outputs), op.attributes, op.domain, op.name)
    for op in inlined:
        gate = work.new_tensor(op.outputs[0], tensors[op.outputs[0]].shape, tensors[op.outputs[0]])
        work.add("HardSigmoid", [op.inputs[0]], [gate], {"alpha": 1 / 6, "beta": 0.5})
        work.add("Mul", [op.inputs[0], gate], list(op.outputs), name=op.name)
    return work
