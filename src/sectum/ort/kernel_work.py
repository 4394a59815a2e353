"""What the runtime's kernels do for an operator: countable pieces of work, of which its time is made.

Arithmetic alone does not tell how long an operator takes. A blocked convolution (MLAS, ``MlasNchwcConv``) reads the
image again for every four blocks of filters, adds to its outputs once for each block of input channels, computes the
outputs at padded edges one by one, and starts a kernel for every row. A convolution in the plain layout
(``MlasConvOperation``) unrolls the image, packs it, and multiplies in tiles of rows and columns. Each such piece is a
column here. `sectum.lab.learners.operator_learning` finds what a unit of each costs on a machine; trees correct the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sectum.ort.cpu import Cpu

Floats = NDArray[np.float64]
Columns = Mapping[str, Floats]

FILTER_BLOCKS = 4
"""Blocks of filters that a blocked convolution computes at a time."""
POINTWISE_CHANNELS = 128
"""Input channels that a pointwise one adds up before it writes."""
PRODUCT_DEPTH = 128
"""Values of each position that a matrix product adds up before it writes."""
TILES = {1: (6, 16), 8: (6, 16), 16: (12, 32)}
"""Rows and columns of the inner tile of a matrix product, by the block of the blocked layout: SSE, AVX2, AVX-512."""

L2_BYTES, L3_BYTES = 1e6, 12e6
"""About what a core has of the caches: beyond, traffic gradually becomes that of the next."""

WIDTH = 18

CONSTANTS = (FILTER_BLOCKS, POINTWISE_CHANNELS, PRODUCT_DEPTH, *sorted(TILES.items()), L2_BYTES, L3_BYTES, WIDTH)
"""All that gives the work its meaning."""


def kernel_work(columns: Columns, kinds: Sequence[str], cpu: Cpu) -> Floats:
    """Count the work of operators.

    Args:
        columns: features by name, each of shape ``(operators,)``; see `sectum.predict.features.FEATURES`.
        kinds: kind of each operator.
        cpu: whose kernels.

    Returns:
        Shape ``(operators, WIDTH)``, none negative; what a column means depends on the kind, unused ones are 0.
    """
    sizes = _Sizes(columns, cpu.nchwc_block)
    names = np.asarray(kinds)
    found = np.zeros((len(names), WIDTH))
    for kind in set(kinds):
        chosen = np.flatnonzero(names == kind)
        work = np.column_stack(_WORK[kind](sizes.of(chosen)))
        found[chosen, : work.shape[1]] = work
    return found


class _Sizes:
    """Sizes of operators, as arrays."""

    def __init__(self, columns: Columns, block: int) -> None:
        def column(name: str) -> Floats:
            return np.asarray(columns[name], dtype=np.float64)

        def amount(name: str) -> Floats:
            # Amounts are whole; their logarithms are not, and what is rounded up must not get more for that.
            whole: Floats = np.rint(np.nan_to_num(np.expm1(column(name))))
            return whole

        self.block = block
        self.flops, self.weight = amount("log_flops"), amount("log_weight_bytes")
        self.read, self.written = amount("log_input_bytes"), amount("log_output_bytes")
        self.images, self.rows = column("batch"), amount("rows")
        self.groups = np.maximum(column("groups"), 1)
        self.all_in_channels, self.all_filters = column("in_channels"), column("out_channels")
        self.in_channels = self.all_in_channels / self.groups
        self.filters = self.all_filters / self.groups
        self.height, self.width = column("out_height"), column("out_width")
        self.taps = column("kernel_height") * column("kernel_width")
        self.kernel_width = (column("kernel_width") - 1) * np.maximum(column("dilation"), 1) + 1
        self.in_width, self.stride = column("in_width"), np.maximum(column("stride"), 1)
        self.in_height, self.outputs = column("in_height"), np.maximum(amount("log_outputs"), 1)
        self.n_inputs, self.n_outputs = column("inputs"), column("outputs")
        self.run = np.maximum(amount("contiguous_run"), 1)
        self.nchw_input, self.fused_sum = column("nchw_input") > 0, column("fused_sum") > 0
        # What was used long ago has left the second cache, then the third one. A tensor is read from its begin, which
        # was written before all the rest of it.
        reuse, weight_reuse = amount("log_reuse_bytes") + self.read, amount("log_weight_reuse_bytes")
        self.far, self.cold = _far(reuse), _cold(reuse)
        self.cold_weight, self.first_use = _cold(weight_reuse), column("first_use") > 0
        self.in_place = column("in_place") > 0
        self.cold_buffer = _cold(amount("log_buffer_reuse_bytes") + self.written)
        # Vectors of one image and channel each; of a matrix, its rows.
        self.planes = np.minimum(self.images * self.all_filters, np.maximum(self.rows, 1))

    def of(self, chosen: NDArray[np.int64]) -> _Sizes:
        """Those of some operators."""
        part = object.__new__(_Sizes)
        for name, value in vars(self).items():
            setattr(part, name, value[chosen] if isinstance(value, np.ndarray) else value)
        return part

    @property
    def positions(self) -> Floats:
        """Outputs of one channel, in all images."""
        return self.images * self.height * self.width

    @property
    def edge(self) -> Floats:
        """Outputs of a row whose windows reach into padding."""
        padding = np.maximum(0, (self.width - 1) * self.stride + self.kernel_width - self.in_width)
        return np.minimum(self.width, np.ceil(padding / self.stride))

    def tiled(self, products: Floats) -> tuple[Floats, Floats, Floats]:
        """A matrix product: matrices, multiply-accumulates with the rest of the last tiles, and writes of sums."""
        tile_rows, tile_columns = TILES[self.block]
        each = np.minimum(np.maximum(self.in_height, 1), np.maximum(self.rows, 1))
        matrices = np.maximum(self.rows, 1) / each
        columns = self.outputs / np.maximum(self.rows, 1)
        depth = products / self.outputs
        tiles = np.ceil(each / tile_rows) * np.ceil(columns / tile_columns)
        additions = self.outputs * np.ceil(depth / PRODUCT_DEPTH)
        return matrices, matrices * tiles * tile_rows * tile_columns * depth, additions

    @property
    def one(self) -> Floats:
        """Once for each operator."""
        return np.ones_like(self.flops)


def _far(since_bytes: Floats) -> Floats:
    """Share that has left the second cache after so much traffic."""
    return 1 - 1 / (1 + (since_bytes / L2_BYTES) ** 1.5)


def _cold(since_bytes: Floats) -> Floats:
    """Share that has left the third cache, too."""
    return 1 / (1 + (L3_BYTES / np.maximum(since_bytes, 1)) ** 2)


def _where(mask: NDArray[np.bool_], values: Floats) -> Floats:
    return np.where(mask, values, 0.0)


def _blocked(s: _Sizes) -> list[Floats]:
    blocks = np.ceil(s.filters / s.block)
    sets, rest = np.ceil(blocks / FILTER_BLOCKS), blocks % FILTER_BLOCKS
    pointwise = s.taps == 1
    additions = np.where(pointwise, np.ceil(s.in_channels / POINTWISE_CHANNELS), np.ceil(s.in_channels / s.block))
    filters = s.filters * s.groups
    # An output that is computed alone takes as long as a sum does for each set of filters, however few they are: the
    # kernel has no other outputs of the row to add to meanwhile. A pointwise kernel takes all rows as one.
    alone = np.where(pointwise, 0.0, np.where(s.width == 1, 1.0, s.edge)) * s.images * s.height
    together = s.positions - alone
    products = together * filters * s.in_channels * s.taps
    of_a_set = together * s.in_channels * s.taps * s.block
    return [
        products, of_a_set * sets, *(_where(rest == n, of_a_set * n) for n in (1, 2, 3)),
        alone * s.in_channels * s.taps * s.block * sets,
        s.images * s.groups * s.height * additions * sets,
        s.positions * filters * additions,
        s.read * sets, s.weight, s.weight * s.cold_weight, s.read * s.far, s.written,
        _where(s.nchw_input, products), _where(pointwise, products), _where(s.fused_sum, s.written),
        _where(s.stride > 1, products), s.one,
    ]  # fmt: skip


def _depthwise(s: _Sizes) -> list[Floats]:
    channels = s.filters * s.groups
    products = s.positions * channels * s.taps
    return [
        products, s.images * s.height * s.edge * channels * s.taps, s.images * s.height * channels / s.block,
        s.read, s.written, s.read * s.far, _where(s.stride > 1, products), s.weight, s.one,
    ]  # fmt: skip


def _plain(s: _Sizes) -> list[Floats]:
    tile_rows, tile_columns = TILES[s.block]
    values, positions, calls = s.in_channels * s.taps, s.height * s.width, s.images * s.groups
    single = (s.filters == 1) & (s.in_channels == 1)
    direct = (s.taps == 1) & (s.stride == 1)
    tiles = np.ceil(s.filters / tile_rows) * np.ceil(positions / tile_columns)
    additions = np.ceil(values / PRODUCT_DEPTH)
    unrolled = calls * values * positions
    return [
        _where(~single, unrolled * s.filters),
        _where(~single, calls * tiles * tile_rows * tile_columns * values),
        _where(~single, unrolled), _where(~direct & ~single, unrolled),
        _where(~single, calls * s.filters * positions * additions),
        s.weight, s.weight * s.cold_weight, s.read * s.far, s.written, calls,
        _where(single, unrolled), _where(single, calls * positions),
        _where(~single, calls * tiles * additions), _where(~direct, calls * values * s.height),
        _where(s.fused_sum, s.written), s.one,
    ]  # fmt: skip


def _product(s: _Sizes) -> list[Floats]:
    one_row = s.rows <= 1
    matrices, tiled, additions = s.tiled(s.flops / 2)
    return [
        s.flops, s.weight, s.weight * s.cold_weight, s.read, s.written,
        _where(one_row, s.weight), _where(~one_row, s.weight), tiled, additions, matrices, s.read * s.far,
        _where(s.first_use, s.weight), s.one,
    ]  # fmt: skip


def _quantized(s: _Sizes) -> list[Floats]:
    """A product of 8-bit integers, or with weights of 4 bits; a convolution as one, with its image unrolled."""
    products = s.flops / 2
    is_convolution = s.height * s.width > 1
    depthwise = is_convolution & (s.in_channels == 1) & (s.groups > 1)
    values = s.in_channels * s.taps
    unrolled = s.groups * values * s.positions
    matrices, tiled, additions = s.tiled(products)
    return [
        _where(~depthwise, products), _where(depthwise, products), s.weight, s.weight * s.cold_weight, s.read,
        s.written, s.outputs, _where(is_convolution & ~depthwise, unrolled), _where(s.rows <= 1, s.weight),
        _where(~is_convolution, tiled), _where(~is_convolution, additions), _where(~is_convolution, matrices),
        s.read * s.far, _where(s.first_use, s.weight), s.one,
    ]  # fmt: skip


def _recurrent(s: _Sizes) -> list[Floats]:
    """A recurrent layer: one product of all inputs, then a product and the gates' functions at each step."""
    steps, batch, units, directions = s.images, np.maximum(s.all_in_channels, 1), s.width, s.all_filters
    inputs = s.in_width
    gates = s.flops / np.maximum(steps * batch * directions * units * (2 * (inputs + units) + 4), 1)
    recurrence = directions * gates * units * units
    stepping = steps * recurrence
    return [
        steps * batch * directions * gates * units * inputs, stepping * batch, stepping,
        stepping / (1 + (L2_BYTES / np.maximum(4 * recurrence, 1)) ** 2),
        steps * batch * directions * gates * units, steps * directions, s.weight, s.weight * s.cold_weight, s.read,
        s.written, directions, s.one,
    ]  # fmt: skip


