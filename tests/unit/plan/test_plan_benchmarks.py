"""The benchmarks of plans keep what they have measured, and draw the same networks again."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from places import ROOT


@pytest.fixture
def benchmark_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a benchmark by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_rounds_are_found_again(benchmark_of, tmp_path: Path) -> None:
    """A benchmark that was stopped finds its rounds, and no round of another case, way or number of inferences."""
    plan: ModuleType = benchmark_of("plan")
    path = tmp_path / "rounds.jsonl"
    results = plan.Results(path, 5)
    results.add({"latency_ms": 1.0}, case="a", way="plan")
    results.add({"latency_ms": 2.0}, case="a", way="no plan")
    again = plan.Results(path, 5)
    assert again.of(case="a", way="plan") == [{"latency_ms": 1.0}]
    assert again.of(case="b", way="plan") == []
    assert plan.Results(path, 6).of(case="a", way="plan") == []


def test_a_case_is_drawn_again(benchmark_of, predictor, softepc) -> None:
    """The same state of randomness gives the same network in the same EPC, which is smaller than its working set."""
    plan_random: ModuleType = benchmark_of("plan_random")
    first, again = (_drawn(plan_random, predictor, softepc) for _ in range(2))
    assert str(first) == str(again)
    assert first.profile.epc_bytes < first.prepared.trace.pages * 4096


def _drawn(plan_random: ModuleType, predictor, softepc):
    rng = random.Random(3)
    while (case := plan_random.drawn(predictor, softepc, rng)) is None:
        pass
    return case
