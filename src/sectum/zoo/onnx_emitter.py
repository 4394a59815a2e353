"""Architectures as ONNX models.

A model's bytes are written piece by piece: protobuf puts a length before each message, and all lengths are
known beforehand. So a model of 550 MB is never held in memory to be written to a file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from sectum import __version__
from sectum.errors import ModelTooLarge
from sectum.graph.protobuf import encode_bytes, encode_header
from sectum.zoo.architecture import Architecture
from sectum.zoo.lowered import INPUT, OPSET, OUTPUT, Lowered, Values, Weight
from sectum.zoo.lowering import lower
from sectum.zoo.program import MICROSOFT, Program
from sectum.zoo.weights import Tiles

IR_VERSION = 8  # the one that was released with opset 17
SYMBOLIC_BATCH = "N"
LARGEST_MODEL_BYTES = 2**31 - 1  # protobuf reads no larger message

# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9


def to_onnx(
    network: Architecture | Program, *, batch: int | None = None, seed: int | None = None, fold_batch_norm: bool = False
) -> onnx.ModelProto:
    """Write the network as an ONNX model with weights.

    Args:
        network: it.
        batch: the first dimension of input and output; None leaves it open, as ``N``, and is 1 for a `Program`.
        seed: of the weights; None for the architecture's own.
        fold_batch_norm: write convolutions with their normalisation already folded into them.

    Raises:
        ModelTooLarge: the model would not fit in a protobuf message.
        UsageError: the batch of a `Program` is not positive.
    """
    model = onnx.ModelProto()
    model.ParseFromString(to_bytes(network, batch=batch, seed=seed, fold_batch_norm=fold_batch_norm))
    return model


def to_bytes(
    network: Architecture | Program, *, batch: int | None = None, seed: int | None = None, fold_batch_norm: bool = False
) -> bytes:
    """Make the bytes of :func:`to_onnx`; the same for the same arguments."""
    stream = io.BytesIO()
    for piece in _pieces(network, batch, seed, fold_batch_norm=fold_batch_norm):
        stream.write(piece)
    return stream.getvalue()


def write(
    network: Architecture | Program,
    path: str | os.PathLike[str],
    *,
    batch: int | None = None,
    seed: int | None = None,
    fold_batch_norm: bool = False,
) -> None:
    """Write the bytes of :func:`to_onnx` to a file, which is replaced if it exists.

    Raises:
        ModelTooLarge: the model would not fit in a protobuf message.
        UsageError: the batch of a `Program` is not positive.
        OSError: the file cannot be written.
    """
    pieces = _pieces(network, batch, seed, fold_batch_norm=fold_batch_norm)
    first = next(pieces)  # what is refused is refused before an existing file is emptied
    with Path(path).open("wb") as stream:
        stream.write(first)
        stream.writelines(pieces)


def without_weights(network: Program, batch: int) -> bytes:
    """Make the bytes of a model that says its weights lie in another file, which does not exist."""
    lowered = network.lowered(batch)
    before, after = _graph_around_constants(lowered, batch)
    heads = [_constant_head(constant, elsewhere=True) for constant in lowered.constants.values()]
    graph = before + b"".join(heads) + after
    head, tail = _model_around_graph(lowered)
    return head + encode_header(_MODEL_GRAPH, len(graph)) + graph + tail


def _pieces(
    network: Architecture | Program, batch: int | None, seed: int | None, *, fold_batch_norm: bool
) -> Iterator[bytes | memoryview]:
    if isinstance(network, Program):
        lowered = network.lowered(1 if batch is None else batch)
    else:
        lowered = lower(network, fold_batch_norm=fold_batch_norm)
    before, after = _graph_around_constants(lowered, batch)
    constant_heads = [_constant_head(constant) for constant in lowered.constants.values()]
    raw_bytes = [c.n_bytes if isinstance(c, Weight) else 0 for c in lowered.constants.values()]
    graph_bytes = len(before) + len(after) + sum(map(len, constant_heads)) + sum(raw_bytes)
    head, tail = _model_around_graph(lowered)
    if len(head) + graph_bytes + len(tail) + 16 > LARGEST_MODEL_BYTES:
        raise ModelTooLarge(
            f"{network.name} would take {graph_bytes / 1e6:.0f} MB, and an ONNX file holds at most "
            f"{LARGEST_MODEL_BYTES / 1e6:.0f} MB: choose a smaller width or resolution, or another network"
        )
    yield head + encode_header(_MODEL_GRAPH, graph_bytes) + before
    tiles = Tiles(network.seed if seed is None else seed)
    for constant_head, constant in zip(constant_heads, lowered.constants.values(), strict=True):
        yield constant_head
        if isinstance(constant, Weight):
            for chunk in tiles.chunks(constant):
                yield chunk.data
    yield after + tail


def _model_around_graph(lowered: Lowered) -> tuple[bytes, bytes]:
    """Serialise the model's fields that come before the graph, and those after."""
    head = onnx.ModelProto(ir_version=IR_VERSION, producer_name="sectum.zoo", producer_version=__version__)
    opsets = [helper.make_opsetid("", OPSET)]
    if any(op.domain == MICROSOFT for op in lowered.operators):
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    return head.SerializeToString(), onnx.ModelProto(opset_import=opsets).SerializeToString()


def _graph_around_constants(lowered: Lowered, batch: int | None) -> tuple[bytes, bytes]:
    """Serialise the graph's fields that come before the initialisers, and those after."""
    before, after = onnx.GraphProto(name=lowered.name), onnx.GraphProto()
    for op in lowered.operators:
        node = helper.make_node(op.type, op.inputs, op.outputs, op.name, domain=op.domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in op.attributes.items())
        before.node.append(node)
    if lowered.inputs:
        for entering in lowered.inputs:
            after.input.append(helper.make_tensor_value_info(entering.name, _code(entering.dtype), entering.shape))
        for name, dtype in lowered.outputs:
            after.output.append(
                helper.make_tensor_value_info(name, _code(dtype), None) if dtype else onnx.ValueInfoProto(name=name)
            )
        return before.SerializeToString(), after.SerializeToString()
    for name, values in ((INPUT, after.input), (OUTPUT, after.output)):
        shape = (SYMBOLIC_BATCH if batch is None else batch, *lowered.shapes[name])
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return before.SerializeToString(), after.SerializeToString()


def _code(dtype: str) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _constant_head(constant: Weight | Values, *, elsewhere: bool = False) -> bytes:
    """Serialise an initialiser up to the raw data that follow; wholly where its content matters or lies elsewhere."""
    if isinstance(constant, Values):
        proto = helper.make_tensor(constant.name, _code(constant.dtype), constant.dims, constant.values)
        return encode_bytes(_GRAPH_INITIALIZER, proto.SerializeToString())
    proto = TensorProto(name=constant.name, dims=constant.shape, data_type=_code(constant.dtype))
    if elsewhere and constant.spread:
        proto.data_location = TensorProto.EXTERNAL
        proto.external_data.add(key="location", value="weights")
        return encode_bytes(_GRAPH_INITIALIZER, proto.SerializeToString())
    if elsewhere:
        proto.raw_data = np.full(constant.shape, constant.mean, constant.dtype).tobytes()
        return encode_bytes(_GRAPH_INITIALIZER, proto.SerializeToString())
    raw = constant.n_bytes
    body = bytes(proto.SerializeToString()) + encode_header(_TENSOR_RAW_DATA, raw)
    return encode_header(_GRAPH_INITIALIZER, len(body) + raw) + body
