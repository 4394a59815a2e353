"""The layout of tensors in the plaintext of a stream."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import numpy as np

from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.kinds import STREAM_BYTES

ALIGNMENT_BYTES = 64
ITEM_BYTES = {
    "bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip


class Place(NamedTuple):
    """A tensor and its byte range in the stream. ``ends``: end of each item of a ``jpeg`` or ``utf8`` tensor."""

    tensor: Tensor
    begin: int
    end: int
    ends: tuple[int, ...] = ()


@lru_cache(maxsize=64)  # NumPy puts it together anew each time
def dtype_name(dtype: np.dtype[Any]) -> str:
    """NumPy's name of a dtype."""
    return dtype.name


def n_bytes(tensor: Tensor) -> int:
    """The number of bytes of a tensor in a stream.

    Raises:
        MessageRefused: ``BAD_TENSOR``, its fields contradict each other.
    """
    items = prod(tensor.shape)
    if prod(size or 1 for size in tensor.shape) > STREAM_BYTES:  # an empty tensor, but no array can have this shape
        raise refusal(Refusal.BAD_TENSOR, "the dimensions of a tensor that are not 0 multiply to more than 2^31")
    if tensor.encoding == "raw":
        size = items * ITEM_BYTES.get(tensor.dtype, 0)
        good = tensor.dtype != "string" and not tensor.sizes
    else:
        size = sum(tensor.sizes)
        good = len(tensor.sizes) == items and (
            (tensor.dtype == "uint8" and len(tensor.shape) == 1)
            if tensor.encoding == "jpeg"
            else tensor.dtype == "string"
        )
    if not good or size > STREAM_BYTES:
        raise refusal(Refusal.BAD_TENSOR, f"shape, dtype, encoding and sizes of a tensor disagree ({tensor.encoding})")
    return size


@lru_cache(maxsize=64)  # the batches of one client have the same tensors
def layout(tensors: tuple[Tensor, ...], total: int | None = None) -> tuple[Place, ...]:
    """Place tensors one after the other, each at a multiple of 64 bytes.

    Args:
        tensors: the tensors of a BATCH or RESULT.
        total: total from the header, to be checked; None to skip this check.

    Raises:
        MessageRefused: ``BAD_TENSOR``, a tensor contradicts itself, or together they do not have ``total`` bytes.
    """
    places, at = [], 0
    for tensor in tensors:
        at = -(-at // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        end = at + n_bytes(tensor)
        places.append(Place(tensor, at, end, tuple(accumulate(tensor.sizes, initial=at))[1:]))
        at = end
    if at > STREAM_BYTES or total not in (None, at):
        raise refusal(Refusal.BAD_TENSOR, f"tensors of {at} bytes in a stream of {total}")
    return tuple(places)
