"""From operators to page touches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinds_of_models import KINDS, build
from optimized_graphs import as_optimized
from places import LIGHT
from sectum.graph import read
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.ort.cpu import Cpu
from sectum.ort.kernel_memory import convolution_scratch_bytes, im2col_block
from sectum.ort.operators import describe
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import MIN_PAGED_BYTES, page_trace
from sectum.ort.weight_memory import FLOAT_PANELS, gathered_rows, used_taps
from sectum.paging.replacement import working_set_pages
from sectum.units import PAGE_BYTES


@pytest.fixture(scope="module", params=["squeezenet", "shufflenet", "inception_v1", "bvlc_alexnet"])
def runtime(request):
    return optimize(read(LIGHT / f"light_{request.param}.onnx").graph, Cpu.AVX2)


def test_the_working_set_is_the_distinct_pages(runtime):
    """Pages that several operators touch are counted once."""
    trace = page_trace(runtime)
    distinct = {page for _, first, n_pages in trace.touches.tolist() for page in range(first, first + n_pages)}
    assert trace.pages == len(distinct)


def test_weights_and_activations_share_no_page(runtime):
    """Weights come first, activations after them, so that their pages can be told apart."""
    trace = page_trace(runtime)
    _, first, n_pages = trace.touches.T
    assert ((first + n_pages <= trace.weight_pages) | (first >= trace.weight_pages)).all()


def test_operators_touch_in_their_order(runtime):
    """Touches follow the order of execution, and every operator index is one of the graph's."""
    indices = page_trace(runtime).touches[:, 0].tolist()
    assert indices == sorted(indices)
    assert indices[-1] < len(runtime.operators)


