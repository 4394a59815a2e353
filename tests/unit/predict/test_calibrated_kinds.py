"""The network of a calibration that holds what image classifiers lack."""

from __future__ import annotations

from collections import Counter

from observed import optimized_by_runtime
from sectum import zoo
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.predict.calibrated_kinds import calibrated_kinds
from sectum.predict.calibration import INT8_PRODUCTS, STREAMED_INT8_PRODUCTS, groups_of
from sectum.predict.features import extract

FEWEST = 4


def test_the_runtime_executes_the_operators_that_are_expected() -> None:
    """Otherwise their times would be matched with nothing, and the groups would have no factor."""
    made = optimize(zoo.to_graph(calibrated_kinds(), 1), Cpu.here())
    truth = optimized_by_runtime(zoo.to_bytes(calibrated_kinds(), batch=1))
    assert Counter(op.qualified_type for op in made.operators) == Counter(op.qualified_type for op in truth.operators)


def test_it_holds_several_operators_of_each_group_that_classifiers_lack() -> None:
    """One operator alone decides no factor. Products of bytes are a group of their own, and few rows another."""
    for cpu in (Cpu.AVX2, Cpu.AVX512, Cpu.AMX):
        groups = Counter(groups_of(extract(optimize(zoo.to_graph(calibrated_kinds(), 1), cpu), threads=1)))
        assert all(groups[name] >= FEWEST for name in (INT8_PRODUCTS, STREAMED_INT8_PRODUCTS, "quantized", "recurrent"))
