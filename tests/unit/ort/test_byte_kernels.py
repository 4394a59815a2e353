"""Kernels of products of bytes: which run, and the memory that they keep for each thread."""

from __future__ import annotations

from typing import Any

import pytest

from optimized_graphs import as_optimized
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.ort.byte_kernels import in_taps
from sectum.ort.cpu import Cpu
from sectum.ort.operators import describe
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import page_trace
from sectum.units import PAGE_BYTES

BUFFER = 160 * 1024 + 4 * (32 + 2 * 128)


def graph_of(
    kind: str, domain: str, inputs: list[tuple[tuple[int, ...], str]], out: tuple[int, ...], cpu: Cpu,
    attributes: dict[str, Any],
) -> tuple[Operator, OptimizedGraph]:  # fmt: skip
    names = tuple(f"i{number}" for number in range(len(inputs)))
    op = Operator("o", kind, names, ("y",), attributes, domain=domain)
    tensors = {
        name: Tensor(name, shape, dtype, TensorKind.WEIGHT if number else TensorKind.INPUT)
        for number, (name, (shape, dtype)) in enumerate(zip(names, inputs, strict=True))
    }
    tensors["y"] = Tensor("y", out, "uint8", TensorKind.ACTIVATION)
    return op, as_optimized(Graph("one", (op,), tensors, names[:1], ("y",), 17), cpu)


def product(
    cpu: Cpu, rows: int, depth: int, columns: int, left: str = "uint8", right: str = "int8"
) -> tuple[Operator, OptimizedGraph]:
    inputs = [((1, rows, depth), left), ((depth, columns), right), ((), "uint8"), ((), right)]
    return graph_of("MatMulInteger", "", inputs, (1, rows, columns), cpu, {})


