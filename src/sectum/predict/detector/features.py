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

from sectum.enclave.trace import MIN_PAGED_BYTES
from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.predict.detector.lifetimes import Lifetimes, lifetimes

SCHEMA_VERSION = 1

KINDS = (
    "conv", "depthwise", "plain_conv", "gemm", "pool", "global_pool", "normalisation", "in_place", "unary", "combine",
    "concat", "split", "rename", "reorder", "transpose", "other",
)  # fmt: skip

_NCHWC = "com.microsoft.nchwc:"

_KIND_OF_TYPE = {
    "Conv": "plain_conv", "com.microsoft:FusedConv": "plain_conv", "ConvTranspose": "plain_conv",
    "Gemm": "gemm", "com.microsoft:FusedGemm": "gemm", "MatMul": "gemm", "com.microsoft:FusedMatMul": "gemm",
    "MaxPool": "pool", "AveragePool": "pool", f"{_NCHWC}MaxPool": "pool", f"{_NCHWC}AveragePool": "pool",
    "GlobalAveragePool": "global_pool", "GlobalMaxPool": "global_pool", "ReduceMean": "global_pool",
    f"{_NCHWC}GlobalAveragePool": "global_pool", f"{_NCHWC}GlobalMaxPool": "global_pool",
    "LRN": "normalisation", "BatchNormalization": "normalisation", "LayerNormalization": "normalisation",
    "InstanceNormalization": "normalisation",
    "Cast": "in_place", "Clip": "in_place", "Elu": "in_place", "HardSigmoid": "in_place", "LeakyRelu": "in_place",
    "Relu": "in_place", "Selu": "in_place", "Sigmoid": "in_place", "Softmax": "in_place", "Softplus": "in_place",
    "Tanh": "in_place",
    "Concat": "concat", "Split": "split", "Transpose": "transpose",
    "Reshape": "rename", "Flatten": "rename", "Squeeze": "rename", "Unsqueeze": "rename", "Identity": "rename",
    "Dropout": "rename",
    f"{_NCHWC}ReorderInput": "reorder", f"{_NCHWC}ReorderOutput": "reorder",
}  # fmt: skip
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean"})

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

# Divisors that bring all columns to about one. Bytes: a gibibyte has a logarithm of 21.
_LOG_BYTES, _LOG_COUNT, _MOST_INPUTS = 20.0, 5.0, 8.0


def schema_hash() -> str:
    """SHA-256 of everything that gives a feature column its meaning."""
    schema = [SCHEMA_VERSION, KINDS, sorted(_KIND_OF_TYPE.items()), sorted(_ELEMENTWISE)]
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


def extract(runtime: Graph, page_model_bytes: int | None = None) -> GraphFeatures:
    """Turn a runtime graph into features.

    Args:
        runtime: what the runtime executes (``sectum.graph.runtime_graph``).
        page_model_bytes: working set by the page-replacement model (pages of ``sectum.enclave.trace.page_trace``), for
            networks that correct it; None for those that see the graph alone.
    """
    live = lifetimes(runtime)
    peak = max(1.0, float(max(live.live_bytes, default=0)))
    weights = _weights_by_first_reader(runtime, live.order)
    weight_bytes = float(sum(_paged_bytes(tensors) for tensors in weights.values()))
    estimate = weight_bytes + peak
    size = _Size(peak, estimate, max(1, len(live.order)))
    nodes = [_node(runtime, live, place, weights[index], size) for place, index in enumerate(live.order)]
    sources, targets, edges = _edges(runtime, live, size)
    page_model = math.nan if page_model_bytes is None else float(page_model_bytes)
    return GraphFeatures(
        nodes=np.array(nodes, np.float32).reshape(len(nodes), len(NODE_FEATURES)),
        sources=np.array(sources, np.int64),
        targets=np.array(targets, np.int64),
        edges=np.array(edges, np.float32).reshape(len(edges), len(EDGE_FEATURES)),
        graph_of_node=np.zeros(len(nodes), np.int64),
        graphs=np.array([_graph(runtime, weight_bytes, size, page_model)], np.float32),
        first_estimate_bytes=np.array([estimate]),
        page_model_bytes=np.array([page_model]),
    )


@dataclass(frozen=True, slots=True)
class _Size:
    """What shares are taken of."""

    peak_bytes: float
    estimate_bytes: float
    operators: int


def _weights_by_first_reader(runtime: Graph, order: Sequence[int]) -> dict[int, list[Tensor]]:
    """A weight that several operators read lies in memory once: it counts at the first."""
    seen: set[str] = set()
    weights: dict[int, list[Tensor]] = {}
    for index in order:
        own = {tensor.name: tensor for tensor in runtime.weights(runtime.operators[index]) if tensor.name not in seen}
        seen.update(own)
        weights[index] = list(own.values())
    return weights


def _paged_bytes(weights: Sequence[Tensor]) -> int:
    """Smaller tensors lie in the C library's heap, which is not paged."""
    return sum(tensor.n_bytes for tensor in weights if tensor.n_bytes >= MIN_PAGED_BYTES)


