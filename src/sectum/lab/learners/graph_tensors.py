"""Networks as graph networks read them. Importing this loads torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sectum.lab.evaluation.learner import Case, KnownNetwork, known
from sectum.lab.learners.native import identity
from sectum.lab.training.measured import MeasuredNetwork
from sectum.ort.operators import KINDS
from sectum.ort.optimized import OptimizedGraph
from sectum.predict.features import FEATURES

Floats = NDArray[np.float32]

_EDGES: dict[Hashable, NDArray[np.int64]] = {}
"""Of each network met in this process: a graph takes long to read and is needed for nothing else."""


def wiring(graph: OptimizedGraph) -> NDArray[np.int64]:
    """Which operator's output which operator reads: int64, shape ``(2, edges)``."""
    maker = {name: index for index, op in enumerate(graph.operators) for name in op.outputs if name}
    pairs = [(maker[name], index) for index, op in enumerate(graph.operators) for name in op.inputs if name in maker]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


@dataclass(frozen=True)
class GraphTensors:
    """Several networks, their operators one after the other.

    Attributes:
        nodes: float32, shape ``(operators, columns)``.
        edges: int64, shape ``(2, edges)``, numbered within each network.
        node_start: first operator of each network and the end, shape ``(networks + 1,)``.
        edge_start: the same of edges.
        statics: of each network: logarithms of operations, weight bytes, traffic; batch; float32,
            shape ``(networks, 4)``.
    """

    nodes: Floats
    edges: NDArray[np.int64]
    node_start: NDArray[np.int64]
    edge_start: NDArray[np.int64]
    statics: Floats

    @classmethod
    def of(cls, networks: Sequence[MeasuredNetwork | KnownNetwork]) -> GraphTensors:
        """Put networks, at least one, into arrays."""
        nodes = [_nodes(network) for network in networks]
        edges = [_edges(network) for network in networks]
        return cls(
            np.concatenate(nodes),
            np.concatenate(edges, axis=1),
            np.cumsum([0, *map(len, nodes)]),
            np.cumsum([0, *(one.shape[1] for one in edges)]),
            np.array([_statics(network) for network in networks], dtype=np.float32),
        )

    def batch(self, chosen: Sequence[int]) -> tuple[Any, Any, Any]:
        """Nodes, edges numbered through, and each node's network, of the chosen networks, as tensors."""
        rows = np.concatenate([np.arange(self.node_start[i], self.node_start[i + 1]) for i in chosen])
        counts = [int(self.node_start[i + 1] - self.node_start[i]) for i in chosen]
        starts = np.cumsum([0, *counts])[:-1]
        edges = [
            self.edges[:, self.edge_start[i] : self.edge_start[i + 1]] + start
            for i, start in zip(chosen, starts.tolist(), strict=True)
        ]
        owner = np.repeat(np.arange(len(counts)), counts)
        return (
            torch.from_numpy(self.nodes[rows]),
            torch.from_numpy(np.concatenate(edges, axis=1)),
            torch.from_numpy(owner),
        )


def place(case: Case) -> tuple[float, float]:
    """Whether it is in an enclave, and the logarithm of the EPC's pages."""
    return (0.0, 0.0) if case.epc_pages is None else (1.0, float(np.log(max(1, case.epc_pages))))


def _edges(network: MeasuredNetwork | KnownNetwork) -> NDArray[np.int64]:
    which = identity(network)
    if which not in _EDGES:
        # A view of its own: the graph that it reads is let go with it.
        view = known(network) if isinstance(network, MeasuredNetwork) else network
        _EDGES[which] = wiring(view.graph)
    return _EDGES[which]


def _nodes(network: MeasuredNetwork | KnownNetwork) -> Floats:
    """Group of each operator as one-hot, then its features, sizes as logarithms."""
    features = network.features
    one_hot = np.array([[group == name for name in KINDS] for group in features.kinds], dtype=np.float32)
    sizes = [index for index, name in enumerate(FEATURES) if name != "type"]
    values = np.sign(features.values[:, sizes]) * np.log1p(np.abs(features.values[:, sizes]))
    estimate = np.log(features.roofline)[:, None].astype(np.float32)
    return np.concatenate([one_hot.reshape(len(features.kinds), len(KINDS)), values, estimate], axis=1)


def _statics(network: MeasuredNetwork | KnownNetwork) -> tuple[float, float, float, float]:
    costs = network.features.costs
    traffic = sum(cost.input_bytes + cost.output_bytes for cost in costs)
    weights = sum(cost.weight_bytes for cost in costs)
    flops = sum(cost.flops for cost in costs)
    return float(np.log1p(flops)), float(np.log1p(weights)), float(np.log1p(traffic)), float(network.batch)