def convolution(
    cpu: Cpu, channels: int, filters: int, kernel: int, weights: str = "int8", groups: int = 1
) -> tuple[Operator, OptimizedGraph]:
    image, scale = ((1, 56, 56, channels), "uint8"), ((), "float32")
    weight = ((filters, channels // groups, kernel, kernel), weights)
    inputs = [image, scale, ((), "uint8"), weight, scale, ((), weights), scale, ((), "uint8")]
    attributes = {"channels_last": 1, "group": groups, "pads": (kernel // 2,) * 4}
    return graph_of("QLinearConv", "com.microsoft", inputs, (1, 56, 56, filters), cpu, attributes)


@pytest.mark.parametrize(("left", "right"), [("uint8", "uint8"), ("int8", "int8"), ("int8", "uint8")])
def test_only_unsigned_by_signed_bytes_go_in_tiles(left: str, right: str) -> None:
    """Other pairs of types take the same kernels, and the same memory, with AMX as without."""
    with_amx, without = (product(cpu, 64, 500, 768, left, right) for cpu in (Cpu.AMX, Cpu.AVX512))
    assert describe(with_amx[0]).buffer(*with_amx) is None
    assert page_trace(with_amx[1]).pages == page_trace(without[1]).pages


def test_without_amx_no_kernel_of_bytes_has_a_large_buffer() -> None:
    """Predictions for AVX2 and AVX-512 know nothing of tiles."""
    for cpu in (Cpu.AVX2, Cpu.AVX512):
        assert describe(product(cpu, 64, 512, 768)[0]).buffer(*product(cpu, 64, 512, 768)) is None


def test_tiles_pack_weights_for_a_depth_of_64() -> None:
    """A weight of 500 rows is stored as one of 512 with AMX, and as it is without; each column has a sum."""
    for cpu, depth in ((Cpu.AMX, 512), (Cpu.AVX512, 500)):
        op, graph = product(cpu, 64, 500, 760)
        assert describe(op).packs[1].n_bytes(op, 1, graph) == 768 * (depth + 4)


@pytest.mark.parametrize(
    ("rows", "depth", "panel"),
    [(64, 512, 32 * 512), (17, 100, 32 * 128), (1, 512, 16 * 512), (300, 4096, 32 * 2048)],
)
def test_the_left_side_is_packed_by_32_rows(rows: int, depth: int, panel: int) -> None:
    """The buffer holds up to 32 rows and a depth of 2048; a tile is loaded whole, though it may hold one row."""
    op, graph = product(Cpu.AMX, rows, depth, 768)
    use = describe(op).buffer(op, graph)
    assert use is not None
    assert use.n_bytes == BUFFER
    assert use.parts == ((0, panel), (32 * 2048, 4 * (32 + 512)))


def test_every_thread_has_a_buffer_and_all_operators_share_it() -> None:
    """One thread touches the panel and the sums behind it, two threads touch twice as many pages."""
    op, graph = product(Cpu.AMX, 64, 512, 768)
    without = page_trace(product(Cpu.AVX512, 64, 512, 768)[1]).pages
    both = as_optimized(
        Graph(
            "two", (op, Operator("p", op.type, op.inputs, ("z",), op.attributes)),
            {**graph.tensors, "z": Tensor("z", (1, 64, 768), "uint8", TensorKind.ACTIVATION)},
            graph.inputs, ("y", "z"), 17,
        ),
        Cpu.AMX,
    )  # fmt: skip
    pages = 32 * 512 // PAGE_BYTES + 1
    assert [page_trace(graph, threads=threads).pages - without for threads in (1, 2)] == [pages, 2 * pages]
    assert page_trace(both, threads=2).pages - page_trace(both, threads=1).pages == pages


@pytest.mark.parametrize(
    ("channels", "filters", "weights", "groups", "taps"),
    [
        (64, 64, "int8", 1, True),
        (3, 64, "int8", 1, False),  # the first layer of a classifier
        (64, 60, "int8", 1, True),
        (64, 62, "int8", 1, False),
        (64, 8, "int8", 1, False),
        (64, 64, "uint8", 1, False),
        (64, 64, "int8", 64, True),
        (60, 60, "int8", 60, False),
        (64, 64, "int8", 4, False),
    ],
)
def test_a_convolution_of_bytes_goes_tap_by_tap_where_its_channels_fit(
    channels: int, filters: int, weights: str, groups: int, taps: bool
) -> None:
    """Signed weights without zero point, multiples of 4 channels and of 4 filters; else it is a product."""
    assert in_taps(*convolution(Cpu.AVX512, channels, filters, 3, weights, groups)) is taps
    assert in_taps(*convolution(Cpu.AVX2, channels, filters, 3, weights, groups)) is (taps and filters % 8 == 0)


def test_scratch_memory_of_a_convolution_of_bytes() -> None:
    """A pointer for each tap and position; or sums of 32 bits, and the unrolled image of a group for a product."""
    positions = 56 * 56

    def scratch(*sizes: Any) -> tuple[int, ...]:
        op, graph = convolution(Cpu.AVX512, *sizes)
        return describe(op).scratch(op, graph, 1)

    assert scratch(64, 32, 3) == (8 * 9 * positions,)
    assert scratch(64, 32, 1) == ()
    assert scratch(3, 32, 3) == (4 * 32 * positions, 3 * 9 * positions)
    assert scratch(3, 32, 1) == (4 * 32 * positions,)
    assert scratch(64, 64, 3, "int8", 4) == (4 * 64 * positions, 16 * 9 * positions)
    assert scratch(60, 60, 3, "int8", 60) == (4 * 60 * positions, 8 * 9 * positions)


def test_a_convolution_in_tiles_uses_the_buffer() -> None:
    """Only one that is computed as a product of unsigned by signed bytes."""
    for sizes, used in (((3, 32, 3), True), ((64, 32, 3), False), ((3, 32, 3, "uint8"), False)):
        op, graph = convolution(Cpu.AMX, *sizes)
        assert (describe(op).buffer(op, graph) is not None) is used


def test_weights_of_4_bits_are_widened_32_columns_at_a_time() -> None:
    """As floats, in the buffer of the thread, unless there is one row only, or the product is one of integers."""
    for rows, level, n_bytes in ((24, 0, 4 * 2880 * 32), (1, 0, 0), (24, 4, 0)):
        inputs = [((1, rows, 2880), "float32"), ((600, 90, 16), "uint8"), ((54_000,), "float32")]
        attributes = {"K": 2880, "N": 600, "bits": 4, "block_size": 32, "accuracy_level": level}
        op, graph = graph_of("MatMulNBits", "com.microsoft", inputs, (1, rows, 600), Cpu.AVX512, attributes)
        use = describe(op).buffer(op, graph)
        assert (use.n_bytes if use else 0) == n_bytes


def test_products_of_integers_keep_sums_of_the_blocks_of_4_bits() -> None:
    """Scale and sum of each block of the weight, and of each block of the left side, which becomes bytes."""
    packed = 90 * (600 * 16 + 4 * (600 + 608))
    for rows, level, stored, scratch in (
        (24, 4, packed, (24 * 90 * (32 + 8),)), (1, 4, packed, ()), (24, 0, 600 * 90 * 16, ()),
    ):  # fmt: skip
        inputs = [((1, rows, 2880), "float32"), ((600, 90, 16), "uint8"), ((54_000,), "float32")]
        attributes = {"K": 2880, "N": 600, "bits": 4, "block_size": 32, "accuracy_level": level}
        op, graph = graph_of("MatMulNBits", "com.microsoft", inputs, (1, rows, 600), Cpu.AVX512, attributes)
        assert describe(op).packs[1].n_bytes(op, 1, graph) == stored
        assert describe(op).scratch(op, graph, 1) == scratch
