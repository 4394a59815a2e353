"""A graph as the detector sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.lab.detector import features as module
from sectum.lab.detector.features import EDGE_FEATURES, GRAPH_FEATURES, NODE_FEATURES, extract, together


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.tensors().values(), b.tensors().values(), strict=True))


def test_names_do_not_matter(graphs):
    """Features are the same whatever tensors and operators are called."""
    graph = graphs[3]
    new = {name: f"x{number}" for number, name in enumerate(reversed(list(graph.tensors)))} | {"": ""}
    renamed = Graph(
        "other",
        tuple(
            replace(op, name="", inputs=tuple(new[i] for i in op.inputs), outputs=tuple(new[o] for o in op.outputs))
            for op in graph.operators
        ),
        {new[name]: replace(tensor, name=new[name]) for name, tensor in graph.tensors.items()},
        tuple(new[name] for name in graph.inputs),
        tuple(new[name] for name in graph.outputs),
        graph.opset,
    )
    assert equal(extract(graph), extract(renamed))


def test_columns_are_as_many_as_their_names(graphs):
    """Each table has a column for each name, all finite, and edges are between operators that exist."""
    for graph in graphs:
        found = extract(graph)
        assert found.nodes.shape == (len(graph.operators), len(NODE_FEATURES))
        assert found.edges.shape == (len(found.sources), len(EDGE_FEATURES))
        assert found.graphs.shape == (1, len(GRAPH_FEATURES))
        assert all(np.isfinite(table).all() for table in (found.nodes, found.edges, found.graphs))
        assert (found.sources < found.targets).all()
        assert found.targets.max() < len(graph.operators)


def test_edges_are_the_data_flow(graphs):
    """There is one edge for each input slot that reads what another operator makes."""
    for graph in graphs:
        made = {name for op in graph.operators for name in op.outputs}
        slots = sum(name in made for op in graph.operators for name in op.inputs if name)
        assert len(extract(graph).sources) == slots


def test_graphs_put_together_keep_their_edges(graphs):
    """Joining graphs shifts the edges of each to its own operators."""
    several = [extract(graph) for graph in graphs]
    joined = together(several)
    starts = np.cumsum([0, *(len(one.nodes) for one in several)])
    for number, one in enumerate(several):
        inside = (joined.sources >= starts[number]) & (joined.sources < starts[number + 1])
        assert np.array_equal(joined.targets[inside] - starts[number], one.targets)
        assert np.array_equal(joined.nodes[joined.graph_of_node == number], one.nodes)


def chain(n_bytes: int = 4 << 20) -> Graph:
    """Input -> a -> b -> output, and the input again at the end; each tensor of equal size."""
    shape = (1, n_bytes // 4)
    kinds = {
        "in": TensorKind.INPUT,
        "a": TensorKind.ACTIVATION,
        "b": TensorKind.ACTIVATION,
        "out": TensorKind.ACTIVATION,
    }
    tensors = {name: Tensor(name, shape, "float32", kind) for name, kind in kinds.items()}
    operators = (
        Operator("1", "Tanh", ("in",), ("a",)),
        Operator("2", "Tanh", ("a",), ("b",)),
        Operator("3", "Add", ("b", "in"), ("out",)),
    )
    return Graph("chain", operators, tensors, ("in",), ("out",), 17)


def test_the_first_estimate_is_paged_weights_and_peak(graphs):
    """It is never below the largest operator's own tensors, and weights under 64 KiB do not count."""
    assert extract(chain()).first_estimate_bytes[0] == 3 * (4 << 20)
    for graph in graphs:
        small = sum(t.n_bytes for op in graph.operators for t in graph.weights(op) if t.n_bytes < 64 << 10)
        assert extract(graph).first_estimate_bytes[0] >= graph.weight_bytes - small


def test_a_weight_that_two_operators_read_counts_once():
    """Sharing a weight does not double it."""
    tensors = dict(chain().tensors) | {"w": Tensor("w", (1, 1 << 20), "float32", TensorKind.WEIGHT)}
    twice = (
        Operator("1", "Add", ("in", "w"), ("a",)),
        Operator("2", "Add", ("a", "w"), ("b",)),
        Operator("3", "Add", ("b", "in"), ("out",)),
    )
    found = extract(Graph("shared", twice, tensors, ("in",), ("out",), 17))
    assert found.first_estimate_bytes[0] == 4 * (4 << 20)


def test_another_schema_has_another_hash(monkeypatch):
    """Whatever gives columns another meaning changes the hash."""
    before = module.schema_hash()
    monkeypatch.setattr(module, "NODE_FEATURES", tuple(reversed(NODE_FEATURES)))
    assert module.schema_hash() != before
