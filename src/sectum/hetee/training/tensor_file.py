"""Safetensors files: tensors by name, and text about them. Read with limits, and written in one way only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from sectum.hetee.errors import HeteeError, Refusal, refusal

_LENGTH_BYTES, _ALIGNMENT = 8, 8
_HEADER_BYTES = 16 << 20
_TENSORS = 65_536
_ABOUT = "__metadata__"
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "F16": 2, "BF16": 2,
    "F32": 4, "F64": 8,
}  # fmt: skip

_Offset = Annotated[int, Meta(ge=0, lt=1 << 48)]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[_Offset, ...], Meta(max_length=8)]
    data_offsets: tuple[_Offset, _Offset]


class StoredTensor(NamedTuple):
    """A tensor in a file: its type as safetensors names it, its shape, and its bytes, little-endian, in C order."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


class TensorFile(NamedTuple):
    """What a file holds."""

    about: dict[str, str]
    tensors: dict[str, StoredTensor]


def read_tensors(content: bytes | memoryview) -> TensorFile:
    """Read a safetensors file from memory, without copying the tensors.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, it is malformed or over a limit.
    """
    view = memoryview(content)
    length = int.from_bytes(view[:_LENGTH_BYTES], "little") if len(view) >= _LENGTH_BYTES else 0
    if not 2 <= length <= min(_HEADER_BYTES, len(view) - _LENGTH_BYTES):
        raise _refuse(f"its header has {length} bytes, expected 2 to {_HEADER_BYTES}, within the file's {len(view)}")
    data = view[_LENGTH_BYTES + length :]
    try:
        raw = msgspec.json.decode(view[_LENGTH_BYTES : _LENGTH_BYTES + length], type=dict[str, msgspec.Raw])
        about = msgspec.json.decode(raw.pop(_ABOUT, msgspec.Raw(b"{}")), type=dict[str, str])
        if len(raw) > _TENSORS:
            raise _refuse(f"it has {len(raw)} tensors, the limit is {_TENSORS}")
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except (ValueError, RecursionError):
        raise _refuse("its header does not follow the format") from None
    tensors, at = {}, 0
    for name, entry in sorted(entries.items(), key=lambda pair: pair[1].data_offsets):
        begin, end = entry.data_offsets
        if begin != at or end - begin != prod(entry.shape) * ITEM_BYTES.get(entry.dtype, -1):
            raise _refuse(f"the place of the tensor '{name[:80]}' contradicts its type, its shape or the one before")
        tensors[name] = StoredTensor(entry.dtype, entry.shape, data[begin:end])
        at = end
    if at != len(data):
        raise _refuse(f"its tensors have {at} bytes, the file has {len(data)} bytes of data")
    return TensorFile(about, tensors)


def pieces(about: Mapping[str, str], tensors: Mapping[str, StoredTensor]) -> Iterator[bytes | memoryview]:
    """The bytes of a file, in pieces: a header, then each tensor. Equal content is equal bytes."""
    names = sorted(tensors)
    header: dict[str, Any] = {_ABOUT: dict(sorted(about.items()))} if about else {}
    at = 0
    for name in names:
        end = at + len(tensors[name].data)
        header[name] = {
            "dtype": tensors[name].dtype,
            "shape": list(tensors[name].shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield len(text).to_bytes(_LENGTH_BYTES, "little") + text
    for name in names:
        yield tensors[name].data


def joined(parts: Sequence[bytes | memoryview]) -> bytes | memoryview:
    """The parts of a file as one; a single part is not copied."""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_tensors(about: Mapping[str, str], tensors: Mapping[str, StoredTensor]) -> bytes:
    """A whole file."""
    made: Iterable[bytes | memoryview] = pieces(about, tensors)
    return b"".join(made)


def _refuse(why: str) -> HeteeError:
    return refusal(Refusal.MODEL_REFUSED, f"this is no usable safetensors file: {why}", "save the tensors again")
