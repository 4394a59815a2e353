"""Which operators of campaigns the learners of every fold may use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sectum import zoo
from sectum.lab.dataset.operator_campaign import OPERATOR_MIX
from sectum.lab.learners import lone_operators as lone
from sectum.lab.learners.operator_learning import Observation
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.predict.features import extract

MACHINES = {"old": Cpu.AVX2, "new": Cpu.AVX512}


def observation(family: str, cpu: Cpu) -> Observation:
    """A network of some family with blocked convolutions, and with operators of other kinds."""
    features = extract(optimize(zoo.to_graph(zoo.network("alexnet"), 1), cpu), threads=1)
    times = np.ones(len(features.kinds))
    return Observation(family, family, 1, features, times, 0.0, 2.5, whole=False)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset: both machines timed operators of a mix and of a family, one of them kinds, too."""
    for folder in ("operators/old", "operators/new", "kinds/new"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(
        lone, "from_operator_campaign", lambda _, cpu: [observation(name, cpu) for name in (OPERATOR_MIX, "alexnet")]
    )
    monkeypatch.setattr(lone, "from_kind_campaign", lambda _, cpu: [observation("gemm", cpu)])
    return tmp_path / "networks"


def test_networks_of_a_family_are_left_to_the_folds(data: Path) -> None:
    """Of a campaign of operators only those of no family are used: a fold that leaves a family out must not see it."""
    found = lone.lone_operators(data, MACHINES)
    assert {cpu: [one.family for one in its] for cpu, its in found.items()} == {
        Cpu.AVX2: [OPERATOR_MIX, "gemm"],
        Cpu.AVX512: [OPERATOR_MIX, "gemm"],
    }


def test_other_processors_stand_in_but_for_blocked_convolutions(data: Path) -> None:
    """A machine without kinds of its own takes those of another, without kernels that differ too much."""
    old, new = (lone.lone_operators(data, MACHINES)[cpu][-1] for cpu in MACHINES.values())
    assert set(new.features.kinds) & lone.LAYOUT_KINDS
    assert set(old.features.kinds) == set(new.features.kinds) - lone.LAYOUT_KINDS
    assert len(old.times) == len(old.features.kinds)


def test_a_dataset_alone_has_none(tmp_path: Path) -> None:
    """Where no campaign lies beside a dataset, nothing is added."""
    assert lone.lone_operators(tmp_path / "networks", MACHINES) == {Cpu.AVX2: [], Cpu.AVX512: []}


def test_the_digest_is_of_the_files(tmp_path: Path) -> None:
    """A fold that was kept is not used again when a campaign has changed."""
    shard = tmp_path / "kinds" / "new" / "one.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"first")
    before = lone.campaigns_digest(tmp_path / "networks")
    assert lone.campaigns_digest(tmp_path / "networks") == before
    shard.write_bytes(b"other")
    assert lone.campaigns_digest(tmp_path / "networks") != before
