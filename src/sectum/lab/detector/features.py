"""A runtime graph as the network sees it. Training and detecting both come here, so they cannot drift apart.

Nodes are operators, an edge goes from the operator that makes a tensor to each one that reads it. Operators are put
in an order that the wiring alone decides, so that the order in which a file lists them does not matter. That order
gives how long each tensor is alive, and with that the first estimate of the working set: all weights that are large
enough to be paged, and the most activations alive at once. The network predicts the logarithm of what is measured
relative to it, so that sizes beyond those seen are extrapolated along it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.graph.ir import AttributeValue, TensorKind
from sectum.lab.detector.kinds import ELEMENTWISE, KIND_OF_TYPE, KINDS, group_of, kind_of
from sectum.lab.detector.lifetimes import Lifetimes, lifetimes
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import MIN_PAGED_BYTES

SCHEMA_VERSION = 1

NODE_FEATURES = (
    *(f"kind_{name}" for name in KINDS),
    "log_weight_bytes", "weight_share", "log_small_weight_bytes", "log_largest_weight_bytes", "log_output_bytes",
    "output_of_peak", "log_input_bytes", "input_of_peak", "log_live_bytes", "live_of_peak", "needed_of_live", "inputs",
    "readers", "is_output", "reads_input", "fused_sum", "log_kernel", "stride", "log_groups", "log_positions",
    "log_in_channels", "log_out_channels", "log_batch", "place", "log_life",
)  # fmt: skip
EDGE_FEATURES = ("log_bytes", "bytes_of_peak", "log_life", "is_last_reader", "slot")
GRAPH_FEATURES = (
    "log_first_estimate", "log_weight_bytes", "log_peak_bytes", "weight_share", "log_operators", "input_of_peak",
    "largest_of_peak", "page_model_of_first_estimate",
)  # fmt: skip

_CODE_OF_KIND = {name: code for code, name in enumerate(KINDS)}

_Column = NDArray[np.float64]

# Divisors that bring all columns to about one. Bytes: a gibibyte has a logarithm of 21.
_LOG_BYTES, _LOG_COUNT, _MOST_INPUTS = 20.0, 5.0, 8.0


def schema_hash() -> str:
    """SHA-256 of everything that gives a feature column its meaning."""
    schema = [SCHEMA_VERSION, KINDS, sorted(KIND_OF_TYPE.items()), sorted(ELEMENTWISE)]
    columns = [NODE_FEATURES, EDGE_FEATURES, GRAPH_FEATURES, _LOG_BYTES, _LOG_COUNT, _MOST_INPUTS, MIN_PAGED_BYTES]
    return hashlib.sha256(json.dumps([schema, columns]).encode()).hexdigest()


@dataclass(frozen=True)
class GraphFeatures:
    """One or more graphs as numbers.

    Attributes:
        nodes: float32, shape ``(operators, len(NODE_FEATURES))``.
        sources: int64, shape ``(edges,)``: the operator that each edge comes from.
        targets: int64, shape ``(edges,)``: the one that it goes to.
        edges: float32, shape ``(edges, len(EDGE_FEATURES))``.
        graph_of_node: int64, shape ``(operators,)``.
        graphs: float32, shape ``(graphs, len(GRAPH_FEATURES))``.
        first_estimate_bytes: float64, shape ``(graphs,)``: paged weights and the most activations alive at once.
        page_model_bytes: float64, shape ``(graphs,)``: working set of the page-replacement model; NaN where it was
            not asked.
    """

    nodes: NDArray[np.float32]
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    edges: NDArray[np.float32]
    graph_of_node: NDArray[np.int64]
    graphs: NDArray[np.float32]
    first_estimate_bytes: NDArray[np.float64]
    page_model_bytes: NDArray[np.float64]

    def tensors(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """What the network is given, by name."""
        return {
            "nodes": self.nodes,
            "sources": self.sources,
            "targets": self.targets,
            "edges": self.edges,
            "graph_of_node": self.graph_of_node,
            "graphs": self.graphs,
        }


def together(several: Sequence[GraphFeatures]) -> GraphFeatures:
    """Several graphs as one that falls apart into them, in their order."""
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
        page_model_bytes=np.concatenate([one.page_model_bytes for one in several]),
    )


def extract(runtime: OptimizedGraph, page_model_bytes: int | None = None) -> GraphFeatures:
    """Turn a runtime graph into features.

    Args:
        runtime: what the runtime executes (``sectum.ort.optimize.runtime_graph``).
        page_model_bytes: working set by the page-replacement model (pages of ``sectum.ort.page_trace.page_trace``), for
            networks that correct it; None for those that see the graph alone.
    """
    live = lifetimes(runtime)
    peak = max(1.0, float(max(live.live_bytes, default=0)))
    paged, small, largest = _weight_bytes(runtime, live)
    estimate = float(paged.sum()) + peak
    size = _Size(peak, estimate, max(1, len(live.order)))
    sources, targets, edges = _edges(runtime, live, size)
    page_model = math.nan if page_model_bytes is None else float(page_model_bytes)
    return GraphFeatures(
        nodes=_nodes(runtime, live, (paged, small, largest), size),
        sources=sources,
        targets=targets,
        edges=edges,
        graph_of_node=np.zeros(len(live.order), np.int64),
        graphs=np.array([_graph(runtime, live, size, page_model)], np.float32),
        first_estimate_bytes=np.array([estimate]),
        page_model_bytes=np.array([page_model]),
    )


@dataclass(frozen=True, slots=True)
class _Size:
    """What shares are taken of."""

    peak_bytes: float
    estimate_bytes: float
    operators: int


def _weight_bytes(runtime: OptimizedGraph, live: Lifetimes) -> tuple[_Column, _Column, _Column]:
    """Bytes of each operator's weights that are paged, of the others, and of the largest; by place.

    Small tensors lie in the C library's heap, which is not paged. A weight that several operators read lies in memory
    once: it counts at the first.
    """
    seen: set[str] = set()
    rows: list[tuple[int, int, int]] = []
    for index in live.order:
        paged = small = largest = 0
        for name in runtime.operators[index].inputs:
            if name and name not in seen and runtime.tensors[name].kind is TensorKind.WEIGHT:
                seen.add(name)
                n_bytes = live.n_bytes[name]
                largest = max(largest, n_bytes)
                if n_bytes >= MIN_PAGED_BYTES:
                    paged += n_bytes
                else:
                    small += n_bytes
        rows.append((paged, small, largest))
    paged_, small_, largest_ = np.array(rows, np.float64).reshape(len(rows), 3).T
    return paged_, small_, largest_


def _graph(runtime: OptimizedGraph, live: Lifetimes, size: _Size, page_model_bytes: float) -> list[float]:
    weight_bytes = size.estimate_bytes - size.peak_bytes
    ratio = 0.0 if math.isnan(page_model_bytes) else math.log(max(1.0, page_model_bytes) / size.estimate_bytes)
    return [
        math.log(size.estimate_bytes) / _LOG_BYTES,
        math.log1p(weight_bytes) / _LOG_BYTES,
        math.log(size.peak_bytes) / _LOG_BYTES,
        weight_bytes / size.estimate_bytes,
        math.log1p(size.operators) / _LOG_COUNT,
        sum(live.n_bytes[name] for name in runtime.inputs) / size.peak_bytes,
        max((live.n_bytes[name] for name in live.made_place), default=0) / size.peak_bytes,
        ratio,
    ]


def _nodes(
    runtime: OptimizedGraph, live: Lifetimes, weights: tuple[_Column, _Column, _Column], size: _Size
) -> NDArray[np.float32]:
    """Rows of `NODE_FEATURES`, in order of places."""
    rows = [_counts(runtime, live, place) for place in range(len(live.order))]
    (
        kinds, in_bytes, out_bytes, inputs, readers, life, is_output, reads_input, fused_sum, kernel, stride, groups,
        positions, in_channels, out_channels, batch,
    ) = np.array(rows, np.float64).reshape(len(rows), 16).T  # fmt: skip
    paged, small, largest = weights
    live_bytes = np.array(live.live_bytes, np.float64)
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
        np.log1p(readers),
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
    table[:, len(KINDS) :] = np.stack(columns, axis=1)
    return table


def _counts(runtime: OptimizedGraph, live: Lifetimes, place: int) -> tuple[float, ...]:
    """Whole numbers that an operator's features are made of."""
    op = runtime.operators[live.order[place]]
    n_bytes, made_place = live.n_bytes, live.made_place
    in_bytes = out_bytes = inputs = readers = first_input = 0
    last = place
    is_output = False
    in_shape: tuple[int, ...] = ()
    for name in op.inputs:
        if name in made_place or name in live.last_place:
            in_shape = in_shape if inputs else runtime.tensors[name].shape
            in_bytes += n_bytes[name]
            inputs += 1
            first_input |= name not in made_place
    for name in op.outputs:
        if name:
            out_bytes += n_bytes[name]
            readers += live.readers.get(name, 0)
            last = max(last, live.last_place[name])
            is_output |= name in runtime.outputs
    out_shape = runtime.tensors[op.outputs[0]].shape if op.outputs[0] else ()
    return (
        _CODE_OF_KIND[kind_of(op, inputs, out_shape)],
        in_bytes,
        out_bytes,
        inputs,
        readers,
        last - place,
        is_output,
        first_input,
        op.type in ("Conv", "FusedConv") and len(op.inputs) > 3 and bool(op.inputs[3]),
        math.prod(_ints(op.attributes, "kernel_shape")),
        _ints(op.attributes, "strides")[0],
        group_of(op),
        math.prod(out_shape[2:]),
        in_shape[1] if len(in_shape) > 1 else 0,
        out_shape[1] if len(out_shape) > 1 else 0,
        out_shape[0] if out_shape else 1,
    )


def _edges(
    runtime: OptimizedGraph, live: Lifetimes, size: _Size
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Ends of the edges, and their rows of `EDGE_FEATURES`."""
    rows = [
        (live.made_place[name], place, live.n_bytes[name], live.last_place[name] == place, min(slot, _MOST_INPUTS))
        for place, index in enumerate(live.order)
        for slot, name in enumerate(runtime.operators[index].inputs)
        if name in live.made_place
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
