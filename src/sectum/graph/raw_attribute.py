"""Attributes of operators as stored in the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from sectum.errors import ModelMalformed, ModelTooLarge
from sectum.graph.ir import AttributeValue
from sectum.graph.message_reader import MessageReader, Span
from sectum.graph.protobuf import BYTES, FIXED32, VARINT, fields, signed, varint
from sectum.graph.raw_tensor import RawTensor, parse_tensor

# AttributeProto.AttributeType
_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS, _TENSORS, _GRAPHS = range(1, 11)
_LAST_TYPE = 14  # sparse tensors and types: they stay in the file, and no cost depends on them


@dataclass(slots=True)
class RawAttribute:
    """An AttributeProto: a value, a tensor (with a value too if it is a scalar), or where subgraphs lie."""

    name: str
    value: AttributeValue | None = None
    tensor: RawTensor | None = None
    graphs: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class _Parts:
    name: str = ""
    declared: int = 0
    scalars: dict[int, AttributeValue] = field(default_factory=dict)
    tensors: list[RawTensor] = field(default_factory=list)
    graphs: list[Span] = field(default_factory=list)
    ints: list[int] = field(default_factory=list)
    floats: list[float] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)

    def type(self) -> int:
        """Give the declared type, or the one that fits the content: the oldest files do not declare it."""
        if self.declared:
            return self.declared
        if self.scalars:
            return next(iter(self.scalars))
        for content, kind in ((self.tensors, _TENSOR), (self.graphs, _GRAPH), (self.floats, _FLOATS)):
            if content:
                return kind
        return _STRINGS if self.strings else _INTS


def parse_attribute(reader: MessageReader, start: int, stop: int) -> RawAttribute:
    """AttributeProto in ``buf[start:stop]`` of the reader.

    Raises:
        ModelMalformed: encoded wrongly, or without a name.
        ModelTooLarge: a list or a text over its limit.
    """
    parts = _collect(reader, start, stop)
    if not parts.name:
        raise ModelMalformed(f"an attribute at byte {start} has no name: export the model again")
    result = RawAttribute(parts.name)
    kind = parts.type()
    if kind in (_INT, _FLOAT, _STRING):
        empty: dict[int, AttributeValue] = {_INT: 0, _FLOAT: 0.0, _STRING: ""}
        result.value = parts.scalars.get(kind, empty[kind])
    elif kind == _INTS:
        result.value = tuple(parts.ints)
    elif kind == _FLOATS:
        result.value = tuple(parts.floats)
    elif kind == _STRINGS:
        result.value = tuple(parts.strings)
    elif kind == _TENSOR:
        reader.expect(len(parts.tensors) == 1, f"tensor attribute '{parts.name}'")
        result.tensor = parts.tensors[0]
        if result.tensor.elements == 1 and (array := result.tensor.array(reader.buf)) is not None:
            fill: Any = array.item()
            result.value = fill
    elif kind in (_GRAPH, _GRAPHS):
        reader.expect(kind == _GRAPHS or len(parts.graphs) == 1, f"graph attribute '{parts.name}'")
        result.graphs = parts.graphs
    elif kind != _TENSORS and not _GRAPHS < kind <= _LAST_TYPE:
        raise ModelMalformed(f"attribute '{parts.name}' has the unknown type {kind}: export the model again")
    return result


def _collect(reader: MessageReader, start: int, stop: int) -> _Parts:
    buf = reader.buf
    parts = _Parts()
    for number, kind, a, b in fields(buf, start, stop, reader.budget):
        if number == 1 and kind == BYTES:
            parts.name = reader.text(a, b)
        elif number == 20 and kind == VARINT:
            parts.declared = a
        elif number == 3 and kind == VARINT:
            parts.scalars[_INT] = signed(a)
        elif number == 8 and kind == VARINT:
            parts.ints.append(signed(a))
        elif number == 8 and kind == BYTES:
            # Every number takes a byte or more: the list cannot be longer than its encoding.
            _count(reader, parts, len(parts.ints) + b - a)
            while a < b:
                value, a = varint(buf, a, b)
                parts.ints.append(signed(value))
        elif number == 2 and kind == FIXED32:
            parts.scalars[_FLOAT] = struct.unpack_from("<f", buf, a)[0]
        elif number == 7 and kind in (FIXED32, BYTES):
            _count(reader, parts, len(parts.floats) + (b - a) // 4)
            reader.expect((b - a) % 4 == 0, "a list of floats")
            parts.floats.extend(struct.unpack_from(f"<{(b - a) // 4}f", buf, a))
        elif number == 4 and kind == BYTES:
            parts.scalars[_STRING] = _loose_text(reader, a, b)
        elif number == 9 and kind == BYTES:
            parts.strings.append(_loose_text(reader, a, b))
        elif number in (5, 10) and kind == BYTES:
            parts.tensors.append(parse_tensor(reader, a, b))
        elif number in (6, 11) and kind == BYTES:
            parts.graphs.append((a, b))
        else:
            reader.expect(number > 11, f"attribute field {number}")
    _count(reader, parts, max(len(parts.ints), len(parts.strings)))
    return parts


def _count(reader: MessageReader, parts: _Parts, n: int) -> None:
    limit = reader.limits.attribute_elements
    if n > limit:
        raise ModelTooLarge(
            f"attribute '{parts.name}' lists more than {limit} values; check the file's source or raise "
            "Limits.attribute_elements"
        )


def _loose_text(reader: MessageReader, start: int, stop: int) -> str:
    # A string attribute may hold any bytes; no cost depends on those that are no text.
    if stop - start > reader.limits.text_bytes:
        raise ModelTooLarge(
            f"a string attribute at byte {start} is longer than {reader.limits.text_bytes} bytes: check the "
            "file's source or raise Limits.text_bytes"
        )
    return reader.buf[start:stop].decode(errors="backslashreplace")
