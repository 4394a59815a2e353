"""Cells of the NAS-Bench-201 search space (Dong and Yang 2020), on 32x32 pictures of ten classes."""

from __future__ import annotations

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import average_pool, classifier, conv, conv_bn, relu
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Add, BatchNorm
from sectum.zoo.variation import Drawn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
STAGE_CHANNELS = (16, 32, 64)
CELLS_PER_STAGE = 5

Cell = tuple[tuple[int, int, str], ...]


def live(cell: Cell) -> Cell:
    """Keep the edges through which the input reaches the output; the others compute nothing that is used."""
    edges = [edge for edge in cell if edge[2] != "none"]
    reached, needed = {0}, {3}
    for source, target, _ in edges:  # edges are listed in the order of their targets
        if source in reached:
            reached.add(target)
    for source, target, _ in reversed(edges):
        if target in needed:
            needed.add(source)
    useful = reached & needed
    return tuple(edge for edge in edges if edge[0] in useful and edge[1] in useful)


def nasbench201(b: Builder, classes: int, cell: Cell) -> int:
    """Wire the benchmark's skeleton around one cell, whose edges must connect input and output."""
    edges = live(cell)
    with b.scope("stem"):
        x = conv_bn(b, b.input, STAGE_CHANNELS[0], 3, act=None)
    for number, channels in enumerate(STAGE_CHANNELS):
        if number:
            with b.scope(f"reduction{number}"):
                x = _reduction(b, x, channels)
        for index in range(CELLS_PER_STAGE):
            with b.scope(f"stage{number}.cell{index}"):
                x = _cell(b, x, edges)
    with b.scope("last"):
        x = relu(b, b.add(BatchNorm(), x))
    return classifier(b, x, classes)


def _cell(b: Builder, x: int, edges: Cell) -> int:
    values = {0: x}
    for node in (1, 2, 3):
        terms = [_operation(b, values[source], name) for source, target, name in edges if target == node]
        if terms:
            values[node] = terms[0]
            for term in terms[1:]:
                values[node] = b.add(Add(), values[node], term)
    return values[3]


def _operation(b: Builder, x: int, name: str) -> int:
    if name == "skip_connect":
        return x
    if name == "avg_pool_3x3":
        return average_pool(b, x, 3, 1, 1, count_padding=False)
    return _relu_conv_bn(b, x, b.channels(x), 3 if name == "nor_conv_3x3" else 1)


def _relu_conv_bn(b: Builder, x: int, channels: int, kernel: int, stride: int = 1) -> int:
    return b.add(BatchNorm(), conv(b, relu(b, x), channels, kernel, stride))


def _reduction(b: Builder, x: int, channels: int) -> int:
    y = _relu_conv_bn(b, x, channels, 3, 2)
    y = _relu_conv_bn(b, y, channels, 3)
    return b.add(Add(), conv(b, average_pool(b, x, 2, 2), channels), y)


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random cell, drawn again until its input reaches its output."""
    while True:
        cell = tuple((source, target, v.choose(OPERATIONS)) for source, target in EDGES)
        if live(cell):
            return nasbench201(b, classes, cell)


FAMILY = Family("nasbench201", {}, draw, only_resolution=32, classes=10)
