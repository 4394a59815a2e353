"""Synthetic weights that are cheap to make: one block of normal numbers, tiled.

What a network costs does not depend on its weights' values, as long as no two tensors are equal (a runtime
would merge them) and no activation is infinite, denormal or always zero. So all tensors are tiles of one
random block: each begins at another place in it, and has its own spread. The block's length is a prime, so
that the rows of a matrix do not repeat.
"""

from __future__ import annotations

from collections.abc import Iterator

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

    def chunks(self, weight: Weight) -> Iterator[NDArray[np.float32]]:
        """Make the next tensor's elements, little-endian, in row-major order, piece by piece."""
        start = int(self._starts[self._next % BLOCK_ELEMENTS])
        self._next += 1
        left = weight.elements
        tile = np.concatenate((self._block[start:], self._block[:start]))[:left]
        tile = (tile * np.float32(weight.spread) + np.float32(weight.mean)).astype("<f4", copy=False)
        chunk = np.tile(tile, min(CHUNK_BLOCKS, -(-left // BLOCK_ELEMENTS)))
        while left > 0:
            piece = chunk[:left]
            yield piece
            left -= piece.size
