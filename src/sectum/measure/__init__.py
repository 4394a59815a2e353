"""How a number is taken: timing discipline, sampling, and what a measurement carries with it."""

from __future__ import annotations

from sectum.measure.latency import Measurement, measure, measure_budgets
from sectum.measure.operators import OperatorMeasurement, OperatorRow, measure_operators

__all__ = [
    "Measurement",
    "OperatorMeasurement",
    "OperatorRow",
    "measure",
    "measure_budgets",
    "measure_operators",
]
