"""Bounds on the time of an operator that hold whatever it is: operations and bytes at the fastest and slowest rates.

They are for operators unlike anything that a latency model was trained on. The rates are chosen wide, with the
dataset in view: its operators lie between the bounds when their kind is treated as unknown
(``python -m sectum.lab.training.kinds_left_out``, `docs/support.md`). All are in reference units, so calibration
scales them: one unit is the time of 201 million operations of the GEMM reference kernel, 2 to 3 ms on the machines of
the shipped models.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sectum.ort.operator_type import OperatorType
from sectum.ort.operators import OPERATORS, trained_types
from sectum.predict.features import FEATURES, OperatorFeatures

Floats = NDArray[np.float64]

PEAK_FLOPS = 270e6
"""In a unit, by one thread: a third more than the reference kernel, and more than 99.5 % of all convolutions reach."""
PEAK_BYTES = 250e6
"""In a unit, by one thread: about 100 GB/s, what one core gets from its second cache."""
NARROW = 4
"""In 8 bits, as types that were never trained may compute, there are at most so many operations for each in floats."""
LEAST_START = 4e-4
"""About a microsecond: the shortest time of any operator in the dataset is 0.5e-3 units."""

SLOW_SIDE_FLOPS = 0.8e6
"""In a unit, for each unit of length of the shortest side of a matrix product, a convolution seen as one: short sides
use little of each vector. So slow is the slowest one in 200 for each length of side."""
LONG_SIDE = 64
"""From here on length gives no more: products of long sides are at most four times as slow as the reference kernel."""
SLOW_PRODUCT_FLOPS = 8e6
"""In a unit: a product of one row, which waits for memory, and types that were never trained: plain loops."""
SLOW_FLOPS = 0.4e6
"""In a unit: powers and exponentials, one at a time; LRN and Softplus take 0.5 to 0.7e6."""
SLOW_BYTES = 4e6
"""In a unit: about 1.6 GB/s, copies of single elements."""
SLOW_START = 0.03
"""About 80 microseconds, chosen with a cold Gather from a large table in view. Recurrent layers start once for each
step."""

_COLUMN = {name: index for index, name in enumerate(FEATURES)}
_TRAINED = trained_types()
_UNKNOWN = OperatorType("")


def _by_code(chosen: str) -> NDArray[np.bool_]:
    """For each code whether its type has that property; the last entry, for the code -1, is False."""
    values = {code: chosen == row.kind or getattr(row, chosen, False) is True for code, row in _TRAINED.items()}
    return np.array([values.get(code, False) for code in range(max(values) + 1)] + [False])


_DENSE, _RENAMES, _MOVES, _POOLS, _GEMMS, _QUANTIZED, _RECURRENT = (
    _by_code(name) for name in ("dense", "renames", "move", "pool", "gemm", "quantized", "recurrent")
)


def never_trained(features: OperatorFeatures) -> NDArray[np.bool_]:
    """Which operators are of a type that has no code in the latency models; shape ``(operators,)``."""
    result: NDArray[np.bool_] = features.values[:, _COLUMN["type"]] < 0
    return result


def physical_bounds(features: OperatorFeatures, threads: int) -> tuple[Floats, Floats]:
    """Least and most time of each operator, in reference units; each of shape ``(operators,)``.

    The least is that of its operations at peak or of its bytes at peak, whichever is longer. The most is the sum of its
    operations by a slow kernel, of its bytes at a slow rate, and of a slow start.
    """

    def column(name: str) -> Floats:
        return features.values[:, _COLUMN[name]].astype(np.float64)

    flops, read, weight, written = (
        np.expm1(column(f"log_{name}")) for name in ("flops", "input_bytes", "weight_bytes", "output_bytes")
    )
    code = column("type").astype(np.int64)
    untrained = code < 0
    renames, moves = _RENAMES[code], _MOVES[code]

    # Taps that reach beyond the image are skipped.
    inside = [np.minimum(1.0, column(f"in_{side}") / column(f"kernel_{side}")) for side in ("height", "width")]
    least_flops = flops * inside[0] * inside[1]
    needed = written + np.where(moves | _POOLS[code] | untrained, 0.0, read + weight)  # the others may skip some
    used = written + np.where(moves, np.minimum(read + weight, written), read + weight)

    side = SLOW_SIDE_FLOPS * np.clip(_shortest_side(column, flops=flops), 1, LONG_SIDE)
    products = np.where(_GEMMS[code], np.maximum(side, SLOW_PRODUCT_FLOPS), side)
    products = np.where(_QUANTIZED[code] | _RECURRENT[code], SLOW_PRODUCT_FLOPS, products)
    slow = np.where(_DENSE[code], products, np.where(untrained & (weight > 0), SLOW_PRODUCT_FLOPS, SLOW_FLOPS))
    starts = np.where(_RECURRENT[code], np.maximum(1.0, column("batch")), 1.0)  # their first dimension: the steps
    for index in np.flatnonzero(untrained):
        cost, kind = features.costs[index], features.types[index].partition(" ")[0]
        least_flops[index] = cost.flops_bounds[0] if not cost.supported else flops[index]
        row = OPERATORS.get(kind, _UNKNOWN)
        renames[index] = row.renames
        if row.dense:
            slow[index] = SLOW_PRODUCT_FLOPS
    peak_flops = PEAK_FLOPS * threads * np.where(untrained | _QUANTIZED[code], NARROW, 1)
    peak_bytes = PEAK_BYTES * threads
    low = np.maximum(np.maximum(least_flops / peak_flops, np.where(renames, 0.0, needed) / peak_bytes), LEAST_START)
    high = flops / slow + np.where(renames, 0.0, used) / SLOW_BYTES + SLOW_START * starts
    return low, high


def _shortest_side(column: Callable[[str], Floats], *, flops: Floats) -> Floats:
    """Rows, columns or depth of each operator as a matrix product, whichever is least; for others it means nothing."""
    groups, outputs = np.maximum(column("groups"), 1), np.expm1(column("log_outputs"))
    depth = column("in_channels") / groups * column("kernel_height") * column("kernel_width")
    positions = column("out_height") * column("out_width")
    convolution = np.minimum(np.minimum(column("out_channels") / groups, depth), positions)
    rows = np.maximum(np.expm1(column("rows")), 1)
    each = np.where(column("in_height") > 1, np.minimum(rows, column("in_height")), rows)
    gemm = np.minimum(np.minimum(each, outputs / rows), flops / 2 / np.maximum(outputs, 1))
    return np.where(_GEMMS[column("type").astype(np.int64)], gemm, convolution)