def _pool(s: _Sizes) -> list[Floats]:
    channels = s.filters * s.groups
    return [
        s.positions * channels * s.taps, s.read, s.written, s.planes * s.height, s.planes, s.read * s.far, s.flops,
        s.outputs, s.read / 4 / s.run, s.one,
    ]  # fmt: skip


def _pointwise(s: _Sizes) -> list[Floats]:
    return [
        s.read, s.written, s.read * s.far, s.read * s.cold, _where(~s.in_place, s.written),
        _where(~s.in_place, s.written * s.cold_buffer), s.flops, s.weight, s.planes, s.outputs, s.outputs / s.run,
        s.rows, s.one,
    ]  # fmt: skip


def _move(s: _Sizes) -> list[Floats]:
    return [
        s.read, s.written, s.read * s.far, s.read * s.cold, s.written * s.cold_buffer, s.outputs / s.run,
        np.minimum(s.planes, s.outputs / s.run), s.n_inputs, s.n_outputs, s.outputs, s.weight,
        s.weight * s.cold_weight, s.one,
    ]  # fmt: skip


_WORK: Mapping[str, Callable[[_Sizes], list[Floats]]] = {
    "conv": _blocked, "depthwise": _depthwise, "plain_conv": _plain, "gemm": _product, "pool": _pool,
    "pointwise": _pointwise, "move": _move, "recurrent": _recurrent, "quantized": _quantized,
}  # fmt: skip
