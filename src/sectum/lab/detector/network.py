"""The graph neural network, in PyTorch Geometric; needed for training only.

Each layer sends messages along the data flow and against it. After the last one every operator has a say of its own:
how much of its weights counts, and how much attention it gets. In the form that sees the graph alone the working set is
then a sum that can be read: weights of each operator times its share, and the most activations alive at once times one
factor of the whole graph. In the form with the page model it is that model's working set times one factor.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from sectum.lab.detector.features import EDGE_FEATURES, GRAPH_FEATURES, NODE_FEATURES, GraphFeatures, together

WIDTH, LAYERS, HEADS = 32, 3, 4

_WEIGHT_SHARE = NODE_FEATURES.index("weight_share")
_GRAPH_WEIGHT_SHARE = GRAPH_FEATURES.index("weight_share")
_MOST_ATTENTION = 8.0
_MOST_WEIGHT, _LIKELY_WEIGHT = 1.1, 2.3
"""No weight counts more than the first; to begin with each counts that times sigmoid of the second: about once."""


class Flow(MessagePassing):
    """Sums what neighbours send along one direction: the sender's state and the tensor that lies between."""

    def __init__(self, width: int, flow: str) -> None:
        super().__init__(aggr="add", flow=flow)
        self.tensor = nn.Linear(len(EDGE_FEATURES), width)
        self.state = nn.Linear(width, width)

    def forward(self, states: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """Give each operator the sum of its messages; shape ``(operators, width)``."""
        summed: Tensor = self.propagate(edge_index, x=self.state(states), tensor=self.tensor(edges))
        return summed

    def message(self, x_j: Tensor, tensor: Tensor) -> Tensor:
        """One message for each edge."""
        return torch.relu(x_j + tensor)

    def aggregate(
        self, inputs: Tensor, index: Tensor, ptr: Tensor | None = None, dim_size: int | None = None
    ) -> Tensor:
        """Sum by rows: what ONNX Runtime does in one step, where the library's own sum takes one for each number."""
        assert ptr is None
        assert dim_size is not None
        return inputs.new_zeros((dim_size, inputs.shape[1])).index_add(0, index, inputs)


class Layer(nn.Module):
    """One step of messages in both directions, added to each operator's state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.along = Flow(width, "source_to_target")
        self.against = Flow(width, "target_to_source")
        self.mix = nn.Linear(3 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, states: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """Next states; shape ``(operators, width)``."""
        heard = [self.along(states, edge_index, edges), self.against(states, edge_index, edges)]
        mixed: Tensor = self.mix(torch.cat([states, *heard], dim=1))
        return states + torch.relu(self.norm(mixed))


class WorkingSetNetwork(nn.Module):
    """Log of the working set, relative to a first estimate, and how sure that is.

    Args:
        with_page_model: the first estimate is the page-replacement model's; else weights and peak activations.
        width: of each operator's state.
        layers: steps of messages.
    """

    def __init__(self, *, with_page_model: bool, width: int = WIDTH, layers: int = LAYERS) -> None:
        super().__init__()
        self.with_page_model = with_page_model
        self.first = nn.Linear(len(NODE_FEATURES), width)
        self.layers = nn.ModuleList([Layer(width) for _ in range(layers)])
        self.attention = nn.Linear(width, HEADS)
        self.weight = nn.Linear(width, 1)
        # The page model's column is the last one.
        self.columns = len(GRAPH_FEATURES) if with_page_model else len(GRAPH_FEATURES) - 1
        answer = nn.Linear(width, 2)
        self.read = nn.Sequential(
            nn.Linear((HEADS + 1) * width + self.columns, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, width),
            nn.ReLU(),
            answer,
        )
        for last in (self.weight, answer):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        nn.init.constant_(self.weight.bias, _LIKELY_WEIGHT)

    def forward(
        self, nodes: Tensor, sources: Tensor, targets: Tensor, edges: Tensor, graph_of_node: Tensor, graphs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge graphs, given as `sectum.lab.detector.features.GraphFeatures.tensors`.

        Returns:
            Log of working set over first estimate, and the log of the scale of its error; shapes ``(graphs,)``.
        """
        edge_index = torch.stack([sources, targets])
        states = torch.relu(self.first(nodes))
        for layer in self.layers:
            states = layer(states, edge_index, edges)
        correction, log_scale = self.read(self._pooled(states, graph_of_node, graphs)).unbind(dim=1)
        # A scale of 2 % to begin with.
        log_scale = log_scale.clamp(-4.0, 4.0) - 4.0
        if self.with_page_model:
            return correction, log_scale
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
        return torch.cat([mean.flatten(1), graphs[:, : self.columns]], dim=1)


def _sum(values: Tensor, graph_of_node: Tensor, graphs: Tensor) -> Tensor:
    """Sums over each graph's operators; shape ``(graphs, columns)``."""
    zeros = torch.zeros((graphs.shape[0], values.shape[1]), dtype=values.dtype)
    return zeros.index_add(0, graph_of_node, values)


def torch_tensors(features: GraphFeatures) -> dict[str, Tensor]:
    """What the network is given, as its own tensors."""
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
        # Of the exporter's own use of PyTorch; nothing that a caller can change.
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
    # The exporter notes for each node which lines of which file it came from.
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    content: bytes = model.SerializeToString(deterministic=True)
    return content
