"""Synthetic networks whose memory, computation and order of memory accesses are set one by one.

``weights``: convolutions of 1x1 on small maps, each with a weight matrix that it shares with others or not. Memory is
the number of distinct matrices, computation the number of steps times the positions of the map. ``maps``: cheap
operators on large maps, all of which are kept and added up in the end. Memory is the number of maps, computation how
often an operator is applied to each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx
from onnx import TensorProto, helper

from sectum.errors import UsageError
from sectum.zoo.lowered import OPSET, Weight
from sectum.zoo.onnx_emitter import IR_VERSION
from sectum.zoo.weights import Tiles

INPUT, OUTPUT = "input", "output"
_SHARED = -1


class Kind(StrEnum):
    """What fills the memory."""

    WEIGHTS = "weights"
    MAPS = "maps"


class Order(StrEnum):
    """In which order a network uses its matrices or maps again.

    ``cycle`` starts again with the first: 1 2 3 1 2 3; steps after the last whole round repeat the last. ``back`` goes
    through them in reverse: 1 2 3 3 2 1. ``blocks`` uses each several times in a row: 1 1 2 2 3 3. ``between`` uses one
    shared matrix between all others: 1 0 2 0 3 0.
    """

    CYCLE = "cycle"
    BACK = "back"
    BLOCKS = "blocks"
    BETWEEN = "between"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """A network; equal fields make equal networks.

    Attributes:
        kind: what fills its memory.
        order: in which it uses that again.
        distinct: matrices, or maps: its memory.
        steps: of ``weights``, convolutions; of ``maps``, operators on each map before the next one begins.
        channels: of the maps; a matrix is as many squared.
        resolution: of the maps, in pixels.
        batch: images in an inference.
        seed: of the weights.
    """

    kind: Kind
    order: Order
    distinct: int
    steps: int
    channels: int
    resolution: int
    batch: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            UsageError: a field is out of its range, or the order does not go with the kind.
        """
        sizes = (self.distinct, self.steps, self.channels, self.resolution, self.batch)
        if min(sizes) < 1:
            raise UsageError(f"{self}: distinct, steps, channels, resolution and batch are 1 or more")
        if self.kind is Kind.MAPS and self.order not in (Order.CYCLE, Order.BACK):
            raise UsageError(f"maps are added up in order cycle or back, not {self.order}")
        if self.kind is Kind.WEIGHTS and self.steps < self.distinct:
            raise UsageError(f"{self.steps} steps do not use {self.distinct} matrices: give as many steps or more")

    @property
    def key(self) -> str:
        """Names the network."""
        return (
            f"{self.kind}-{self.order}/{self.distinct}x{self.channels}/s{self.steps}/r{self.resolution}/b{self.batch}"
        )


def uses(network: Synthetic) -> list[int]:
    """Which matrix each step of ``weights`` uses, counted from 0; -1 is the one that all share."""
    n, steps = network.distinct, network.steps
    match network.order:
        case Order.CYCLE:
            return [step % n if step < steps // n * n else n - 1 for step in range(steps)]
        case Order.BACK:
            there_and_back = [*range(n), *reversed(range(n))]
            return [there_and_back[step % (2 * n)] for step in range(steps)]
        case Order.BLOCKS:
            return [step * n // steps for step in range(steps)]
        case Order.BETWEEN:
            return [step // 2 % n if step % 2 == 0 else _SHARED for step in range(steps)]


def to_bytes(network: Synthetic) -> bytes:
    """Write a network as an ONNX model.

    ``input`` and ``output`` are float32 of shape [batch, channels, resolution, resolution] (NCHW).
    """
    nodes, weights = _weights(network) if network.kind is Kind.WEIGHTS else _maps(network)
    shape = [network.batch, network.channels, network.resolution, network.resolution]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (INPUT, OUTPUT)]
    graph = helper.make_graph(nodes, network.key, ends[:1], ends[1:], _contents(weights, network.seed))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    content: bytes = model.SerializeToString()
    return content


def _weights(network: Synthetic) -> tuple[list[onnx.NodeProto], list[Weight]]:
    used = uses(network)
    names = [INPUT, *(f"step{index}" for index in range(1, len(used))), OUTPUT]
    nodes = [
        helper.make_node("Conv", [names[index], _matrix(which)], [names[index + 1]], f"conv{index}")
        for index, which in enumerate(used)
    ]
    channels = network.channels
    spread = math.sqrt(1 / channels)  # the values of the maps neither grow nor shrink
    return nodes, [Weight(_matrix(which), (channels, channels, 1, 1), 0.0, spread) for which in sorted(set(used))]


def _matrix(which: int) -> str:
    return "shared" if which == _SHARED else f"matrix{which}"


def _maps(network: Synthetic) -> tuple[list[onnx.NodeProto], list[Weight]]:
    """Each map is made from the one before it; its later operators work in place."""
    nodes, source, made = [], INPUT, []
    for index in range(network.distinct):
        for step in range(network.steps):
            target = f"map{index}_{step}"
            inputs = [source, "shift"] if step == 0 else [source]
            nodes.append(helper.make_node("Sub" if step == 0 else "Sigmoid", inputs, [target], f"make{index}_{step}"))
            source = target
        made.append(source)
    total, *kept = made[-1], *(made[:-1] if network.order is Order.CYCLE else made[-2::-1])
    for index, name in enumerate(kept):
        target = OUTPUT if index == len(kept) - 1 else f"sum{index}"
        nodes.append(helper.make_node("Add", [total, name], [target], f"add{index}"))
        total = target
    return nodes, [Weight("shift", (1,), 0.25, 0.0)]


def _contents(weights: list[Weight], seed: int) -> list[onnx.TensorProto]:
    tiles = Tiles(seed)
    return [
        TensorProto(
            name=weight.name,
            dims=weight.shape,
            data_type=TensorProto.FLOAT,
            raw_data=np.concatenate(list(tiles.chunks(weight))).tobytes(),
        )
        for weight in weights
    ]
