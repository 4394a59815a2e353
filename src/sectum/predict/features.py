"""Operators as numbers. Training and predicting both come here, so they cannot drift apart.

Every operator becomes one row of `FEATURES` and is of one of the kinds of `sectum.ort.operators`; each kind has its own
model. The models do not predict time itself but its logarithm relative to a sum over the work that the kernels do
(`sectum.ort.kernel_work`), so that sizes beyond those measured are extrapolated along that work, not cut off at the
largest measured value.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sectum.graph.ir import AttributeValue, Operator, TensorKind
from sectum.ort.contiguity import contiguous_run
from sectum.ort.costs import OperatorCost, cost
from sectum.ort.cpu import Cpu
from sectum.ort.kernel_work import CONSTANTS, FILTER_BLOCKS, TILES, kernel_work
from sectum.ort.memory_plan import MemoryPlan, memory_plan
from sectum.ort.operators import KINDS, describe, kind_of, trained_types
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.variants import variant_code, variant_names, variant_of

SCHEMA_VERSION = 8

_OF_OPERATOR = (
    "type", "threads", "log_flops", "log_input_bytes", "log_weight_bytes", "log_output_bytes", "log_intensity",
    "batch", "in_channels", "out_channels", "groups", "in_height", "in_width", "out_height", "out_width",
    "kernel_height", "kernel_width", "stride", "dilation", "inputs", "outputs", "fused_activation", "fused_sum",
    "nchw_input", "contiguous_run", "rows", "broadcast", "element_in", "element_out", "log_outputs", "variant",
    "in_place", "first_use", "log_reuse_bytes",
)  # fmt: skip
# Known, too, and part of the work; trees that see them tell networks apart by them, and are wrong about unlike ones.
_OF_NETWORK = ("log_weight_reuse_bytes", "log_buffer_reuse_bytes")
_OF_TILES = ("filters", "values", "positions", "block_rest", "filter_rest", "row_rest", "column_rest", "log_products")

FEATURES = (*_OF_OPERATOR, "log_estimate", *_OF_TILES)
_THREADS = FEATURES.index("threads")

# One reference unit is the time of six 256x256 float32 matrix products: 201 MFLOP. Traffic and start-up are put in
# the same unit by the ratios seen on the machine of the shipped model; the learned part corrects all three.
_FLOPS_PER_REFERENCE = 6 * 2 * 256.0**3
_BYTES_PER_REFERENCE = 25e6
_START_IN_REFERENCES = 4e-4


def schema_hash() -> str:
    """SHA-256 of everything that gives a feature column its meaning."""
    types = trained_types().values()
    # Blocked convolutions split into two kinds by their groups; pointwise is the kind of all that have no other.
    named = [(row.name, row.kind) for row in types if row.kind not in ("conv", "pointwise")]
    schema = [
        SCHEMA_VERSION,
        KINDS,
        CONSTANTS,
        sorted(named),
        [row.name for row in types],
        FEATURES,
        variant_names(),
    ]
    constants = [_FLOPS_PER_REFERENCE, _BYTES_PER_REFERENCE, _START_IN_REFERENCES]
    return hashlib.sha256(json.dumps([schema, constants]).encode()).hexdigest()


@dataclass(frozen=True)
class OperatorFeatures:
    """The operators of one graph, row by row.

    Attributes:
        kinds: kind of each operator.
        values: float32, shape ``(operators, len(FEATURES))``.
        roofline: float64, shape ``(operators,)``: a first estimate of which nothing is learned, in reference units.
        work: float64, shape ``(operators, WIDTH)``: what the kernels do; see `sectum.ort.kernel_work`.
        types: qualified type of each operator, and after a blank its variant where it has one.
        costs: arithmetic and traffic of each operator.
    """

    kinds: tuple[str, ...]
    values: NDArray[np.float32]
    roofline: NDArray[np.float64]
    work: NDArray[np.float64]
    types: tuple[str, ...]
    costs: tuple[OperatorCost, ...]

    @property
    def several_threads(self) -> NDArray[np.bool_]:
        """Whether each operator runs with more than one thread; shape ``(operators,)``."""
        several: NDArray[np.bool_] = self.values[:, _THREADS] > 1
        return several

    def part(self, start: int, stop: int) -> OperatorFeatures:
        """Operators ``start`` to ``stop``, without the latter; arrays are views."""
        chosen = slice(start, stop)
        return OperatorFeatures(
            self.kinds[chosen],
            self.values[chosen],
            self.roofline[chosen],
            self.work[chosen],
            self.types[chosen],
            self.costs[chosen],
        )


def roofline(operator_cost: OperatorCost) -> float:
    """First estimate of an operator's time, in units of the reference kernel's time."""
    return (
        operator_cost.flops / _FLOPS_PER_REFERENCE
        + _moved_bytes(operator_cost) / _BYTES_PER_REFERENCE
        + _START_IN_REFERENCES
    )


@dataclass(frozen=True, slots=True)
class DescribedGraph:
    """The operators of one optimized graph, before `assemble` makes features of those of many.

    Attributes:
        cpu: that the graph was optimized for.
        kinds: kind of each operator.
        types: qualified type of each operator and its variant.
        rows: for each operator, the columns that are known from itself and its graph.
        costs: arithmetic and traffic of each operator.
    """

    cpu: Cpu
    kinds: list[str]
    types: list[str]
    rows: list[list[float]]
    costs: list[OperatorCost]


def extract(graph: OptimizedGraph, *, threads: int, whole: bool = True) -> OperatorFeatures:
    """Turn the operators of an optimized graph into features.

    Args:
        graph: what the runtime executes.
        threads: compute threads of the run.
        whole: False for an operator that was taken out of its network. What its neighbours leave in the caches is not
            known then, and that feature is NaN.
    """
    return assemble([describe_graph(graph, threads=threads, whole=whole)])


def describe_graph(
    graph: OptimizedGraph, *, threads: int, whole: bool = True, plan: MemoryPlan | None = None
) -> DescribedGraph:
    """Do the part of `extract` that goes operator by operator; the arguments are the same.

    Args:
        graph: what the runtime executes.
        threads: compute threads of the run.
        whole: False for an operator that was taken out of its network.
        plan: the memory plan of the graph, where the caller has it.
    """
    kinds, types, rows = [], [], []
    each = [cost(op, graph) for op in graph.operators]
    traffic = _Traffic(graph, plan or memory_plan(graph), each) if whole else None
    for op, operator_cost in zip(graph.operators, each, strict=True):
        reuse = traffic.passing(op, operator_cost) if traffic else _UNKNOWN_REUSE
        variant = variant_of(op, graph)
        kinds.append(kind_of(op, graph))
        types.append(f"{op.qualified_type} {variant}" if variant else op.qualified_type)
        rows.append(_row(op, graph, operator_cost, threads, variant, reuse))
    return DescribedGraph(graph.cpu, kinds, types, rows, each)


def assemble(described: Sequence[DescribedGraph]) -> OperatorFeatures:
    """Make the features of the operators of several graphs, one graph after the other; see `OperatorFeatures.part`.

    Args:
        described: what `describe_graph` gave, all for one kind of CPU.

    Raises:
        ValueError: the graphs were optimized for several kinds of CPU.
    """
    cpus = {one.cpu for one in described}
    if len(cpus) > 1:
        raise ValueError(f"graphs for one kind of CPU are needed, and these are for {cpus}")
    kinds, types, rows, costs = [], [], [], []
    for one in described:
        kinds += one.kinds
        types += one.types
        rows += one.rows
        costs += one.costs
    cpu = cpus.pop() if cpus else Cpu.SSE
    names = (*_OF_OPERATOR, *_OF_NETWORK)
    values = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * len(names)).reshape(-1, len(names))
    columns = dict(zip(names, values.T, strict=True))
    first = np.array([roofline(operator_cost) for operator_cost in costs])
    work = kernel_work(columns, kinds, cpu)
    every = np.column_stack([values[:, : len(_OF_OPERATOR)], np.log(first), _tiles(columns, cpu)])
    return OperatorFeatures(tuple(kinds), every.astype(np.float32), first, work, tuple(types), tuple(costs))


def _tiles(columns: Mapping[str, NDArray[np.float64]], cpu: Cpu) -> NDArray[np.float64]:
    """Columns of `_OF_TILES`: an operator as a matrix product, and what is left over where tiles do not divide it."""
    groups = np.maximum(columns["groups"], 1)
    filters = columns["out_channels"] / groups
    values = columns["in_channels"] / groups * columns["kernel_height"] * columns["kernel_width"]
    positions = columns["out_height"] * columns["out_width"]
    tile_rows, tile_columns = TILES[cpu.nchwc_block]
    blocks = filters / cpu.nchwc_block
    return np.column_stack(
        [
            filters, values, positions, np.ceil(blocks) % FILTER_BLOCKS, blocks % 1,
            filters % tile_rows, positions % tile_columns, np.log(np.maximum(filters * values * positions, 1)),
        ]
    )  # fmt: skip


def _moved_bytes(operator_cost: OperatorCost) -> int:
    return operator_cost.input_bytes + operator_cost.weight_bytes + operator_cost.output_bytes


class _Reuse(NamedTuple):
    """What decides which cache an operator reads from, in bytes.

    What was never used before in an inference was used in the one before: all weights and activations ago.

    Attributes:
        data: read and written since the oldest of its inputs that are no weights was written.
        weight: since its largest weight was read last, by whatever operator.
        buffer: since the buffer of its result was used last.
        in_place: whether that is the buffer of one of its inputs.
        first_use: whether no operator before it in the inference read its largest weight.
    """

    data: float
    weight: float
    buffer: float
    in_place: bool
    first_use: bool


_UNKNOWN_REUSE = _Reuse(math.nan, math.nan, math.nan, in_place=False, first_use=True)


class _Traffic:
    """Bytes read and written since a tensor was written, a weight read or a buffer used: what caches still hold."""

    def __init__(self, graph: OptimizedGraph, plan: MemoryPlan, costs: Sequence[OperatorCost]) -> None:
        self._graph = graph
        self._network = graph.weight_bytes + graph.lifetimes.peak_bytes
        self._buffers = {name: placement.buffer for name, placement in plan.placements.items()}
        self._total = 0
        # What was there before the inference began was written a whole inference ago.
        self._before = -sum(map(_moved_bytes, costs))
        self._written: dict[str, int] = {}
        self._used: dict[str, int] = {}

    def passing(self, op: Operator, operator_cost: OperatorCost) -> _Reuse:
        """Pass an operator, in their order."""
        weights, n_bytes = self._graph.weight_names, self._graph.n_bytes
        oldest, largest = self._total, ""
        read: list[str] = []
        for name in op.inputs:
            if name in weights:
                if not largest or n_bytes[name] > n_bytes[largest]:
                    largest = name
                read.append(name)
            elif name:
                oldest = min(oldest, self._written.get(name, self._before))
                read.append(self._buffers[name])
        made = [self._buffers.get(name, name) for name in op.outputs]
        result = made[0] or self._buffers[op.result]
        first_use = not largest or largest not in self._used
        found = _Reuse(self._total - oldest, self._since(largest), self._since(result), result in read, first_use)
        self._total += _moved_bytes(operator_cost)
        for name in op.outputs:
            self._written[name] = self._total
        for name in (*read, *made):
            self._used[name] = self._total
        return found

    def _since(self, name: str) -> int:
        used = self._used.get(name)
        return self._network if used is None else min(self._network, self._total - used)


def _row(
    op: Operator,
    graph: OptimizedGraph,
    operator_cost: OperatorCost,
    threads: int,
    variant: str,
    reuse: _Reuse,
) -> list[float]:
    """Columns of `_OF_OPERATOR`, then `_OF_NETWORK`."""
    inputs, attributes = op.inputs, op.attributes
    row = describe(op)
    data_at = _data_at(op)
    entering = graph.tensors[inputs[data_at]] if inputs and inputs[data_at] else None
    leaving = graph.tensors[op.result]
    data, out = (entering.shape if entering else ()), leaving.shape
    run = contiguous_run(op, graph, data, out)
    if row.kind == "recurrent":
        out = _all_states(op, graph, data)
    elif attributes.get("channels_last") == 1:
        data, out = _channels_first(data), _channels_first(out)
    in_height, in_width = _spatial(data)
    out_height, out_width = _spatial(out)
    rows = math.prod(out[:-1])
    elements = rows * out[-1] if out else 1
    if row.kind in ("gemm", "quantized") and _weight_at(op) is None:
        in_height, out_height, out_width = rows // _matrices(op, graph, out), 1, 1
    kernel_height, kernel_width = _kernel(op, graph)
    flops, read, weight, written = (
        operator_cost.flops, operator_cost.input_bytes, operator_cost.weight_bytes, operator_cost.output_bytes
    )  # fmt: skip
    return [
        row.code,
        threads,
        math.log1p(flops),
        math.log1p(read),
        math.log1p(weight),
        math.log1p(written),
        math.log1p(flops / ((read + weight + written) or 1)),
        data[0] if data else 1,
        data[1] if len(data) > 1 else 1,
        out[1] if len(out) > 1 else 1,
        _groups(op),
        in_height,
        in_width,
        out_height,
        out_width,
        kernel_height,
        kernel_width,
        _first(attributes.get("strides")),
        _first(attributes.get("dilations")),
        len(inputs),
        len(op.outputs),
        1.0 if "activation" in attributes else 0.0,
        1.0 if len(inputs) > 3 and op.type in ("Conv", "FusedConv") and inputs[3] else 0.0,
        1.0 if row.kind == "conv" and len(data) > 1 and data[1] < 8 else 0.0,
        math.log1p(run),
        math.log1p(rows),
        1.0 if row.binary and _broadcasts(op, graph, elements) else 0.0,
        _ELEMENTS.get(entering.dtype, _OTHER_ELEMENT) if entering else _OTHER_ELEMENT,
        _ELEMENTS.get(leaving.dtype, _OTHER_ELEMENT),
        math.log1p(_handled(op, graph, elements)),
        variant_code(variant),
        1.0 if reuse.in_place else 0.0,
        1.0 if reuse.first_use else 0.0,
        *map(math.log1p, (reuse.data, reuse.weight, reuse.buffer)),
    ]


_ELEMENTS = {"float32": 0, "float16": 1, "int8": 2, "uint8": 3, "int32": 4, "int64": 5, "bool": 6}
_OTHER_ELEMENT = 7


def _handled(op: Operator, graph: OptimizedGraph, elements: int) -> int:
    """Elements of the result; of a scatter those that are placed, which may be more or fewer."""
    return graph.tensors[op.inputs[2]].elements if op.type == "ScatterElements" else elements


def _data_at(op: Operator) -> int:
    """Position of the first activation: the quantized Concat states the scale of its output first."""
    return 2 if op.type == "QLinearConcat" else 0


def _spatial(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a tensor in NCHW. A matrix is a column of vectors; a volume's slices lie below each other."""
    if len(shape) >= 4:
        return math.prod(shape[2:-1]), shape[-1]
    return (1, shape[-1]) if len(shape) == 3 else (1, 1)


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:1], *shape[-1:], *shape[1:-1])