def _graph(runtime: Graph, weight_bytes: float, size: _Size, page_model_bytes: float) -> list[float]:
    tensors = runtime.tensors
    made = [tensors[name].n_bytes for op in runtime.operators for name in op.outputs if name]
    ratio = 0.0 if math.isnan(page_model_bytes) else math.log(max(1.0, page_model_bytes) / size.estimate_bytes)
    return [
        math.log(size.estimate_bytes) / _LOG_BYTES,
        math.log1p(weight_bytes) / _LOG_BYTES,
        math.log(size.peak_bytes) / _LOG_BYTES,
        weight_bytes / size.estimate_bytes,
        math.log1p(size.operators) / _LOG_COUNT,
        sum(tensors[name].n_bytes for name in runtime.inputs) / size.peak_bytes,
        max(made, default=0) / size.peak_bytes,
        ratio,
    ]


def _node(runtime: Graph, live: Lifetimes, place: int, weights: Sequence[Tensor], size: _Size) -> list[float]:
    op = runtime.operators[live.order[place]]
    tensors = runtime.tensors
    data = [tensors[name] for name in op.inputs if name and tensors[name].kind is not TensorKind.WEIGHT]
    made = [tensors[name] for name in op.outputs if name]
    weight_bytes = _paged_bytes(weights)
    in_bytes, out_bytes = sum(tensor.n_bytes for tensor in data), sum(tensor.n_bytes for tensor in made)
    in_shape, out_shape = (data[0].shape if data else ()), (made[0].shape if made else ())
    row = [0.0] * len(KINDS)
    row[KINDS.index(_kind(op, len(data), out_shape))] = 1.0
    readers = sum(live.readers.get(tensor.name, 0) for tensor in made)
    life = max((live.last_place.get(tensor.name, place) for tensor in made), default=place) - place
    return [
        *row,
        math.log1p(weight_bytes) / _LOG_BYTES,
        weight_bytes / size.estimate_bytes,
        math.log1p(sum(tensor.n_bytes for tensor in weights) - weight_bytes) / _LOG_BYTES,
        math.log1p(max((tensor.n_bytes for tensor in weights), default=0)) / _LOG_BYTES,
        math.log1p(out_bytes) / _LOG_BYTES,
        out_bytes / size.peak_bytes,
        math.log1p(in_bytes) / _LOG_BYTES,
        in_bytes / size.peak_bytes,
        math.log1p(live.live_bytes[place]) / _LOG_BYTES,
        live.live_bytes[place] / size.peak_bytes,
        (in_bytes + out_bytes) / max(1, live.live_bytes[place]),
        math.log1p(len(data)),
        math.log1p(readers),
        1.0 if any(tensor.name in live.outputs for tensor in made) else 0.0,
        1.0 if any(tensor.kind is TensorKind.INPUT for tensor in data) else 0.0,
        1.0 if op.type in ("Conv", "FusedConv") and len(op.inputs) > 3 and op.inputs[3] else 0.0,
        math.log(max(1, math.prod(_ints(op.attributes, "kernel_shape")))),
        float(_ints(op.attributes, "strides")[0]) / 2,
        math.log(max(1, _group(op))) / _LOG_COUNT,
        math.log1p(math.prod(out_shape[2:])) / _LOG_COUNT,
        math.log1p(in_shape[1] if len(in_shape) > 1 else 0) / _LOG_COUNT,
        math.log1p(out_shape[1] if len(out_shape) > 1 else 0) / _LOG_COUNT,
        math.log(max(1, out_shape[0] if out_shape else 1)),
        place / size.operators,
        math.log1p(life) / _LOG_COUNT,
    ]


def _edges(runtime: Graph, live: Lifetimes, size: _Size) -> tuple[list[int], list[int], list[list[float]]]:
    sources, targets, rows = [], [], []
    for place, index in enumerate(live.order):
        for slot, name in enumerate(runtime.operators[index].inputs):
            source = live.made_place.get(name)
            if source is None:
                continue
            n_bytes = runtime.tensors[name].n_bytes
            sources.append(source)
            targets.append(place)
            rows.append(
                [
                    math.log1p(n_bytes) / _LOG_BYTES,
                    n_bytes / size.peak_bytes,
                    math.log1p(place - source) / _LOG_COUNT,
                    1.0 if live.last_place[name] == place else 0.0,
                    min(slot, _MOST_INPUTS) / _MOST_INPUTS,
                ]
            )
    return sources, targets, rows


def _kind(op: Operator, activations: int, out_shape: Sequence[int]) -> str:
    kind = op.qualified_type
    if kind == f"{_NCHWC}Conv":
        return "depthwise" if 1 < _group(op) == out_shape[1] else "conv"
    if kind in _ELEMENTWISE:
        return "combine" if activations > 1 else "unary"
    return _KIND_OF_TYPE.get(kind, "unary" if activations == 1 else "other")


def _ints(attributes: Mapping[str, AttributeValue], name: str) -> tuple[int, ...]:
    value = attributes.get(name)
    return tuple(int(v) for v in value) if isinstance(value, tuple) and value else (1,)


def _group(op: Operator) -> int:
    value = op.attributes.get("group", 1)
    return value if isinstance(value, int) else 1
