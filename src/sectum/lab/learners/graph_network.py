"""Graph neural networks end to end: BRP-NAS's (NeurIPS 2020, arXiv 2007.08668) and NNLQP's (ICPP 2022).

Of memory they see the size of the EPC alone, which is an input of the last layers. Importing this loads PyTorch and
PyTorch Geometric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch_geometric.nn import GCNConv, SAGEConv, global_add_pool, global_mean_pool

from sectum.lab.learners.graph_tensors import GraphTensors, place
from sectum.lab.learners.learner import LatencyCase, LatencyEstimate
from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork, known

Floats = NDArray[np.float32]

WIDTH = 64
DEPTH = {"gcn": 4, "sage": 3}
STEPS = 900
BATCH_NETWORKS = 24
LEARNING_RATE = 3e-3
_LAYERS = {"gcn": GCNConv, "sage": SAGEConv}
_PREDICTED_AT_ONCE = 64
_HUBER = 0.1  # of a logarithm: larger errors count linearly


class _Encoder:
    """Convolutions over the graph, pooled, and two dense layers that also see the place and the static features."""

    def __init__(self, layer: str, columns: int, extras: int) -> None:
        kinds = [columns] + [WIDTH] * DEPTH[layer]
        self.convolutions = nn.ModuleList([_LAYERS[layer](before, after) for before, after in pairwise(kinds)])
        self.head = nn.Sequential(nn.Linear(2 * WIDTH + extras, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    @property
    def parameters(self) -> list[Any]:
        return [*self.convolutions.parameters(), *self.head.parameters()]

    def embed(self, nodes: Any, edges: Any, owner: Any) -> Any:
        """Sum and mean of the operators' states; shape ``(networks, 2 * WIDTH)``."""
        state = nodes
        for convolution in self.convolutions:
            state = torch.relu(convolution(state, edges))
        # Latency is a sum over operators: the sum's logarithm keeps networks of 10 and of 400 comparable.
        summed = torch.log1p(global_add_pool(state, owner))
        return torch.cat([summed, global_mean_pool(state, owner)], dim=1)

    def answer(self, embedded: Any, extras: Any) -> Any:
        return self.head(torch.cat([embedded, extras], dim=1)).squeeze(1)


@dataclass(frozen=True)
class _Scale:
    """Column means and deviations of what was learned from."""

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, values: Floats) -> _Scale:
        return cls(values.mean(axis=0), values.std(axis=0) + np.float32(1e-3))

    def __call__(self, values: Floats) -> Floats:
        # Beyond four deviations nothing was seen: a family left out must not throw the network off its scale.
        scaled: Floats = np.clip((values - self.mean) / self.deviation, -4, 4).astype(np.float32)
        return scaled


@dataclass(frozen=True)
class _Fitted:
    encoder: _Encoder
    nodes: _Scale
    extras: _Scale
    with_statics: bool

    def outputs(self, cases: Sequence[LatencyCase]) -> NDArray[np.float64]:
        """What the last layer says of each case."""
        different: dict[Any, tuple[int, KnownNetwork]] = {}
        for case in cases:
            different.setdefault(case.network.identity, (len(different), case.network))
        tensors = _scaled(GraphTensors.of([network for _, network in different.values()]), self.nodes)
        owner = [different[case.network.identity][0] for case in cases]
        extras = torch.from_numpy(self.extras(_extras(cases, tensors.statics[owner], self.with_statics)))
        with torch.no_grad():
            embedded = torch.cat(
                [
                    self.encoder.embed(*tensors.batch(range(start, min(start + _PREDICTED_AT_ONCE, len(different)))))
                    for start in range(0, len(different), _PREDICTED_AT_ONCE)
                ]
            )
            found: NDArray[np.float64] = self.encoder.answer(embedded[owner], extras).double().numpy()
        return found


