"""The graph that ONNX Runtime 1.31 executes on the CPU, worked out from the graph of the file.

At its default optimisation level the runtime folds constants and batch normalisation, fuses activations and sums
into convolutions, and moves convolutions and pools to a blocked layout with padded channels. What then runs, in
which order and on which physical shapes decides both latency and memory, so it is predicted here without loading
a weight; `sectum.ort.observed` asks the runtime itself, and tests hold the two together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from sectum.errors import UsageError
from sectum.graph.ir import AttributeValue, Graph, TensorKind
from sectum.ort.constants import constant_aliases
from sectum.ort.fusions import fuse_conv_add
from sectum.ort.nchwc import to_blocked_layout
from sectum.ort.observed import optimised_by_runtime
from sectum.ort.rewrites import apply_rewrites
from sectum.ort.workgraph import WorkGraph

__all__ = ["NCHWC_BLOCKS", "machine_nchwc_block", "optimised_by_runtime", "runtime_graph", "seen_nchwc_block"]

# MlasNchwcGetBlockSize: 8 floats with AVX2, 16 with AVX-512, 1 (no blocked layout) on older machines.
NCHWC_BLOCKS = (1, 8, 16)

# Functions without a kernel of their own on the CPU: the input times a chain of unary operators on it. Their bodies
# are in the ONNX specification.
_COMPOSED: Mapping[str, tuple[tuple[str, Mapping[str, AttributeValue]], ...]] = {
    "HardSwish": (("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),),
    "Mish": (("Softplus", {}), ("Tanh", {})),
}


def machine_nchwc_block() -> int:
    """Floats in a block of the layout NCHWc on this machine, by the features that the kernel lists for its CPU."""
    try:
        features = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return NCHWC_BLOCKS[1]
    if "avx512f" in features:
        return NCHWC_BLOCKS[2]
    return NCHWC_BLOCKS[1] if "avx" in features else NCHWC_BLOCKS[0]


def seen_nchwc_block(graphs: Iterable[Graph]) -> int:
    """Floats in a block of the layout that runtime graphs of one machine were made with, told by their channels."""
    channels = 0
    for graph in graphs:
        for op in graph.operators:
            if op.qualified_type == "com.microsoft.nchwc:Conv":
                channels = math.gcd(channels, graph.tensors[op.outputs[0]].shape[1])
        if channels and channels < NCHWC_BLOCKS[2]:
            break
    return max(block for block in NCHWC_BLOCKS if channels % block == 0) if channels else NCHWC_BLOCKS[0]


def runtime_graph(graph: Graph, *, nchwc_block: int = 8) -> Graph:
    """Work out what ONNX Runtime 1.31 executes for a network with static shapes.

    Args:
        graph: the network as it is in the file.
        nchwc_block: floats in a block of the layout NCHWc: 8 on a CPU with AVX2, 16 with AVX-512, 1 for a CPU
            without either, which keeps the plain layout.

    Returns:
        The executed operators with the runtime's own domains and types, in its default order. Shapes are physical:
        ``n_bytes`` of an activation or weight is what the runtime allocates for its content, padding included.

        Where two conversions back to the plain layout feed one operator, the runtime itself orders them differently
        from session to session (it numbers them in the order of a hash table of addresses); then this is one of its
        possible orders.

    Raises:
        UsageError: no CPU has that block size.
    """
    if nchwc_block not in NCHWC_BLOCKS:
        raise UsageError(f"nchwc_block is {nchwc_block}: expected one of {NCHWC_BLOCKS}; 8 for AVX2, 16 for AVX-512")
    work = _load(graph)
    apply_rewrites(work)
    if nchwc_block > 1:
        to_blocked_layout(work, nchwc_block)
    fuse_conv_add(work)
    return work.freeze()


def _load(graph: Graph) -> WorkGraph:
    """Copy what is not constant, with merged constants; operators that are defined by others come last."""
    work = WorkGraph(graph.name, graph.opset, graph.inputs, graph.outputs)
    tensors = work.tensors
    tensors.update(graph.tensors)
    aliases = constant_aliases(graph)
    weight = TensorKind.WEIGHT
    composed = []
    for op in graph.operators:
        if tensors[op.outputs[0] or next(filter(None, op.outputs))].kind is weight:
            continue
        if op.type in _COMPOSED and not op.domain:
            composed.append(op)
            continue
        inputs = [aliases.get(name, name) for name in op.inputs] if aliases else list(op.inputs)
        work.add(op.type, inputs, list(op.outputs), op.attributes, op.domain, op.name)
    for op in composed:
        source, result = op.inputs[0], op.outputs[0]
        last = source
        for kind, attributes in _COMPOSED[op.type]:
            made = work.new_tensor(result, tensors[result].shape, tensors[result])
            work.add(kind, [last], [made], attributes)
            last = made
        work.add("Mul", [source, last], [result], name=op.name)
    return work
