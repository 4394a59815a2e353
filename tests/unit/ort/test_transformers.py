"""Rewrites of what transformers are written with."""

from __future__ import annotations

import pytest

from sectum import zoo
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize


@pytest.mark.parametrize(
    ("name", "made", "gone"),
    [
        ("gpt2_prefill_64", {"FastGelu": 12, "Softmax": 12}, {"Tanh", "Pow"}),
        ("bert_tiny", {"Gelu": 2, "SkipLayerNormalization": 5, "Gemm": 12, "FusedGemm": 1}, {"Erf"}),
        ("deit_tiny", {"Split": 12, "Squeeze": 36}, {"Erf"}),
        ("smollm_135m_step_256", {"SimplifiedLayerNormalization": 61, "Split": 60}, {"Slice", "Pow", "Sqrt"}),
    ],
)
def test_a_transformer_is_fused_as_the_runtime_does(name: str, made: dict[str, int], gone: set[str]) -> None:
    """What ONNX Runtime 1.31 counts in its profile of a network is what the optimized graph has."""
    types = [op.type for op in optimize(zoo.to_graph(zoo.network(name)), Cpu.AVX2).operators]
    assert {kind: types.count(kind) for kind in made} == made
    assert gone.isdisjoint(types)
