"""What the runtime allocates for one strip of a division."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sectum.enclave.streaming.strip_operator import Rows
from sectum.graph.ir import Operator, Tensor, TensorKind
from sectum.ort.memory_plan import memory_plan
from sectum.ort.operators import describe
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.rows import Division, Strip


@dataclass(frozen=True, slots=True)
class StripMemory:
    """Memory of a division beside the whole tensors that it reads and makes; of each kind the most of any strip.

    Attributes:
        source_bytes: for each source, its rows, copied.
        block_bytes: inner activations.
        result_bytes: for each result, the rows that a strip makes.
        scratch_bytes: that kernels take.
    """

    source_bytes: tuple[int, ...]
    block_bytes: int
    result_bytes: tuple[int, ...]
    scratch_bytes: int

    @property
    def pieces(self) -> tuple[int, ...]:
        """All of them, in the order in which they are allocated."""
        return (*self.source_bytes, self.block_bytes, *self.result_bytes, self.scratch_bytes)


def strip_memory(division: Division, threads: int) -> StripMemory:
    """Plan the memory of a division's strips.

    Args:
        division: of some operators.
        threads: that compute.
    """
    block_bytes = scratch_bytes = 0
    for graph in (strip_graph(division, strip) for strip in {_sizes(one): one for one in division.strips}.values()):
        block_bytes = max(block_bytes, memory_plan(graph).block_bytes)
        scratch_bytes = max(
            scratch_bytes, *(sum(describe(op).scratch(op, graph, threads)) for op in division.operators)
        )
    return StripMemory(
        tuple(map(division.most_bytes, division.sources)),
        block_bytes,
        tuple(map(division.most_bytes, division.results)),
        scratch_bytes,
    )


def _sizes(strip: Strip) -> tuple[int, ...]:
    """How many rows the strip has of each tensor, and how many each operator reads."""
    reads = (rows for one in strip.operators for rows in one.reads if rows is not None)
    return tuple(end - begin for begin, end in (*strip.available.values(), *reads))


def strip_graph(division: Division, strip: Strip) -> OptimizedGraph:
    """What the runtime executes for one strip: the operators with fewer rows, and slices where one reads only some."""
    graph = division.graph
    tensors = {name: graph.tensors[name] for op in division.operators for name in (*op.inputs, *op.outputs) if name}
    tensors |= {name: _with_rows(tensors[name], rows) for name, rows in strip.available.items()}
    operators: list[Operator] = []
    for op, one in zip(division.operators, strip.operators, strict=True):
        inputs = list(op.inputs)
        for slot, rows in enumerate(one.reads):
            if rows is None or rows == strip.available[inputs[slot]]:
                continue
            name = inputs[slot]
            there, cut, inputs[slot] = (f"{name} {slot} {what} of {op.result}" for what in ("rows", "slice", "strip"))
            whole = tensors[name]
            tensors[there] = Tensor(there, whole.shape, whole.dtype, TensorKind.ACTIVATION)
            tensors[cut] = _with_rows(tensors[there], rows)
            tensors[inputs[slot]] = tensors[cut]
            operators += [
                Operator(there, "Reshape", (name,), (there,)),
                Operator(cut, "Slice", (there,), (cut,)),
                Operator(inputs[slot], "Reshape", (cut,), (inputs[slot],)),
            ]
        changed = tuple(inputs)
        same = changed == op.inputs
        operators.append(op if same else Operator(op.name, op.type, changed, op.outputs, op.attributes, op.domain))
    return replace(
        graph,
        operators=tuple(operators),
        tensors=tensors,
        inputs=(*division.sources, *division.wholes),
        outputs=division.results,
        carried_out=((),) * len(operators),
        layer_names=("",) * len(operators),
    )


def _with_rows(tensor: Tensor, rows: Rows) -> Tensor:
    shape = tensor.shape
    return Tensor(tensor.name, (*shape[:2], rows[1] - rows[0], *shape[3:]), tensor.dtype, tensor.kind)
