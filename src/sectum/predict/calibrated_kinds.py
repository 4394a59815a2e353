"""A small network of the kinds of operators that image classifiers lack: a calibration measures it beside them.

Products of 8 bits, with many rows and with one, with weights of 4 bits, convolutions of 8 bits, recurrent layers. Each
has several operators, so that no single one decides what a machine is corrected by.
"""

from __future__ import annotations

from sectum.zoo.precision import Precision, product
from sectum.zoo.program import Program, Writer

NAME = "kinds beyond classifiers"
_ROWS, _WIDTH, _HIDDEN, _CLASSES = 96, 384, 1536, 1000
_REPEATS = 4


def calibrated_kinds() -> Program:
    """The network; all of its inputs may be random numbers."""
    return Program(NAME, "calibration", _write)


def _write(w: Writer, batch: int) -> None:
    for name, rows, precisions in (
        ("rows", _ROWS, (Precision.DYNAMIC, Precision.STATIC, Precision.FOUR_BIT)),
        ("row", 1, (Precision.DYNAMIC, Precision.STATIC, Precision.FOUR_BIT)),
    ):
        for precision in precisions:
            x = w.input(f"{name}_{precision}", batch, rows, _WIDTH)
            for _ in range(_REPEATS):
                x = product(w, x, _WIDTH, _HIDDEN, precision)
                x = product(w, x, _HIDDEN, _WIDTH, precision)
            w.output(product(w, x, _WIDTH, _CLASSES, precision))
    _convolve(w, batch)
    x = w.input("sequence", 32, batch, 128)
    for kind, gates in (("LSTM", 4), ("GRU", 3)) * (_REPEATS // 2):
        weights = (w.weight(1, gates * 128, 128, fan_in=128) for _ in range(2))
        x = w.op("Squeeze", w.ops(kind, x, *weights, outputs=2, hidden_size=128)[0], w.values(1))
    w.output(x)


def _convolve(w: Writer, batch: int) -> None:
    scale, zero = w.scalar(0.02), w.scalar(128, "uint8")
    for name, channels in (("maps", 32), ("odd_maps", 30)):  # the runtime computes odd ones as products
        x = w.op("QuantizeLinear", w.input(name, batch, channels, 28, 28), scale, zero)
        for _ in range(_REPEATS):
            weight = w.weight(channels, channels, 3, 3, dtype="int8")
            x = w.op(
                "QLinearConv", x, scale, zero, weight, scale, w.scalar(0, "int8"), scale, zero,
                kernel_shape=(3, 3), pads=(1, 1, 1, 1),
            )  # fmt: skip
        w.output(w.op("DequantizeLinear", x, scale, zero))
