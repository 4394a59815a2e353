"""An optimized graph as the graph network sees it. Training and detecting both use this module.

Nodes are operators. An edge goes from the operator that writes a tensor to each operator that reads it. Operators
stand in the order of execution, which gives each tensor's lifetime. From the lifetimes follows the first estimate of
the working set: all weights that are large enough to be paged, and the largest sum of activations alive at once. The
network predicts the logarithm of measured working set / first estimate, so that it extrapolates to larger networks.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.graph.ir import AttributeValue, Operator
from sectum.ort.operators import OPERATORS, describe
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import MIN_PAGED_BYTES

SCHEMA_VERSION = 2
MEMORY_KINDS = (
    "conv", "depthwise", "plain_conv", "gemm", "pool", "global_pool", "normalisation", "in_place", "unary", "combine",
    "concat", "split", "rename", "reorder", "transpose", "other",
)  # fmt: skip
"""Kinds of operators as far as memory is concerned; `sectum.ort.operators` has that of each type."""

NODE_FEATURES = (
    *(f"kind_{name}" for name in MEMORY_KINDS),
    "log_weight_bytes", "weight_share", "log_small_weight_bytes", "log_largest_weight_bytes", "log_output_bytes",
    "output_of_peak", "log_input_bytes", "input_of_peak", "log_live_bytes", "live_of_peak", "needed_of_live", "inputs",
    "readers", "is_output", "reads_input", "fused_sum", "log_kernel", "stride", "log_groups", "log_positions",
    "log_in_channels", "log_out_channels", "log_batch", "place", "log_life",
)  # fmt: skip
EDGE_FEATURES = ("log_bytes", "bytes_of_peak", "log_life", "is_last_reader", "slot")
GRAPH_FEATURES = (
    "log_first_estimate", "log_weight_bytes", "log_peak_bytes", "weight_share", "log_operators", "input_of_peak",
    "largest_of_peak",
)  # fmt: skip

_CODE_OF_KIND = {name: code for code, name in enumerate(MEMORY_KINDS)}

_Column = NDArray[np.float64]

# Divisors that bring all columns to about one. Bytes: a gibibyte has a logarithm of 21.
_LOG_BYTES, _LOG_COUNT, _MOST_INPUTS = 20.0, 5.0, 8.0


def schema_hash() -> str:
    """SHA-256 of everything that gives a feature column its meaning."""
    kinds = sorted((row.name, row.memory_kind) for row in OPERATORS.values() if row.memory_kind)
    schema = [SCHEMA_VERSION, MEMORY_KINDS, kinds]
    columns = [NODE_FEATURES, EDGE_FEATURES, GRAPH_FEATURES, _LOG_BYTES, _LOG_COUNT, _MOST_INPUTS, MIN_PAGED_BYTES]
    return hashlib.sha256(json.dumps([schema, columns]).encode()).hexdigest()


@dataclass(frozen=True)
class GraphFeatures:
    """One or more graphs as numbers.

    Attributes:
        nodes: float32, shape ``(operators, len(NODE_FEATURES))``.
        sources: int64, shape ``(edges,)``: the operator that each edge comes from.
        targets: int64, shape ``(edges,)``: the operator that it goes to.
        edges: float32, shape ``(edges, len(EDGE_FEATURES))``.
        graph_of_node: int64, shape ``(operators,)``.
        graphs: float32, shape ``(graphs, len(GRAPH_FEATURES))``.
        first_estimate_bytes: float64, shape ``(graphs,)``: paged weights and the peak of live activations.
    """

    nodes: NDArray[np.float32]
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    edges: NDArray[np.float32]
    graph_of_node: NDArray[np.int64]
    graphs: NDArray[np.float32]
    first_estimate_bytes: NDArray[np.float64]

    def tensors(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """The network's inputs, by name."""
        return {name: value for name, value in vars(self).items() if name != "first_estimate_bytes"}


