"""The optimized graph: what ONNX Runtime executes for a graph on one kind of CPU."""

from __future__ import annotations

from dataclasses import dataclass

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.cpu import Cpu

RUNTIME = "1.31"
"""Version of ONNX Runtime that this package models."""


@dataclass(frozen=True)
class OptimizedGraph(Dataflow):
    """The operators that the runtime executes, with the runtime's own domains and types, in its order.

    Shapes are physical: ``n_bytes`` of a tensor is what the runtime allocates for its content, padding included.

    Attributes:
        cpu: the kind of CPU that the runtime optimized for.
        runtime: version of the runtime.
        carried_out: for each operator, the source operators that it carries out, in the source's order. Empty for what
            the runtime adds, such as a conversion between layouts, and where the source is not known.
        layer_names: for each operator, what it is called in the source: the name of the main operator that it carries
            out, or of the operator whose result it converts.
    """

    cpu: Cpu
    carried_out: tuple[tuple[Operator, ...], ...]
    layer_names: tuple[str, ...]
    runtime: str = RUNTIME
