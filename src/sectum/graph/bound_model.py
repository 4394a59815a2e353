"""Writing a model back with its shapes bound: the file's own bytes, with the changed parts spliced in.

Operators and weights are copied as they lie in the source, so that a model of 500 MB costs one copy. Inputs
and outputs get their static shapes, stale shapes in between are left out, weights in other files are taken
in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sectum.errors import ModelTooLarge, ModelUnreadable
from sectum.graph.binding import Given
from sectum.graph.external_data import ExternalRange
from sectum.graph.inference_context import Constant
from sectum.graph.onnx_format import RawModel, RawNode
from sectum.graph.protobuf import (
    BYTES,
    VARINT,
    FieldBudget,
    encode_bytes,
    encode_header,
    encode_number,
    encode_varint,
    fields,
)
from sectum.graph.raw_tensor import DTYPE_CODES, RawTensor
from sectum.graph.rebatch import Rewrite

_PROTOBUF_LIMIT = 2**31 - 1
Chunk = bytes | memoryview


@dataclass(frozen=True)
class Probe:
    """A run that tells shapes which Sectum cannot compute.

    Attributes:
        model: ONNX model that gives the tensors as outputs.
        feeds: shape or value of each input.
        wanted: names of the tensors.
    """

    model: bytes
    feeds: Mapping[str, Given]
    wanted: frozenset[str]


def bound_chunks(
    buf: bytes,
    raw: RawModel,
    nodes: list[RawNode],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    rewrites: list[Rewrite],
    external: Mapping[str, ExternalRange],
) -> list[Chunk]:
    """Bound model as parts to be written one after the other.

    Args:
        buf: the source file.
        raw: what was parsed from it.
        nodes: its operators in order.
        inputs: ValueInfoProto of each input.
        outputs: ValueInfoProto of each output.
        rewrites: replaced shape constants; their ``node`` is an index into ``nodes``.
        external: where initialisers with external data lie.

    Raises:
        ModelTooLarge: over the 2 GiB of protobuf.
        ModelError: external data cannot be read.
    """
    view = memoryview(buf)
    body: list[Chunk] = []

    def add(number: int, payload: Chunk) -> None:
        body.append(encode_header(number, len(payload)))
        body.append(payload)

    changed = {rewrite.node: rewrite for rewrite in rewrites}
    for index, node in enumerate(nodes):
        rewrite = changed.get(index)
        start, stop = node.span
        add(1, view[start:stop] if rewrite is None else _with_input(buf, node, rewrite.position, rewrite.name))
    add(2, raw.graph.name.encode() or b"graph")
    initialisers = {tensor.name: tensor for tensor in raw.graph.initialisers}
    for tensor in raw.graph.initialisers:
        if tensor.external is None:
            add(5, view[tensor.span[0] : tensor.span[1]])
        else:
            if tensor.name not in external:
                raise ModelUnreadable(f"tensor '{tensor.name}' lies in another file, which was not looked for")
            add(5, _inlined(tensor, external[tensor.name].read()))
    for rewrite in rewrites:
        add(5, _tensor(rewrite.name, rewrite.value))
    for info in inputs:
        add(11, info)
    if raw.ir_version < 4:  # up to IR version 3 every initialiser is listed among the inputs as well
        for tensor in initialisers.values():
            add(11, value_info(tensor.name, tensor.dtype, tensor.shape))
        for rewrite in rewrites:
            add(11, value_info(rewrite.name, "int64", rewrite.value.shape))
    for info in outputs:
        add(12, info)
    size = sum(map(len, body))
    chunks: list[Chunk] = [encode_number(1, raw.ir_version)]
    chunks += [encode_bytes(number, buf[start:stop]) for number, (start, stop) in raw.rest]
    chunks.append(encode_header(7, size))
    if size + sum(map(len, chunks)) > _PROTOBUF_LIMIT:
        raise ModelTooLarge(
            "with its external weights taken in, the model is over the 2 GiB that one ONNX file can hold: "
            "use a smaller model"
        )
    return chunks + body


def _with_input(buf: bytes, node: RawNode, position: int, name: str) -> bytes:
    parts = []
    seen = 0
    for number, kind, a, b in fields(buf, *node.span, FieldBudget(1 << 30)):
        if number == 1 and kind == BYTES:
            parts.append(encode_bytes(1, name.encode() if seen == position else buf[a:b]))
            seen += 1
        else:
            parts.append(_copied(buf, number, kind, a, b))
    return b"".join(parts)


def _inlined(tensor: RawTensor, data: bytes) -> bytes:
    head = b"".join(encode_number(1, size) for size in tensor.shape)
    head += encode_number(2, DTYPE_CODES[tensor.dtype]) + encode_bytes(8, tensor.name.encode())
    return head + encode_bytes(9, data)


def _copied(buf: bytes, number: int, kind: int, a: int, b: int) -> bytes:
    if kind == VARINT:
        return encode_number(number, a)
    if kind == BYTES:
        return encode_bytes(number, buf[a:b])
    return encode_varint(number << 3 | kind) + buf[a:b]


def _tensor(name: str, value: Constant) -> bytes:
    head = b"".join(encode_number(1, size) for size in value.shape)
    data = np.ascontiguousarray(value, dtype="<i8").tobytes()
    return head + encode_number(2, DTYPE_CODES["int64"]) + encode_bytes(8, name.encode()) + encode_bytes(9, data)


def value_info(name: str, dtype: str = "", shape: Sequence[int | str | None] = ()) -> bytes:
    """ValueInfoProto of a tensor; only its name if no type is given. Dimensions may be symbols, or None."""
    if not dtype:
        return encode_bytes(1, name.encode())
    dims = b"".join(
        encode_bytes(1, b"" if dim is None else encode_bytes(2, dim.encode()) if isinstance(dim, str) else
                     encode_number(1, dim))
        for dim in shape
    )  # fmt: skip
    tensor = encode_number(1, DTYPE_CODES[dtype]) + encode_bytes(2, dims)
    return encode_bytes(1, name.encode()) + encode_bytes(2, encode_bytes(1, tensor))