def _all_states(op: Operator, graph: OptimizedGraph, data: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of all states of a recurrent layer, whether it returns them or not: steps, directions, batch, units."""
    recurrence = graph.tensors[op.inputs[2]].shape
    units = recurrence[1 if op.domain else 2]  # quantized weights are transposed
    return (*data[:1], recurrence[0], *data[1:2], units)


def _weight_at(op: Operator) -> int | None:
    """Position of a convolution's weight; None for other operators."""
    if op.type in ("Conv", "FusedConv", "ConvTranspose", "ConvInteger"):
        return 1
    return 3 if op.type == "QLinearConv" else None


def _matrices(op: Operator, graph: OptimizedGraph, out: tuple[int, ...]) -> int:
    """Products that a matrix product does one after the other; a weight that all share makes one of them."""
    second = 3 if op.type == "QLinearMatMul" else 1
    shape = graph.tensors[op.inputs[second]].shape if len(op.inputs) > second and op.inputs[second] else ()
    return math.prod(out[:-2]) if len(shape) > 2 and not op.type.endswith("NBits") else 1


def _kernel(op: Operator, graph: OptimizedGraph) -> tuple[int, int]:
    """Height and width of an operator's window, as `_spatial`. Convolutions need not state it."""
    shape: tuple[int, ...] = _ints(op, "kernel_shape", ())
    weight = _weight_at(op)
    if not shape and weight is not None and len(op.inputs) > weight:
        shape = graph.tensors[op.inputs[weight]].shape[2:]
    return (math.prod(shape[:-1]), shape[-1]) if shape else (1, 1)


def _ints(op: Operator, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = op.attributes.get(name)
    return tuple([int(v) for v in value]) if isinstance(value, tuple) and value else default


def _first(value: AttributeValue | None) -> int:
    """The first of several integers, 1 where there are none."""
    return int(value[0]) if isinstance(value, tuple) and value else 1


def _groups(op: Operator) -> int:
    value = op.attributes.get("group", 1)
    return value if isinstance(value, int) else 1


def _broadcasts(op: Operator, graph: OptimizedGraph, elements: int) -> bool:
    """Whether an activation is stretched over the output, as the scale of a squeeze-and-excite block is."""
    return any(
        graph.tensors[name].kind is not TensorKind.WEIGHT and math.prod(graph.tensors[name].shape) != elements
        for name in op.inputs
        if name
    )