def _train(
    layer: str, networks: Sequence[MeasuredNetwork], cases: Sequence[LatencyCase], owner: NDArray[np.int64],
    targets: NDArray[np.float64], *, with_statics: bool,
) -> _Fitted:  # fmt: skip
    """Learn the targets of cases; ``owner`` is the index of each case's network."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        raw = GraphTensors.of(networks)
        nodes = _Scale.of(raw.nodes)
        tensors = _scaled(raw, nodes)
        extra_values = _extras(cases, tensors.statics[owner], with_statics)
        extras = _Scale.of(extra_values)
        encoder = _Encoder(layer, tensors.nodes.shape[1], extra_values.shape[1])
        wanted, shown = torch.from_numpy(targets.astype(np.float32)), torch.from_numpy(extras(extra_values))
        loss = nn.HuberLoss(delta=_HUBER)
        optimiser = torch.optim.Adam(encoder.parameters, lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
        cases_of = [np.flatnonzero(owner == index) for index in range(len(networks))]
        for chosen in _batches(len(networks)):
            lines = np.concatenate([cases_of[index] for index in chosen])
            local = np.repeat(np.arange(len(chosen)), [len(cases_of[index]) for index in chosen])
            embedded = encoder.embed(*tensors.batch(chosen))
            error = loss(encoder.answer(embedded[local], shown[lines]), wanted[lines])
            optimiser.zero_grad()
            error.backward()
            nn.utils.clip_grad_norm_(encoder.parameters, 1.0)
            optimiser.step()
            schedule.step()
    return _Fitted(encoder, nodes, extras, with_statics)


def _batches(n_networks: int) -> list[list[int]]:
    """Which networks each step learns from: all, in random order, again and again."""
    rng = np.random.default_rng(0)
    size = min(BATCH_NETWORKS, n_networks)
    order: list[int] = []
    while len(order) < STEPS * size:
        order += rng.permutation(n_networks).tolist()
    return [order[step * size : (step + 1) * size] for step in range(STEPS)]


def _scaled(tensors: GraphTensors, scale: _Scale) -> GraphTensors:
    return GraphTensors(scale(tensors.nodes), tensors.edges, tensors.node_start, tensors.edge_start, tensors.statics)


def _extras(cases: Sequence[LatencyCase], statics: Floats, with_statics: bool) -> Floats:
    places = np.array([place(case) for case in cases], dtype=np.float32)
    return np.concatenate([places, statics], axis=1) if with_statics else places


class GraphRegression:
    """Logarithm of the latency, natively and under each size of EPC, by one graph network.

    Args:
        name: of the learner.
        layer: "gcn" or "sage".
        with_statics: whether operations, bytes and batch of the whole network are given to the last layers.
    """

    def __init__(self, name: str, *, layer: str, with_statics: bool) -> None:
        self.name = name
        self._layer = layer
        self._with_statics = with_statics

    def fit(self, networks: Sequence[MeasuredNetwork]) -> _FittedRegression:
        """Train for a fixed number of steps."""
        views = [known(network) for network in networks]
        lines = [
            (index, LatencyCase(views[index], run.epc_pages), math.log(run.latency_ms / network.unit_ms))
            for index, network in enumerate(networks)
            for run in (network.native, *network.runs)
        ]
        targets = np.array([target for _, _, target in lines])
        centre = float(targets.mean())
        owner = np.array([index for index, _, _ in lines], dtype=np.int64)
        cases = [case for _, case, _ in lines]
        fitted = _train(self._layer, networks, cases, owner, targets - centre, with_statics=self._with_statics)
        return _FittedRegression(fitted, centre)


@dataclass(frozen=True)
class _FittedRegression:
    fitted: _Fitted
    centre: float

    def predict(self, cases: Sequence[LatencyCase]) -> list[LatencyEstimate]:
        logs = np.clip(self.fitted.outputs(cases) + self.centre, -20, 20)
        return [
            LatencyEstimate(math.exp(value) * case.network.unit_ms)
            for case, value in zip(cases, logs.tolist(), strict=True)
        ]
