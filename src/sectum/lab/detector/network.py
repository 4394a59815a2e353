"""The graph neural network, in PyTorch; needed for training only.

Each layer sends messages along the data flow and against it. After the last layer the working set is a sum of two
parts: the weights of each operator times a share that the network gives to that operator, and the peak of live
activations times one factor of the whole graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sectum.lab.detector.features import EDGE_FEATURES, GRAPH_FEATURES, NODE_FEATURES, GraphFeatures, together

WIDTH, LAYERS, HEADS = 32, 3, 4

_WEIGHT_SHARE = NODE_FEATURES.index("weight_share")
_GRAPH_WEIGHT_SHARE = GRAPH_FEATURES.index("weight_share")
_MOST_ATTENTION = 8.0
_MOST_WEIGHT, _FIRST_WEIGHT = 1.1, 2.3
"""The share of an operator's weights is the first times a sigmoid. Before training that is sigmoid(the second): 1.0."""


class Flow(nn.Module):
    """Sums the messages along one direction: made of the sender's state and the tensor between both operators."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tensor = nn.Linear(len(EDGE_FEATURES), width)
        self.state = nn.Linear(width, width)

    def forward(self, states: Tensor, senders: Tensor, receivers: Tensor, edges: Tensor) -> Tensor:
        """Sum of each operator's messages; shape ``(operators, width)``."""
        messages = torch.relu(self.state(states)[senders] + self.tensor(edges))
        return _sum(messages, receivers, states)


class MessageLayer(nn.Module):
    """One step of messages in both directions, added to each operator's state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.along = Flow(width)
        self.against = Flow(width)
        self.mix = nn.Linear(3 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, states: Tensor, sources: Tensor, targets: Tensor, edges: Tensor) -> Tensor:
        """Next states; shape ``(operators, width)``."""
        heard = [self.along(states, sources, targets, edges), self.against(states, targets, sources, edges)]
        mixed: Tensor = self.mix(torch.cat([states, *heard], dim=1))
        return states + torch.relu(self.norm(mixed))


class WorkingSetNetwork(nn.Module):
    """Logarithm of working set / first estimate, and of the scale of its error."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(len(NODE_FEATURES), WIDTH)
        self.layers = nn.ModuleList([MessageLayer(WIDTH) for _ in range(LAYERS)])
        self.attention = nn.Linear(WIDTH, HEADS)
        self.weight = nn.Linear(WIDTH, 1)
        answer = nn.Linear(WIDTH, 2)
        self.read = nn.Sequential(
            nn.Linear((HEADS + 1) * WIDTH + len(GRAPH_FEATURES), 2 * WIDTH),
            nn.ReLU(),
            nn.Linear(2 * WIDTH, WIDTH),
            nn.ReLU(),
            answer,
        )
        for last in (self.weight, answer):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        nn.init.constant_(self.weight.bias, _FIRST_WEIGHT)

    def forward(
        self, nodes: Tensor, sources: Tensor, targets: Tensor, edges: Tensor, graph_of_node: Tensor, graphs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge graphs, given as `sectum.lab.detector.features.GraphFeatures.tensors`.

        Returns:
            Logarithms of working set / first estimate, and of the scale of its error; shapes ``(graphs,)``.
        """
        states = torch.relu(self.first(nodes))
        for layer in self.layers:
            states = layer(states, sources, targets, edges)
        correction, log_scale = self.read(self._pooled(states, graph_of_node, graphs)).unbind(dim=1)
        # A scale of 2 % before training.
        log_scale = log_scale.clamp(-4.0, 4.0) - 4.0
        counted = _MOST_WEIGHT * torch.sigmoid(self.weight(states)) * nodes[:, _WEIGHT_SHARE : _WEIGHT_SHARE + 1]
        weights = _sum(counted, graph_of_node, graphs)[:, 0]
        activations = (1 - graphs[:, _GRAPH_WEIGHT_SHARE]) * torch.exp(correction.clamp(-8.0, 8.0))
        return torch.log(weights + activations + 1e-6), log_scale

    def _pooled(self, states: Tensor, graph_of_node: Tensor, graphs: Tensor) -> Tensor:
        attention = torch.exp(self.attention(states).clamp(-_MOST_ATTENTION, _MOST_ATTENTION))
        attention = torch.cat([attention, torch.ones_like(attention[:, :1])], dim=1)
        attended = (attention.unsqueeze(2) * states.unsqueeze(1)).flatten(1)
        total = _sum(attention, graph_of_node, graphs) + 1e-6
        mean = _sum(attended, graph_of_node, graphs).unflatten(1, (HEADS + 1, -1)) / total.unsqueeze(2)
        return torch.cat([mean.flatten(1), graphs], dim=1)


def _sum(values: Tensor, owners: Tensor, owned: Tensor) -> Tensor:
    """Sum of the values by owner; shape ``(len(owned), columns)``."""
    zeros = torch.zeros((owned.shape[0], values.shape[1]), dtype=values.dtype)
    return zeros.index_add(0, owners, values)


def torch_tensors(features: GraphFeatures) -> dict[str, Tensor]:
    """The network's inputs as PyTorch tensors."""
    return {name: torch.from_numpy(array) for name, array in features.tensors().items()}


def onnx_bytes(network: WorkingSetNetwork, example: Sequence[GraphFeatures]) -> bytes:
    """Write the network as ONNX, with any number of operators, edges and graphs.

    Args:
        network: that was trained.
        example: graphs to trace it with: two or more, each with edges.
    """
    tensors = torch_tensors(together(example))
    sizes = dict(zip(tensors, ("operators", "edges", "edges", "edges", "operators", "graphs"), strict=True))
    with warnings.catch_warnings():
        # The exporter's own use of PyTorch warns; a caller can change nothing about it.
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            network.eval(),
            kwargs=tensors,
            input_names=list(tensors),
            output_names=["log_ratio", "log_scale"],
            dynamic_shapes={name: {0: torch.export.Dim(sizes[name], min=1)} for name in tensors},
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    model = program.model_proto
    # The exporter notes for each node the file and the lines that it came from.
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    content: bytes = model.SerializeToString(deterministic=True)
    return content
