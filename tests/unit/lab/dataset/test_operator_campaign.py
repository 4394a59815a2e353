"""Collecting operators: plans, matching, shards that survive an interruption."""

from __future__ import annotations

import random

import pytest

from optimized_graphs import as_optimized
from sectum.enclave.runners.runner import OperatorTime
from sectum.graph import read
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.lab.dataset import operator_campaign as campaign
from sectum.lab.dataset.operator_campaign import Row, Task, collect, match, plan
from sectum.lab.dataset.operator_mix import operator_mix

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")


def fake_run(task: Task) -> Row:
    return Row(task, ("[]",), (0.5,), 1.0, 2.0, "" if task.seed % 5 else "failed: by design")


def test_a_plan_is_decided_by_its_seed():
    """The same seed gives the same tasks, another seed others, and no task comes twice."""
    assert plan(50, 3) == plan(50, 3)
    assert plan(50, 3) != plan(50, 4)
    keys = [task.key for task in plan(200, 3)]
    assert len(keys) == len(set(keys))


def test_an_interrupted_campaign_goes_on_where_it_was(tmp_path, monkeypatch):
    """Stopped anywhere and started again, every task is stored exactly once, failures with their reason."""
    monkeypatch.setattr(campaign, "run", fake_run)
    monkeypatch.setattr(campaign, "SHARD_NETWORKS", 4)
    tasks = plan(20, 1)
    rng = random.Random(0)
    for _ in range(40):
        rows = collect(tmp_path, tasks)
        for _ in range(rng.randint(0, 6)):
            if next(rows, None) is None:
                break
        rows.close()
    stored = list(campaign.read(tmp_path))
    assert sorted(row["key"] for row in stored) == sorted(task.key for task in tasks)
    assert all(bool(row["error"]) == (row["seed"] % 5 == 0) for row in stored)
    assert not list(tmp_path.glob("*.partial"))


def chain(types: tuple[str, ...]) -> Graph:
    names = ["x", *(f"t{i}" for i in range(len(types)))]
    tensors = {
        name: Tensor(name, (1, 4), "float32", TensorKind.INPUT if name == "x" else TensorKind.ACTIVATION)
        for name in names
    }
    operators = tuple(Operator(f"n{i}", kind, (names[i],), (names[i + 1],)) for i, kind in enumerate(types))
    return as_optimized(Graph("chain", operators, tensors, ("x",), (names[-1],), 17))


def time(kind: str, ratio: float) -> OperatorTime:
    return OperatorTime(kind, kind, ratio, 1.0, 1.0, ((1, 4),), ((1, 4),), ("float",), 0, 16)


def test_times_are_matched_to_operators_of_the_same_kind_in_order():
    """Two operators alike get their times in the order of execution."""
    times = [time("Relu", 1.0), time("Exp", 2.0), time("Relu", 3.0)]
    assert match(chain(("Relu", "Exp", "Relu")), times) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("types", [("Relu", "Exp"), ("Relu", "Exp", "Exp"), ("Relu", "Exp", "Relu", "Relu")])
def test_another_graph_than_the_runtimes_is_not_matched(types):
    """Where the runtime executed other operators there are no times, rather than wrong ones."""
    times = [time("Relu", 1.0), time("Exp", 2.0), time("Relu", 3.0)]
    assert match(chain(types), times) is None


@pytest.mark.parametrize("seed", range(12))
def test_every_operator_mix_is_a_valid_model(seed):
    """Random chains can be read, have static shapes throughout, and are decided by their seed."""
    content = operator_mix(random.Random(seed), batch=1 + seed % 3)
    assert content == operator_mix(random.Random(seed), batch=1 + seed % 3)
    graph = read(content).graph
    assert all(dimension > 0 for tensor in graph.tensors.values() for dimension in tensor.shape)
