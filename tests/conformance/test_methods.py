"""Both latency methods pass the suite, on both kinds of processor."""

from __future__ import annotations

import pytest

from sectum.lab.paper import PaperMethod
from sectum.ort.cpu import Cpu
from sectum.predict import OperatorModel, Predictor, shipped_for
from sectum.predict.method import LatencyMethod
from sectum.testing.method_conformance import MethodConformance


@pytest.fixture(scope="module", params=(Cpu.AVX2, Cpu.AVX512), ids=lambda cpu: cpu.name)
def predictor(request):
    return Predictor(OperatorModel.load(shipped_for(request.param)))


class TestPageModel(MethodConformance):
    """The default method."""

    @pytest.fixture
    def method(self, predictor) -> LatencyMethod:
        return predictor


class TestPaper(MethodConformance):
    """The two stages of the paper."""

    @pytest.fixture
    def method(self, predictor) -> LatencyMethod:
        return PaperMethod(predictor)
