"""The protobuf wire format: iterating over the fields of a message without copying them, and encoding fields.

Source: the protocol-buffers encoding document. A field is a tag (number << 3 | wire type) and a payload; wire
types in use are 0 (varint), 1 (8 bytes), 2 (a length, then that many bytes) and 5 (4 bytes). Groups (3 and 4)
do not occur in ONNX and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

from sectum.errors import ModelMalformed, ModelTooLarge

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Buffer = bytes | mmap
"""Bytes of a file, or memory that holds a part of them (see `sectum.graph.model_file`)."""

Field = tuple[int, int, int, int]
"""Number, wire type, and for a varint its value (then 0), otherwise where its payload starts and stops."""


class FieldBudget:
    """Counts the fields of one file, so that a small file cannot keep the reader busy for long."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def spend(self, n: int) -> None:
        """Count ``n`` fields.

        Raises:
            ModelTooLarge: over the limit.
        """
        self.used += n
        if self.used > self.limit:
            raise ModelTooLarge(
                f"the file has more than {self.limit} protobuf fields, more than any real network; "
                "check its source, or raise Limits.fields"
            )


def varint(buf: Buffer, pos: int, end: int) -> tuple[int, int]:
    """Unsigned varint at ``pos`` (at most 10 bytes, 64 bits) and the position after it."""
    value = shift = 0
    while True:
        if pos >= end:
            raise truncated(pos)
        byte = buf[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, pos
        shift += 7
        if shift > 63:
            raise ModelMalformed(
                f"a number at byte {pos} is longer than 64 bits: this is not an ONNX file; export it again"
            )


def signed(value: int) -> int:
    """Int64 that an unsigned 64-bit varint stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def fields(buf: Buffer, pos: int, end: int, budget: FieldBudget) -> Iterator[Field]:
    """Walk over the fields of the message in ``buf[pos:end]``.

    Raises:
        ModelMalformed: truncated, or not protobuf.
        ModelTooLarge: more fields than the budget holds.
    """
    count = 0
    room = budget.limit - budget.used
    while pos < end:
        count += 1
        if count > room:
            budget.spend(count)
        tag = buf[pos]
        pos += 1
        if tag >= 0x80:
            tag, pos = varint(buf, pos - 1, end)
        kind = tag & 7
        number = tag >> 3
        if number == 0:
            raise ModelMalformed(f"byte {pos - 1} is no protobuf field: this is not an ONNX file")
        if kind == BYTES:
            if pos >= end:
                raise truncated(pos)
            size = buf[pos]
            pos += 1
            if size >= 0x80:
                size, pos = varint(buf, pos - 1, end)
            stop = pos + size
            if stop > end:
                raise truncated(end)
            yield number, BYTES, pos, stop
            pos = stop
        elif kind == VARINT:
            if pos >= end:
                raise truncated(pos)
            value = buf[pos]
            pos += 1
            if value >= 0x80:
                value, pos = varint(buf, pos - 1, end)
            yield number, VARINT, value, 0
        elif kind in (FIXED32, FIXED64):
            stop = pos + (4 if kind == FIXED32 else 8)
            if stop > end:
                raise truncated(end)
            yield number, kind, pos, stop
            pos = stop
        else:
            raise ModelMalformed(f"wire type {kind} at byte {pos - 1}: this is not an ONNX file")
    budget.spend(count)


def truncated(pos: int) -> ModelMalformed:
    """Error for data that ends inside a field."""
    return ModelMalformed(f"the data ends inside a field at byte {pos}: the file is truncated or damaged")


def encode_varint(value: int) -> bytes:
    """Varint; negative numbers as 64-bit two's complement, as protobuf does."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_number(number: int, value: int) -> bytes:
    """Varint field."""
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def encode_header(number: int, size: int) -> bytes:
    """Tag and length, which stand before the payload of a length-delimited field."""
    return encode_varint(number << 3 | BYTES) + encode_varint(size)


def encode_bytes(number: int, payload: bytes) -> bytes:
    """Length-delimited field."""
    return encode_header(number, len(payload)) + payload
