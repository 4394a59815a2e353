"""A campaign on a Ray cluster: the same code on every node; a node that dies costs no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveFailed, EnclaveUnavailable, UsageError
from sectum.lab.dataset import engines
from sectum.lab.dataset.engines import RayEngine
from sectum.lab.dataset.task import SAMPLE, Task

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sectum[ray]'")
pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
from ray.cluster_utils import Cluster  # noqa: E402

TASKS = [Task(SAMPLE, "nasbench201", seed, 1.0, 0, 1) for seed in range(8)]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray writes its token to a home of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv(
            "SECTUM_CACHE", os.environ.get("SECTUM_CACHE", str(tmp_path_factory.mktemp("cache", numbered=False)))
        )
        yield


@pytest.fixture(scope="module")
def cluster(home: None) -> Iterator[Cluster]:
    """Two nodes with names, of one CPU each, on this machine."""
    cluster = Cluster()
    for name in ("north", "south"):
        cluster.add_node(num_cpus=1, node_name=name, object_store_memory=128 << 20, include_dashboard=False)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def fake_machine(*, broken: str = "", dies_on: tuple[tuple[str, int], ...] = ()) -> type:
    """Make a machine that measures nothing; made here so that Ray sends it by value."""

    class FakeMachine:
        def __init__(self, name: str, cpus: tuple[int, ...] | None) -> None:
            self._name = name

        def check(self) -> dict[str, Any]:
            if self._name == broken:
                raise EnclaveUnavailable("no compiler")
            return {"cpu_model": f"processor of {self._name}"}

        def measure(self, task: Task) -> dict[str, Any]:
            import os
            import time

            if (self._name, task.seed) in dies_on or (self._name, -1) in dies_on:
                os._exit(1)
            time.sleep(0.05)
            return {"key": task.key, "machine": self._name, "error": ""}

    return FakeMachine


def test_tasks_are_spread_over_the_nodes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network once; each row names its node, whose context is kept."""
    monkeypatch.setattr(engines, "_Machine", fake_machine())
    engine = RayEngine("lab", cluster.address)
    nodes = engine.context()["nodes"]
    assert nodes == {name: {"cpu_model": f"processor of {name}"} for name in ("lab-north", "lab-south")}
    records = list(engine.measure(TASKS))
    assert sorted(record["key"] for record in records) == sorted(task.key for task in TASKS)
    assert {record["machine"] for record in records} == set(nodes)


def test_tasks_are_taken_as_nodes_have_room(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored meanwhile decides what still has to be measured: no task is drawn long before."""
    monkeypatch.setattr(engines, "_Machine", fake_machine())
    drawn: list[Task] = []

    def tasks() -> Iterator[Task]:
        for task in TASKS:
            drawn.append(task)
            yield task

    records = RayEngine("lab", cluster.address).measure(tasks())
    next(records)
    assert len(drawn) == 2
    records.close()


def test_a_network_whose_node_dies_is_measured_by_another(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign goes on with the nodes that are left, and loses nothing."""
    monkeypatch.setattr(engines, "_Machine", fake_machine(dies_on=(("lab-north", -1),)))
    records = list(RayEngine("lab", cluster.address).measure(TASKS))
    assert sorted(record["key"] for record in records) == sorted(task.key for task in TASKS)
    assert {record["machine"] for record in records} == {"lab-south"}


def test_without_nodes_the_campaign_ends_with_what_it_has(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last node is gone it is said, after the records that were finished."""
    dies_on = (("lab-north", -1), ("lab-south", 5))
    monkeypatch.setattr(engines, "_Machine", fake_machine(dies_on=dies_on))
    records = RayEngine("lab", cluster.address).measure(TASKS)
    seen = []
    with pytest.raises(EnclaveFailed, match="no node of the Ray cluster is left"):
        seen.extend(records)
    assert len(seen) <= 5


def test_a_node_that_cannot_measure_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is measured, with the node's own reason."""
    monkeypatch.setattr(engines, "_Machine", fake_machine(broken="lab-south"))
    with pytest.raises(EnclaveUnavailable, match="lab-south cannot measure: no compiler"):
        RayEngine("lab", cluster.address)


def sectum(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sectum.cli", *map(str, words), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def test_a_small_campaign_on_a_cluster_of_this_machine(tmp_path: Path) -> None:
    """The command starts a cluster, measures in real enclaves there, and stores what the local engine would."""
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")
    words = ("dataset", "collect", "--folder", tmp_path, "--networks", 1, "--seed", 29, "--engine", "ray")
    done = sectum(*words, "--machine", "lab")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["measured"] == 1
    shown = json.loads(sectum("dataset", "show", tmp_path).stdout)
    assert (shown["networks"], shown["rows"], shown["failures"]) == (1, 2, {})
    ((machine, what),) = shown["machines"].items()
    assert machine.startswith("lab-")
    assert what["cpu_model"]


def test_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is an argument to be put right, not a trace."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def init(**_: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UsageError, match=r"no Ray cluster at 10\.0\.0\.1:6379"):
        RayEngine("lab", "10.0.0.1:6379")
