"""What is known of an operator type: its arithmetic, the latency model that it shares, its memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.access_pattern import AccessPattern, streaming
from sectum.ort.byte_kernels import UsesBuffer, no_buffer
from sectum.ort.flops import Flops
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.weight_memory import Packing, PartsRead, whole_weight


def no_scratch(op: Operator, graph: Dataflow, threads: int) -> tuple[int, ...]:  # noqa: ARG001
    """No scratch memory."""
    return ()


@dataclass(frozen=True, slots=True)
class OperatorType:
    """What is known of the operators of one type.

    Attributes:
        name: qualified, such as ``Conv`` or ``com.microsoft:FusedConv``.
        flops: counts its floating-point operations; None where that is not known, so that they are estimated.
        kind: one of `sectum.ort.operators.KINDS`. A blocked convolution with one channel in a group is
            ``depthwise``, see `sectum.ort.operators.kind_of`.
        code: number in the features of the latency models; -1 for a type that they were not trained on.
        memory_kind: kind in the graph network of over-commitment; empty where that network has none for it.
        renames: whether the output is another name for input 0 (``Alias(0, 0)`` in the kernel's definition).
        overwrites: input whose buffer the kernel may overwrite with output 0 (``MayInplace`` in its definition), or
            None. Arithmetic such as Add and Mul has none in 1.31: seen in the size of the block that the runtime asks
            its arena for.
        packs: how it packs weights, by position of the input.
        reads: which parts of a weight it reads.
        dense: whether it is mostly dense arithmetic, which the machine slows as the GEMM reference kernel.
        binary: whether one operand may be broadcast over the other.
        scratch: sizes of the allocations that its kernel takes from the arena while it runs.
        buffer: how its kernel uses the memory that MLAS keeps for each thread, outside the arena.
        access: how it goes through its tensors.
    """

    name: str
    flops: Flops | None = None
    kind: str = "pointwise"
    code: int = -1
    memory_kind: str = ""
    renames: bool = False
    overwrites: int | None = None
    packs: Mapping[int, Packing] = field(default_factory=dict)
    reads: PartsRead = whole_weight
    dense: bool = False
    binary: bool = False
    scratch: Callable[[Operator, OptimizedGraph, int], tuple[int, ...]] = no_scratch
    buffer: UsesBuffer = no_buffer
    access: AccessPattern = streaming