def together(several: Sequence[GraphFeatures]) -> GraphFeatures:
    """Several graphs, at least one, as one graph of separate parts, in their order."""
    first_node = np.cumsum([0, *(len(one.nodes) for one in several)])
    first_graph = np.cumsum([0, *(len(one.graphs) for one in several)])
    shifted = list(zip(several, first_node[:-1], first_graph[:-1], strict=True))
    return GraphFeatures(
        nodes=np.concatenate([one.nodes for one in several]),
        sources=np.concatenate([one.sources + node for one, node, _ in shifted]),
        targets=np.concatenate([one.targets + node for one, node, _ in shifted]),
        edges=np.concatenate([one.edges for one in several]),
        graph_of_node=np.concatenate([one.graph_of_node + graph for one, _, graph in shifted]),
        graphs=np.concatenate([one.graphs for one in several]),
        first_estimate_bytes=np.concatenate([one.first_estimate_bytes for one in several]),
    )


def extract(graph: OptimizedGraph) -> GraphFeatures:
    """Turn an optimized graph into features; about 10 ms."""
    peak = max(1.0, float(graph.lifetimes.peak_bytes))
    paged, small, largest = _weight_bytes(graph)
    estimate = float(paged.sum()) + peak
    size = _Size(peak, estimate, max(1, len(graph.operators)))
    sources, targets, edges = _edges(graph, size)
    return GraphFeatures(
        nodes=_nodes(graph, (paged, small, largest), size),
        sources=sources,
        targets=targets,
        edges=edges,
        graph_of_node=np.zeros(len(graph.operators), np.int64),
        graphs=np.array([_graph(graph, size)], np.float32),
        first_estimate_bytes=np.array([estimate]),
    )


@dataclass(frozen=True, slots=True)
class _Size:
    """What shares are taken of."""

    peak_bytes: float
    estimate_bytes: float
    operators: int


def _weight_bytes(graph: OptimizedGraph) -> tuple[_Column, _Column, _Column]:
    """Bytes of each operator's weights that are paged, of the others, and of the largest.

    Small tensors lie in the C library's heap, which is not paged. A weight that several operators read lies in memory
    once: it counts at the first.
    """
    seen: set[str] = set()
    rows: list[tuple[int, int, int]] = []
    for op in graph.operators:
        paged = small = largest = 0
        for name in op.inputs:
            if name and name not in seen and name in graph.weight_names:
                seen.add(name)
                n_bytes = graph.n_bytes[name]
                largest = max(largest, n_bytes)
                if n_bytes >= MIN_PAGED_BYTES:
                    paged += n_bytes
                else:
                    small += n_bytes
        rows.append((paged, small, largest))
    paged_, small_, largest_ = np.array(rows, np.float64).reshape(len(rows), 3).T
    return paged_, small_, largest_


def _graph(graph: OptimizedGraph, size: _Size) -> list[float]:
    weight_bytes = size.estimate_bytes - size.peak_bytes
    return [
        math.log(size.estimate_bytes) / _LOG_BYTES,
        math.log1p(weight_bytes) / _LOG_BYTES,
        math.log(size.peak_bytes) / _LOG_BYTES,
        weight_bytes / size.estimate_bytes,
        math.log1p(size.operators) / _LOG_COUNT,
        sum(graph.n_bytes[name] for name in graph.inputs) / size.peak_bytes,
        max((graph.n_bytes[name] for name in graph.lifetimes.written), default=0) / size.peak_bytes,
    ]


def _nodes(graph: OptimizedGraph, weights: tuple[_Column, _Column, _Column], size: _Size) -> NDArray[np.float32]:
    """Rows of `NODE_FEATURES`, in the order of execution."""
    rows = [_counts(graph, index) for index in range(len(graph.operators))]
    (
        kinds, in_bytes, out_bytes, inputs, outputs_read, life, is_output, reads_input, fused_sum, kernel, stride,
        groups, positions, in_channels, out_channels, batch,
    ) = np.array(rows, np.float64).reshape(len(rows), 16).T  # fmt: skip
    paged, small, largest = weights
    live_bytes = np.array(graph.lifetimes.live_bytes, np.float64)
    columns = [
        np.log1p(paged) / _LOG_BYTES,
        paged / size.estimate_bytes,
        np.log1p(small) / _LOG_BYTES,
        np.log1p(largest) / _LOG_BYTES,
        np.log1p(out_bytes) / _LOG_BYTES,
        out_bytes / size.peak_bytes,
        np.log1p(in_bytes) / _LOG_BYTES,
        in_bytes / size.peak_bytes,
        np.log1p(live_bytes) / _LOG_BYTES,
        live_bytes / size.peak_bytes,
        (in_bytes + out_bytes) / np.maximum(1.0, live_bytes),
        np.log1p(inputs),
        np.log1p(outputs_read),
        is_output,
        reads_input,
        fused_sum,
        np.log(np.maximum(1.0, kernel)),
        stride / 2,
        np.log(np.maximum(1.0, groups)) / _LOG_COUNT,
        np.log1p(positions) / _LOG_COUNT,
        np.log1p(in_channels) / _LOG_COUNT,
        np.log1p(out_channels) / _LOG_COUNT,
        np.log(np.maximum(1.0, batch)),
        np.arange(len(rows)) / size.operators,
        np.log1p(life) / _LOG_COUNT,
    ]
    table = np.zeros((len(rows), len(NODE_FEATURES)), np.float32)
    table[np.arange(len(rows)), kinds.astype(np.int64)] = 1.0
    table[:, len(MEMORY_KINDS) :] = np.stack(columns, axis=1)
    return table