def test_weight_pages_hold_every_large_weight_once(runtime):
    """The weight pages are those of the distinct weights of 64 KiB and more, each rounded up to pages."""
    sizes = {}
    for op in runtime.operators:
        for position, name in enumerate(op.inputs):
            if name and runtime.tensors[name].kind is TensorKind.WEIGHT:
                packing = describe(op).packs.get(position)
                packed_bytes = packing.n_bytes(op, position, runtime) if packing else None
                sizes[name] = packed_bytes or runtime.n_bytes[name]
    expected = sum(-(-size // PAGE_BYTES) for size in sizes.values() if size >= MIN_PAGED_BYTES)
    assert page_trace(runtime).weight_pages == expected


def graph_of(op: Operator, cpu: Cpu = Cpu.AVX2, **shapes: tuple[tuple[int, ...], TensorKind]) -> OptimizedGraph:
    tensors = {name: Tensor(name, shape, "float32", kind) for name, (shape, kind) in shapes.items()}
    inputs = tuple(name for name, tensor in tensors.items() if tensor.kind is TensorKind.INPUT)
    return as_optimized(Graph("one", (op,), tensors, inputs, op.outputs, 17), cpu)


def test_matrix_weights_are_packed_into_panels_of_sixteen_columns():
    """1000 columns are stored as 1008, whichever way round the weight lies."""
    for transposed, shape in ((0, (4096, 1000)), (1, (1000, 4096))):
        op = Operator("g", "Gemm", ("x", "w"), ("y",), {"transB": transposed})
        graph = graph_of(
            op,
            x=((1, 4096), TensorKind.INPUT),
            w=(shape, TensorKind.WEIGHT),
            y=((1, 1000), TensorKind.ACTIVATION),
        )
        assert FLOAT_PANELS.n_bytes(op, 1, graph) == 4096 * 1008 * 4


def conv(kernel: int, pads: tuple[int, ...], positions: int = 56) -> tuple[Operator, OptimizedGraph]:
    op = Operator("c", "Conv", ("x", "w"), ("y",), {"pads": pads, "strides": (1, 1), "group": 1})
    graph = graph_of(
        op,
        x=((1, 32, positions, positions), TensorKind.INPUT),
        w=((64, 32, kernel, kernel), TensorKind.WEIGHT),
        y=((1, 64, positions, positions), TensorKind.ACTIVATION),
    )
    return op, graph


def test_a_pointwise_convolution_needs_no_scratch_memory():
    """It is a matrix product as it stands."""
    op, graph = conv(1, (0, 0, 0, 0))
    assert convolution_scratch_bytes(op, graph, threads=1) == ()


def test_an_unrolled_convolution_needs_scratch_memory_for_each_thread():
    """Images are unrolled in segments, one for each thread."""
    op, graph = conv(3, (1, 1, 1, 1))
    (one,), (two,) = (convolution_scratch_bytes(op, graph, threads=n) for n in (1, 2))
    assert two == 2 * one > 0


@pytest.mark.parametrize(
    ("values", "positions", "together"),
    [(288, 3136, (128, 128)), (27, 12544, (27, 512)), (800, 49, (256, 49)), (4, 4, (4, 4))],
)
def test_a_convolution_unrolls_a_segment_at_a_time(values: int, positions: int, together: tuple[int, int]) -> None:
    """Where there are few values or positions, more of the other are taken; scratch memory is that of a segment."""
    assert im2col_block(values, positions) == together


def blocked(
    kernel: int, size: int, cpu: Cpu, *, stride: int = 1, channels: int = 64
) -> tuple[Operator, OptimizedGraph]:
    pad = kernel // 2
    attributes = {"pads": (pad,) * 4, "strides": (stride, stride), "group": 1}
    op = Operator("c", "Conv", ("x", "w"), ("y",), attributes, domain="com.microsoft.nchwc")
    out = (size + 2 * pad - kernel) // stride + 1
    graph = graph_of(
        op,
        cpu,
        x=((1, channels, size, size), TensorKind.INPUT),
        w=((channels, channels, kernel, kernel), TensorKind.WEIGHT),
        y=((1, channels, out, out), TensorKind.ACTIVATION),
    )
    return op, graph


def test_taps_that_meet_padding_only_are_not_read() -> None:
    """Of a 7x7 kernel on a map of one pixel only the middle tap counts: one page or two of each block's twelve."""
    op, graph = blocked(7, 1, Cpu.AVX512)
    used = used_taps(op, graph, 1, graph.n_bytes["w"])
    assert len(used) == (64 // 16) ** 2
    assert used[0] == (24 * 16 * 16 * 4, 16 * 16 * 4)
    assert page_trace(graph).used_weight_pages < page_trace(graph).weight_pages / 5


@pytest.mark.parametrize(("kernel", "size", "block"), [(3, 14, 16), (7, 7, 16), (3, 1, 8), (1, 1, 16)])
def test_a_weight_without_a_page_of_unread_taps_is_read_whole(kernel: int, size: int, block: int) -> None:
    """Maps as large as the kernel use all taps; gaps of less than a page save no page."""
    op, graph = blocked(kernel, size, Cpu.of_block(block))
    stored = graph.n_bytes["w"]
    ((start, n_bytes),) = used_taps(op, graph, 1, stored)
    assert start < PAGE_BYTES
    assert n_bytes > stored - 2 * PAGE_BYTES


@pytest.mark.parametrize(("indices", "row"), [(40, 128), (1, 4096), (300, 16), (5000, 128)])
def test_a_gather_touches_the_pages_of_its_rows_not_of_its_table(indices: int, row: int) -> None:
    """An embedding touches at most a row for each index, and the whole table only where the indices cover it."""
    rows = 3000
    op = Operator("e", "Gather", ("w", "x"), ("y",), {"axis": 0})
    graph = graph_of(
        op,
        x=((1, indices), TensorKind.INPUT),
        w=((rows, row), TensorKind.WEIGHT),
        y=((1, indices, row), TensorKind.ACTIVATION),
    )
    trace = page_trace(graph)
    of_a_row = 4 * row // PAGE_BYTES + 2
    assert 0 < trace.used_weight_pages <= min(trace.weight_pages, indices * of_a_row)
    assert (trace.used_weight_pages == trace.weight_pages) == (
        indices >= rows or 4 * row * rows // indices < PAGE_BYTES
    )


def table(rows: int, indices: tuple[int, ...], value: list[int] | None = None) -> tuple[Operator, OptimizedGraph]:
    op = Operator("g", "Gather", ("w", "i"), ("y",), {"axis": 0})
    graph = graph_of(
        op,
        w=((rows, 1024), TensorKind.WEIGHT),
        i=(indices, TensorKind.INPUT if value is None else TensorKind.WEIGHT),
        y=((*indices, 1024), TensorKind.ACTIVATION),
    )
    if value is not None:
        tensors = {**graph.tensors, "i": replace(graph.tensors["i"], value=np.array(value))}
        graph = replace(graph, tensors=tensors)
    return op, graph


def test_rows_that_are_known_are_read_and_no_others() -> None:
    """Of a table with constant indices the rows at these indices count, each once."""
    op, graph = table(5000, (4,), [7, -1, 7, 900])
    assert gathered_rows(op, graph, 0, graph.n_bytes["w"]) == [
        (7 * 4096, 4096),
        (900 * 4096, 4096),
        (4999 * 4096, 4096),
    ]


def of_kind(kind: str, folder: Path) -> OptimizedGraph:
    path = folder / "model.onnx"
    path.write_bytes(build(kind))
    return optimize(read(path).graph, Cpu.AVX512)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pass_together_goes_through_the_working_set(kind: str, tmp_path: Path) -> None:
    """Operators that are followed pass by pass touch the same pages: weights and scratch memory are not left out."""
    trace = page_trace(of_kind(kind, tmp_path))
    assert working_set_pages(trace.touches_under(64)) == trace.pages


def test_recurrent_weights_are_read_again_at_each_step(tmp_path: Path) -> None:
    """Where they do not fit, every step loads them; where they do, they are read once."""
    graph = of_kind("rnn", tmp_path)
    trace = page_trace(graph)
    steps, weight = 80, 256
    small = trace.touches_under(128)[:, 2].sum()
    assert steps * weight < small < (steps + 3) * weight
    assert trace.touches_under(1024)[:, 2].sum() < 3 * trace.pages
