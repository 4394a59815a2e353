"""Graphs that tests take for what the runtime executes, as they are."""

from __future__ import annotations

from sectum.graph import Graph
from sectum.ort import Cpu, OptimizedGraph


def as_optimized(graph: Graph, cpu: Cpu = Cpu.AVX2) -> OptimizedGraph:
    """The same operators and tensors, each operator carried out as it is."""
    return OptimizedGraph(
        graph.name,
        graph.operators,
        graph.tensors,
        graph.inputs,
        graph.outputs,
        graph.opset,
        cpu,
        tuple((op,) for op in graph.operators),
        tuple(op.name for op in graph.operators),
    )
