"""How a number is measured: reference kernels, sampling, latency, operator times, context."""

from __future__ import annotations

from sectum.measure.latency import Measurement, measure
from sectum.measure.operators import OperatorMeasurement, OperatorRow, measure_operators

__all__ = [
    "Measurement",
    "OperatorMeasurement",
    "OperatorRow",
    "measure",
    "measure_operators",
]
