"""Small networks of operators of one kind each, in random sizes.

Every operator has an input of its own, so that no size depends on another operator's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

from sectum.lab.dataset.operator_kinds import elementwise, moves, products, reductions
from sectum.lab.dataset.operator_kinds.convolutions import conv, quantized_conv
from sectum.lab.dataset.operator_kinds.sizes import Draw, Sizes
from sectum.zoo.program import Writer

OPERATORS = 20
"""In one network."""

KINDS: Mapping[str, Draw] = {
    "conv1d": partial(conv, space=1),
    "conv1d_long": partial(conv, space=1, kind="long"),
    "conv1d_depthwise": partial(conv, space=1, kind="depthwise"),
    "conv2d": partial(conv, space=2),
    "conv2d_long": partial(conv, space=2, kind="long"),
    "conv2d_depthwise": partial(conv, space=2, kind="depthwise"),
    "conv3d": partial(conv, space=3),
    "conv_transpose1d": partial(conv, space=1, transposed=True),
    "conv_transpose2d": partial(conv, space=2, transposed=True),
    "conv_quantized": quantized_conv,
    "conv_quantized_depthwise": partial(quantized_conv, depthwise=True),
    "matmul": products.matmul,
    "matmul_shared": products.shared_matmul,
    "matmul_dynamic": products.dynamic_matmul,
    "matmul_fused": products.fused_matmul,
    "einsum": products.einsum,
    "matmul_quantized": products.quantized_matmul,
    "gemm_quantized": products.quantized_gemm,
    "matmul_four_bit": products.four_bit_matmul,
    "lstm": partial(products.recurrent, kind="LSTM"),
    "gru": partial(products.recurrent, kind="GRU"),
    "rnn": partial(products.recurrent, kind="RNN"),
    "lstm_quantized": products.quantized_lstm,
    "attention": products.attention,
    "gather": moves.gather,
    "gather_elements": moves.gather_elements,
    "one_hot": moves.one_hot,
    "pad": moves.pad,
    "slice": moves.cut,
    "concat": moves.concat,
    "transpose": moves.transpose,
    "expand": moves.spread_out,
    "blocks": moves.blocks_moved,
    "resize": moves.resize,
    "reduction": reductions.reduction,
    "selection": reductions.selection,
    "pool": reductions.pool,
    "softmax": reductions.softmax,
    "normalization": reductions.normalization,
    "channel_normalization": reductions.channel_normalization,
    "unary": elementwise.unary,
    "gelu": elementwise.gelu,
    "binary": elementwise.binary,
    "integer_arithmetic": elementwise.integer_arithmetic,
    "power": elementwise.power,
    "comparison": elementwise.comparison,
    "logic": elementwise.logic,
    "where": elementwise.where,
    "cast": elementwise.cast,
    "sum": elementwise.batched_sum,
    "quantization": elementwise.quantization,
    "quantized_elementwise": elementwise.quantized_elementwise,
    "fourier": moves.fourier,
    "boxes": moves.boxes,
}


def write(w: Writer, batch: int, *, kind: str, seed: int) -> None:
    """Write a network of `OPERATORS` operators of one of `KINDS`; each makes an output."""
    del batch
    sizes = Sizes(random.Random(seed))  # noqa: S311 - a network, not a secret
    for _ in range(OPERATORS):
        w.output(KINDS[kind](sizes, w), "")