def _counts(graph: OptimizedGraph, index: int) -> tuple[float, ...]:
    """Whole numbers that an operator's features are made of."""
    op = graph.operators[index]
    n_bytes, live = graph.n_bytes, graph.lifetimes
    in_bytes = out_bytes = inputs = outputs_read = reads_input = 0
    last = index
    is_output = False
    in_shape: tuple[int, ...] = ()
    for name in op.inputs:
        if name in live.end:
            in_shape = in_shape if inputs else graph.tensors[name].shape
            in_bytes += n_bytes[name]
            inputs += 1
            reads_input |= name not in live.written
    for name in op.outputs:
        if name:
            out_bytes += n_bytes[name]
            outputs_read += live.readers.get(name, 0)
            last = max(last, live.end[name])
            is_output |= name in graph.outputs
    out_shape = graph.tensors[op.outputs[0]].shape if op.outputs[0] else ()
    return (
        _CODE_OF_KIND[_memory_kind(op, inputs, out_shape)],
        in_bytes,
        out_bytes,
        inputs,
        outputs_read,
        last - index,
        is_output,
        reads_input,
        op.type in ("Conv", "FusedConv") and len(op.inputs) > 3 and bool(op.inputs[3]),
        math.prod(_ints(op.attributes, "kernel_shape")),
        _ints(op.attributes, "strides")[0],
        _groups(op),
        math.prod(out_shape[2:]),
        in_shape[1] if len(in_shape) > 1 else 0,
        out_shape[1] if len(out_shape) > 1 else 0,
        out_shape[0] if out_shape else 1,
    )


def _memory_kind(op: Operator, activations: int, out_shape: Sequence[int]) -> str:
    """One of `MEMORY_KINDS`, given how many inputs are no weights, and the shape of the first output."""
    kind = describe(op).memory_kind or ("unary" if activations == 1 else "other")
    if kind == "conv" and 1 < _groups(op) == out_shape[1]:
        return "depthwise"
    return "unary" if kind == "combine" and activations <= 1 else kind


def _groups(op: Operator) -> int:
    """Groups of a convolution; 1 for all other operators."""
    value = op.attributes.get("group", 1)
    return value if isinstance(value, int) else 1


def _edges(graph: OptimizedGraph, size: _Size) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Ends of the edges, and their rows of `EDGE_FEATURES`."""
    live = graph.lifetimes
    rows = [
        (live.written[name], index, graph.n_bytes[name], live.end[name] == index, min(slot, _MOST_INPUTS))
        for index, op in enumerate(graph.operators)
        for slot, name in enumerate(op.inputs)
        if name in live.written
    ]
    sources, targets, n_bytes, is_last, slots = np.array(rows, np.float64).reshape(len(rows), 5).T
    columns = [
        np.log1p(n_bytes) / _LOG_BYTES,
        n_bytes / size.peak_bytes,
        np.log1p(targets - sources) / _LOG_COUNT,
        is_last,
        slots / _MOST_INPUTS,
    ]
    return sources.astype(np.int64), targets.astype(np.int64), np.stack(columns, axis=1).astype(np.float32)


def _ints(attributes: Mapping[str, AttributeValue], name: str) -> tuple[int, ...]:
    value = attributes.get(name)
    return value if isinstance(value, tuple) and value else (1,)  # type: ignore[return-value]
