"""Properties of the placement of activations that hold for every graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drawing import examples
from optimized_graphs import as_optimized
from sectum.graph import Graph, Operator, Tensor, TensorKind
from sectum.ort import OptimizedGraph
from sectum.ort.memory_plan import Storage, memory_plan

KINDS = ("Relu", "LRN", "Add", "Reshape", "Softmax", "Concat")


@st.composite
def graphs(draw: st.DrawFn) -> OptimizedGraph:
    """Graphs of up to 24 operators on tensors of few shapes; whatever nobody reads is an output."""
    shapes = st.sampled_from([(1, 8), (1, 100), (3, 100), (1, 64, 9, 9), (0, 4)])
    tensors = {"x": Tensor("x", draw(shapes), "float32", TensorKind.INPUT)}
    operators: list[Operator] = []
    read: set[str] = set()
    for index in range(draw(st.integers(1, 24))):
        names = sorted(tensors)
        sources = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
        kind = draw(st.sampled_from(KINDS))
        name = f"t{index}"
        shape = tensors[sources[0]].shape if kind in ("Relu", "Reshape", "Softmax") else draw(shapes)
        tensors[name] = Tensor(name, shape, "float32", TensorKind.ACTIVATION)
        operators.append(Operator(name, kind, tuple(sources), (name,)))
        read.update(sources)
    outputs = tuple(op.outputs[0] for op in operators if op.outputs[0] not in read)
    return as_optimized(Graph("random", tuple(operators), tensors, ("x",), outputs, 17))


@examples(120)
@given(graphs())
def test_no_two_live_buffers_overlap(graph: OptimizedGraph) -> None:
    """A byte of the block belongs to one buffer from its making to the last use of all tensors in it."""
    plan = memory_plan(graph)
    life: dict[str, tuple[int, int]] = {}
    for index, op in enumerate(graph.operators):
        for name in (*op.outputs, *op.inputs):
            buffer = plan.placements[name].buffer
            life[buffer] = (life.get(buffer, (index, index))[0], index)
    placed = [p for name, p in plan.placements.items() if p.storage is Storage.PATTERN and p.buffer == name]
    for i, a in enumerate(placed):
        for b in placed[:i]:
            (a0, a1), (b0, b1) = life[a.buffer], life[b.buffer]
            if a0 <= b1 and b0 <= a1:
                assert a.offset_bytes + a.n_bytes <= b.offset_bytes or b.offset_bytes + b.n_bytes <= a.offset_bytes


@examples(120)
@given(graphs())
def test_the_block_ends_where_its_last_buffer_ends(graph: OptimizedGraph) -> None:
    """The planned block is as long as the end of its last buffer, and empty without buffers."""
    plan = memory_plan(graph)
    ends = [p.offset_bytes + p.n_bytes for p in plan.placements.values() if p.storage is Storage.PATTERN]
    assert plan.block_bytes == max(ends, default=0)


@examples(120)
@given(graphs())
def test_every_tensor_fits_its_buffer(graph: OptimizedGraph) -> None:
    """Every tensor of the graph has a placement of at least its own size."""
    plan = memory_plan(graph)
    assert set(plan.placements) == set(graph.tensors)
    for name, placement in plan.placements.items():
        assert graph.tensors[name].n_bytes <= placement.n_bytes
