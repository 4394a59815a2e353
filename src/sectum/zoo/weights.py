"""Synthetic weights that are cheap to make: one block of normal numbers, tiled.

What a network costs does not depend on its weights' values, as long as no two tensors are equal (a runtime
would merge them) and no activation is infinite, denormal or always zero. So all tensors are tiles of one
random block: each begins at another place in it, and has its own spread. The block's length is a prime, so
that the rows of a matrix do not repeat.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.zoo.lowered import Weight

BLOCK_ELEMENTS = 65_521
CHUNK_BLOCKS = 4


class Tiles:
    """The content of a model's weights, drawn from one seed; tensors are told apart by their order."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._block = rng.standard_normal(BLOCK_ELEMENTS, dtype=np.float32)
        self._starts = rng.permutation(BLOCK_ELEMENTS)
        self._next = 0

    def chunks(self, weight: Weight) -> Iterator[NDArray[Any]]:
        """Make the next tensor's elements, little-endian, in row-major order, piece by piece."""
        start = int(self._starts[self._next % BLOCK_ELEMENTS])
        self._next += 1
        left = weight.elements
        tile = np.concatenate((self._block[start:], self._block[:start]))[:left]
        tile = _encoded(tile * np.float32(weight.spread) + np.float32(weight.mean), weight.dtype)
        chunk = np.tile(tile, min(CHUNK_BLOCKS, -(-left // BLOCK_ELEMENTS)))
        while left > 0:
            piece = chunk[:left]
            yield piece
            left -= piece.size


def _encoded(tile: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Numbers as elements of a type; three standard deviations fill the range of an integer."""
    if "int" not in dtype:
        return tile.astype(np.dtype(dtype).newbyteorder("<"), copy=False)
    limits = np.iinfo(dtype)
    middle, reach = (limits.max + limits.min + 1) / 2, (limits.max - limits.min) / 2
    encoded: NDArray[Any] = np.clip(np.round(tile * (reach / 3) + middle), limits.min, limits.max).astype(dtype)
    return encoded
