"""Constant tensors as stored in the file: where the payload is, and how many bytes it must have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.errors import ModelMalformed
from sectum.graph.ir import DTYPE_BYTES
from sectum.graph.message_reader import MessageReader, Span
from sectum.graph.protobuf import BYTES, FIXED32, FIXED64, VARINT, Buffer, fields, signed, varint

# TensorProto.DataType
DTYPES: dict[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128",
    16: "bfloat16", 17: "float8e4m3fn", 19: "float8e5m2", 21: "uint4", 22: "int4",
}  # fmt: skip
DTYPE_CODES = {name: code for code, name in DTYPES.items()}

_NUMPY = {name for name in DTYPE_BYTES if hasattr(np, name) or name == "bool"} - {"string"}
# Which typed field holds which types (onnx.proto, comments of TensorProto), and how it is packed.
_FLOAT_DATA, _INT32_DATA, _STRING_DATA, _INT64_DATA, _RAW, _DOUBLE_DATA, _UINT64_DATA = 4, 5, 6, 7, 9, 10, 11
_FIELD_OF = {
    "float32": _FLOAT_DATA, "complex64": _FLOAT_DATA, "float64": _DOUBLE_DATA, "complex128": _DOUBLE_DATA,
    "int64": _INT64_DATA, "uint32": _UINT64_DATA, "uint64": _UINT64_DATA, "string": _STRING_DATA,
}  # fmt: skip


@dataclass(slots=True)
class RawTensor:
    """A TensorProto; ``span`` is where its bytes lie in the file, ``payload`` where the raw data does."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    span: Span
    payload: Span | None
    typed: list[tuple[int, int, int, int]]
    external: dict[str, str] | None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of the raw encoding."""
        if self.dtype in ("int4", "uint4"):
            return -(-self.elements // 2)
        return self.elements * DTYPE_BYTES[self.dtype]

    def array(self, buf: Buffer) -> NDArray[np.generic] | None:
        """Values, copied; None for types that numpy lacks and for external data."""
        if self.dtype not in _NUMPY or self.external is not None:
            return None
        dtype = np.dtype(self.dtype)
        if self.payload is not None:
            start, stop = self.payload
            return np.frombuffer(buf[start:stop], dtype.newbyteorder("<")).astype(dtype).reshape(self.shape)
        return _typed_array(buf, self, dtype)


def parse_tensor(reader: MessageReader, start: int, stop: int) -> RawTensor:
    """TensorProto in ``buf[start:stop]`` of the reader; its payload is measured, not read.

    Raises:
        ModelMalformed: the payload does not fit the shape, or the type is unknown.
        ModelTooLarge: over a limit.
    """
    reader.count_tensor()
    buf, limits = reader.buf, reader.limits
    name = ""
    dims: list[int] = []
    code = location = 0
    payload: Span | None = None
    typed: list[tuple[int, int, int, int]] = []
    entries: dict[str, str] = {}
    for number, kind, a, b in fields(buf, start, stop, reader.budget):
        if number == 1 and kind == VARINT:
            dims.append(signed(a))
        elif number == 1 and kind == BYTES:
            while a < b and len(dims) <= limits.rank:
                size, a = varint(buf, a, b)
                dims.append(signed(size))
        elif number == 2 and kind == VARINT:
            code = a
        elif number == 8 and kind == BYTES:
            name = reader.text(a, b)
        elif number == _RAW and kind == BYTES:
            payload = (a, b)
        elif number in (_FLOAT_DATA, _INT32_DATA, _STRING_DATA, _INT64_DATA, _DOUBLE_DATA, _UINT64_DATA):
            typed.append((number, kind, a, b))
        elif number == 13 and kind == BYTES:
            key, value = reader.two_texts(a, b, 1, 2)
            entries[key] = value
        elif number == 14 and kind == VARINT:
            location = a
        elif number in (1, 2, 8, _RAW, 13, 14):
            raise ModelMalformed(f"tensor '{name}' is encoded wrongly: the file is damaged or no ONNX model")
    dtype = DTYPES.get(code)
    if dtype is None:
        raise ModelMalformed(
            f"tensor '{name}' has the element type {code}, which is none that Sectum knows: "
            "export the model with float32, float16 or integer weights"
        )
    shape = tuple(dims)
    limits.check_shape(f"tensor '{name}'", shape, DTYPE_BYTES[dtype] or 1)
    tensor = RawTensor(name, shape, dtype, (start, stop), payload, typed, entries if location == 1 else None)
    if location not in (0, 1):
        raise ModelMalformed(f"tensor '{name}' lies at the unknown location {location}: export it again")
    if tensor.external is None:
        _check_payload(buf, tensor)
    return tensor


def _check_payload(buf: Buffer, tensor: RawTensor) -> None:
    if tensor.payload is not None:
        held = tensor.payload[1] - tensor.payload[0]
        wanted, unit = tensor.n_bytes, "bytes"
        if tensor.dtype == "string" or tensor.typed:
            raise ModelMalformed(f"tensor '{tensor.name}' holds both raw and typed data, or text as raw data")
    else:
        wanted, unit = _typed_count(tensor), "values"
        held = _held_values(buf, tensor)
    if held != wanted:
        raise ModelMalformed(
            f"tensor '{tensor.name}' of shape {list(tensor.shape)} and type {tensor.dtype} needs {wanted} "
            f"{unit} and the file holds {held}: it is truncated or damaged"
        )


def _typed_count(tensor: RawTensor) -> int:
    if tensor.dtype in ("complex64", "complex128"):
        return 2 * tensor.elements
    return tensor.n_bytes if tensor.dtype in ("int4", "uint4") else tensor.elements


def _held_values(buf: Buffer, tensor: RawTensor) -> int:
    held = 0
    right = _FIELD_OF.get(tensor.dtype, _INT32_DATA)
    for number, kind, a, b in tensor.typed:
        if number != right:
            raise ModelMalformed(
                f"tensor '{tensor.name}' of type {tensor.dtype} holds its values in field {number} instead "
                f"of {right}: the file is damaged"
            )
        if kind != BYTES or number == _STRING_DATA:
            held += 1
        elif number in (_FLOAT_DATA, _DOUBLE_DATA):
            held += (b - a) // (4 if number == _FLOAT_DATA else 8)
        else:  # every varint ends with a byte below 0x80
            held += int(np.count_nonzero(np.frombuffer(buf, np.uint8, b - a, a) < 0x80)) if b > a else 0
    return held


def _typed_array(buf: Buffer, tensor: RawTensor, dtype: np.dtype[np.generic]) -> NDArray[np.generic] | None:
    if tensor.dtype in ("float16", "complex64", "complex128", "string"):
        return None
    unsigned = tensor.dtype in ("uint32", "uint64")
    numbers: list[int | float] = []
    for number, kind, a, b in tensor.typed:
        if number in (_FLOAT_DATA, _DOUBLE_DATA):
            part = np.dtype("<f4" if number == _FLOAT_DATA else "<f8")
            if kind not in (BYTES, FIXED32, FIXED64) or (b - a) % part.itemsize:
                raise ModelMalformed(f"tensor '{tensor.name}' is encoded wrongly: the file is damaged")
            numbers.extend(np.frombuffer(buf[a:b], part).tolist())
        elif kind == VARINT:
            numbers.append(a if unsigned else signed(a))
        elif kind == BYTES:
            while a < b:
                value, a = varint(buf, a, b)
                numbers.append(value if unsigned else signed(value))
        else:
            raise ModelMalformed(f"tensor '{tensor.name}' is encoded wrongly: the file is damaged")
    if len(numbers) != tensor.elements:
        raise ModelMalformed(f"tensor '{tensor.name}' does not hold as many values as its shape needs")
    try:
        return np.array(numbers, dtype=dtype).reshape(tensor.shape)
    except OverflowError:
        raise ModelMalformed(
            f"tensor '{tensor.name}' holds values outside its type {tensor.dtype}: the file is damaged"
        ) from None
