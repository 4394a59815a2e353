"""A part of a network that one enclave runs, and its memory there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sectum.enclave.streaming.sealed_weights import BLOCK_BYTES
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.layout import Layout, lay_out
from sectum.plan.links import names_before
from sectum.plan.stages import PlannedStage


def segment_of(graph: OptimizedGraph, first: int, last: int) -> OptimizedGraph:
    """The operators from one position to another, as a graph of its own: what crosses are its inputs and outputs."""
    operators = graph.operators[first : last + 1]
    inputs = names_before(graph, first)
    at_end = last + 1 == len(graph.operators)
    outputs = graph.outputs if at_end else names_before(graph, last + 1)
    used = {name for op in operators for name in (*op.inputs, *op.outputs) if name}
    return replace(
        graph,
        operators=operators,
        tensors={name: graph.tensors[name] for name in used.union(inputs, outputs)},
        inputs=inputs,
        outputs=outputs,
        carried_out=graph.carried_out[first : last + 1],
        layer_names=graph.layer_names[first : last + 1],
    )


def lay_out_segment(
    graph: OptimizedGraph, segment: OptimizedGraph, stages: Sequence[PlannedStage], buffers: int, threads: int
) -> Layout:
    """Lay out the memory of the enclave that runs these stages.

    What it receives lies in memory of its own, which counts as inputs. Parts of an operator that other enclaves have
    made, or that are handed on, count as inputs and activations.

    Args:
        graph: what the runtime executes for the whole network.
        segment: the part of it with the operators of these stages.
        stages: of the enclave, in order.
        buffers: that streamed weights are opened into, in turn.
        threads: that compute.
    """
    first, last = stages[0], stages[-1]
    moved = [replace(one, first=one.first - first.first, last=one.last - first.first) for one in stages]
    layout = lay_out(segment, moved, buffers, threads)
    received = handed_on = 0
    if first.channels is not None and first.channels[0]:
        received = _share(graph, first, 0, first.channels[0])
    if last.channels is not None and last.channels[1] < last.of_channels:
        begin = min(one.channels[0] for one in stages if one.first == last.first and one.channels is not None)
        handed_on = _share(graph, last, begin, last.channels[1])
    if first.first or received:
        received += BLOCK_BYTES  # a block on its way into the enclave
    return replace(layout, input_bytes=layout.input_bytes + received, arena_bytes=layout.arena_bytes + handed_on)


def _share(graph: OptimizedGraph, stage: PlannedStage, begin: int, end: int) -> int:
    """Bytes of some channels of a divided operator's result."""
    whole = graph.n_bytes[graph.operators[stage.first].result]
    return whole * (end - begin) // max(1, stage.of_channels)
