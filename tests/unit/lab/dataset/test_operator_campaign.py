"""Collecting operators: plans, and shards that survive an interruption."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from sectum.graph import read
from sectum.lab.dataset import operator_campaign as campaign
from sectum.lab.dataset.operator_campaign import OperatorTask, plan
from sectum.lab.dataset.timing_campaign import collected

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")


def fake_run(task: OperatorTask) -> dict[str, Any]:
    times = {"operators": ["[]"], "times_references": [0.5], "total_references": 1.0, "reference_ms": 2.0}
    return {"key": task.key, **asdict(task), **times, "error": "" if task.seed % 5 else "failed: by design"}


def test_a_plan_is_decided_by_its_seed() -> None:
    """The same seed gives the same tasks, another seed others, and no task comes twice."""
    assert plan(50, 3) == plan(50, 3)
    assert plan(50, 3) != plan(50, 4)
    keys = [task.key for task in plan(200, 3)]
    assert len(keys) == len(set(keys))


def test_an_interrupted_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    """Stopped anywhere and started again, every task is stored exactly once, failures with their reason."""
    tasks = plan(20, 1)
    rng = random.Random(0)
    for _ in range(40):
        rows = collected(tmp_path, tasks, fake_run, replace(campaign.FORM, shard_rows=4))
        for _ in range(rng.randint(0, 6)):
            if next(rows, None) is None:
                break
        rows.close()
    stored = list(campaign.read(tmp_path))
    assert sorted(row["key"] for row in stored) == sorted(task.key for task in tasks)
    assert all(bool(row["error"]) == (row["seed"] % 5 == 0) for row in stored)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_every_operator_mix_is_a_valid_model(seed: int) -> None:
    """Random chains can be read, have static shapes throughout, and are decided by their seed."""
    task = OperatorTask(campaign.OPERATOR_MIX, seed, 1 + seed % 3, 1)
    content, _ = campaign.build(task)
    assert content == campaign.build(task)[0]
    graph = read(content).graph
    assert all(dimension > 0 for tensor in graph.tensors.values() for dimension in tensor.shape)
