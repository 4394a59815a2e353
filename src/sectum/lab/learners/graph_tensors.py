"""Networks as the inputs of the compared graph networks. Importing this loads PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sectum.lab.learners.learner import LatencyCase
from sectum.lab.learners.measured import KnownNetwork
from sectum.ort.operators import KINDS
from sectum.predict.features import FEATURES

Floats = NDArray[np.float32]


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
    def of(cls, networks: Sequence[KnownNetwork]) -> GraphTensors:
        """Put networks, at least one, into arrays."""
        nodes = [_nodes(network) for network in networks]
        edges = [np.stack([network.graph_features.sources, network.graph_features.targets]) for network in networks]
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


def place(case: LatencyCase) -> tuple[float, float]:
    """Whether it is in an enclave, and the logarithm of the EPC's pages."""
    return (0.0, 0.0) if case.epc_pages is None else (1.0, float(np.log(max(1, case.epc_pages))))


def _nodes(network: KnownNetwork) -> Floats:
    """Group of each operator as one-hot, then its features, sizes as logarithms."""
    features = network.features
    one_hot = np.array([[group == name for name in KINDS] for group in features.kinds], dtype=np.float32)
    sizes = [index for index, name in enumerate(FEATURES) if name != "type"]
    values = np.sign(features.values[:, sizes]) * np.log1p(np.abs(features.values[:, sizes]))
    estimate = np.log(features.roofline)[:, None].astype(np.float32)
    return np.concatenate([one_hot.reshape(len(features.kinds), len(KINDS)), values, estimate], axis=1)


def _statics(network: KnownNetwork) -> tuple[float, float, float, float]:
    costs = network.features.costs
    traffic = sum(cost.input_bytes + cost.output_bytes for cost in costs)
    weights = sum(cost.weight_bytes for cost in costs)
    flops = sum(cost.flops for cost in costs)
    return float(np.log1p(flops)), float(np.log1p(weights)), float(np.log1p(traffic)), float(network.batch)
