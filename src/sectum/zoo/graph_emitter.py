"""Architectures as graphs, without making their weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sectum.errors import UsageError
from sectum.graph.ir import Graph, Tensor, TensorKind
from sectum.graph.reader import parse
from sectum.zoo.architecture import Architecture
from sectum.zoo.lowered import INPUT, OPSET, OUTPUT, Values, Weight
from sectum.zoo.lowering import lower
from sectum.zoo.onnx_emitter import without_weights
from sectum.zoo.program import Program


def to_graph(network: Architecture | Program, batch: int = 1, *, fold_batch_norm: bool = False) -> Graph:
    """Make the graph that reading the emitted ONNX model gives.

    Args:
        network: it.
        batch: the first dimension of every activation.
        fold_batch_norm: as for :func:`sectum.zoo.to_onnx`.

    Raises:
        UsageError: the batch is not positive.
    """
    if batch < 1:
        raise UsageError(f"batch {batch} is out of range: give 1 or more")
    if isinstance(network, Program):
        return replace(parse(without_weights(network, batch), weights_elsewhere=True).bind().graph, name=network.name)
    lowered = lower(network, fold_batch_norm=fold_batch_norm)
    tensors: dict[str, Tensor] = {}
    for name, shape in lowered.shapes.items():
        kind = TensorKind.INPUT if name == INPUT else TensorKind.ACTIVATION
        tensors[name] = Tensor(name, (batch, *shape), "float32", kind)
    for constant in lowered.constants.values():
        tensors[constant.name] = _constant(constant)
    return Graph(network.name, tuple(lowered.operators), tensors, (INPUT,), (OUTPUT,), OPSET)


def _constant(constant: Weight | Values) -> Tensor:
    if isinstance(constant, Weight):
        return Tensor(constant.name, constant.shape, "float32", TensorKind.WEIGHT)
    values = np.array(constant.values, dtype=np.int64)
    return Tensor(constant.name, values.shape, "int64", TensorKind.WEIGHT, values)
