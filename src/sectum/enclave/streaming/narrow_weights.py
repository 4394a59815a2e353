"""Weights as int8: symmetric, in groups of 128 rows of 16 values, with a scale for each of the 16 columns.

The kernels' packed layouts have 16 output channels side by side, so a column is an output channel, and a group has 128
of its weights. Nothing depends on that: in another layout a column is something else, and the error has the same bound.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 16, 128
GROUP_BYTES = 4 * COLUMNS * ROWS
"""Of float32 values."""
STORED_GROUP_BYTES = 4 * COLUMNS + COLUMNS * ROWS
_LARGEST_CODE = 127

Widen = Callable[[NDArray[np.float32], NDArray[np.int8], NDArray[np.float32]], None]
"""Widens codes by their scales into values: shapes ``(groups, 16)``, ``(groups, 128, 16)`` twice."""


def stored_bytes(n_bytes: int) -> int:
    """Bytes in which so many bytes of weights are stored: whole groups as int8."""
    groups, rest = divmod(n_bytes, GROUP_BYTES)
    return groups * STORED_GROUP_BYTES + rest


def narrowed(plain: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Groups of float32 values as they are stored: all scales, then all codes.

    Raises:
        ValueError: a value is not finite.
    """
    values = plain.view(np.float32).reshape(-1, ROWS, COLUMNS)
    scales = np.abs(values).max(axis=1) / np.float32(_LARGEST_CODE)
    if not np.isfinite(scales).all():
        raise ValueError("weights that are not finite cannot be stored as int8: plan with --weights float32")
    divisors = np.where(scales > 0, scales, np.float32(1))
    codes = np.clip(np.rint(values / divisors[:, None, :]), -_LARGEST_CODE, _LARGEST_CODE).astype(np.int8)
    return np.concatenate([scales.view(np.uint8).ravel(), codes.view(np.uint8).ravel()])


def widened(stored: NDArray[np.uint8], plain: NDArray[np.uint8], widen: Widen) -> None:
    """Widen what `narrowed` gave into memory of its values."""
    groups = plain.nbytes // GROUP_BYTES
    scales = stored[: 4 * COLUMNS * groups].view(np.float32).reshape(groups, COLUMNS)
    codes = stored[4 * COLUMNS * groups : STORED_GROUP_BYTES * groups].view(np.int8)
    widen(scales, codes.reshape(groups, ROWS, COLUMNS), plain.view(np.float32).reshape(groups, ROWS, COLUMNS))


def widen_here(scales: NDArray[np.float32], codes: NDArray[np.int8], values: NDArray[np.float32]) -> None:
    """A `Widen` without the compiled library."""
    np.multiply(codes, scales[:, None, :], out=values)
