"""What a pool makes of nodes that join, fall silent, leave and come back; Ray itself is imitated."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from sectum.errors import UsageError
from sectum.hetee.client import read_policy_file
from sectum.hetee.inventory import RackEntry
from sectum.hetee.pool import ray_pool
from sectum.hetee.pool.node import NodeOptions, NodeReport
from sectum.hetee.pool.ray_pool import RayPool

OPTIONS = NodeOptions(7625, 8625, 1.0, "", ("--spares", "1"))


class RayError(Exception):
    pass


class ActorUnavailableError(RayError):
    pass


class Actor:
    """An actor: what it was made with, and what it tells."""

    def __init__(self, options: dict[str, Any], arguments: tuple[Any, ...]) -> None:
        self.options, self.arguments = options, arguments
        self.tells: bytes | Exception | None = None
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call() -> tuple[Actor, str]:
            self.called.append(name)
            return self, name

        return SimpleNamespace(remote=call)

    def ready(self, **changes: Any) -> None:
        """Tell that the rack is ready."""
        name, address, _, offset, _ = self.arguments
        entry = RackEntry(name, f"hetee://{address}:{7625 + offset}", {"cpu": 2}, {"cpu": 2}, healthy=True)
        self.tells = msgspec.json.encode(NodeReport(msgspec.structs.replace(entry, **changes), name.encode().hex()))


class Ray:
    """The part of Ray that a pool uses."""

    exceptions = SimpleNamespace(RayError=RayError, ActorUnavailableError=ActorUnavailableError)

    def __init__(self) -> None:
        self.present: list[dict[str, Any]] = []
        self.actors: list[Actor] = []
        self.killed: list[Actor] = []
        self.left = False

    def join(self, name: str, *, address: str = "10.0.0.7", number: str = "", **resources: float) -> None:
        about = {"NodeID": number or name, "Alive": True, "NodeName": name, "NodeManagerAddress": address}
        self.present.append(about | {"Resources": resources or {"CPU": 2.0}})

    def leave(self, name: str) -> None:
        for node in self.present:
            if node["NodeName"] == name:
                node["Alive"] = False

    def nodes(self) -> list[dict[str, Any]]:
        return self.present

    def remote(self, _class: type) -> Any:
        def options(**given: Any) -> Any:
            def make(*arguments: Any) -> Actor:
                self.actors.append(Actor(given, arguments))
                return self.actors[-1]

            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def wait(self, refs: list[tuple[Actor, str]], timeout: float, num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        done = [ref for ref in refs if ref[1] != "report" or ref[0].tells is not None]
        return done, [ref for ref in refs if ref not in done]

    def get(self, ref: tuple[Actor, str]) -> bytes:
        told, ref[0].tells = ref[0].tells, None
        if isinstance(told, Exception):
            raise told
        assert told is not None
        return told

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor)

    def shutdown(self) -> None:
        self.left = True


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    """Ray, imitated; the real one need not be installed."""
    for name in ("ray", "ray.util", "ray.util.scheduling_strategies"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    strategies = sys.modules["ray.util.scheduling_strategies"]
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: (node, soft)  # type: ignore[attr-defined]
    monkeypatch.setattr(ray_pool, "_LOOK_S", 0.0)
    return Ray()


class Running:
    """A pool on imitated nodes, and what it told."""

    def __init__(self, ray: Ray, path: Path, accelerators: str | None = None) -> None:
        self.path = path / "policy.json"
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.pool = RayPool(ray, OPTIONS, accelerators, self.path, self._tell)

    def _tell(self, event: str, _text: str, **facts: Any) -> None:
        self.told.append((event, facts))

    def look(self, times: int = 2) -> dict[str, RackEntry]:
        """Let it look a few times; the racks by name."""
        left = iter(range(times))
        self.pool.run(lambda: next(left, None) is None)
        return {rack.name: rack for rack in self.pool.racks()}


def test_every_node_with_accelerators_gets_a_rack(ray: Ray, tmp_path: Path) -> None:
    """An actor takes all processors and GPUs of its node; a node without any gets none."""
    ray.join("north", CPU=4.0)
    ray.join("gpus", address="10.0.0.8", CPU=2.0, GPU=1.0)
    ray.join("head", address="10.0.0.9", memory=1.0)
    racks = Running(ray, tmp_path).look()
    assert racks.keys() == {"north", "gpus"}
    assert [actor.arguments[:4] for actor in ray.actors] == [
        ("north", "10.0.0.7", "cpu=4", 0),
        ("gpus", "10.0.0.8", "cpu=2,cuda=1", 0),
    ]
    assert [(actor.options["num_cpus"], actor.options["num_gpus"]) for actor in ray.actors] == [(4.0, 0), (2.0, 1.0)]
    assert all(actor.options["scheduling_strategy"][1] is False for actor in ray.actors)
    assert msgspec.json.decode(ray.actors[0].arguments[4], type=NodeOptions) == OPTIONS


def test_what_actors_tell_is_the_inventory_and_the_policy(ray: Ray, tmp_path: Path) -> None:
    """A rack is told when it is ready, and from then on the policy accepts its root."""
    ray.join("north")
    running = Running(ray, tmp_path)
    assert not running.look()["north"].healthy
    ray.actors[0].ready()
    racks = running.look()
    assert racks["north"].healthy
    assert read_policy_file(running.path).roots == (b"north".hex(),)
    assert [event for event, _ in running.told] == ["joined", "ready"]
    assert running.told[-1][1] == {"name": "north", "url": "hetee://10.0.0.7:7625", "accelerators": {"cpu": 2}}
    ray.actors[0].ready(restarts=1)
    running.look()
    assert [event for event, _ in running.told][2:] == ["restarted"]


def test_nodes_on_one_machine_have_ports_and_names_of_their_own(ray: Ray, tmp_path: Path) -> None:
    """Two nodes with one name and address get different folders and ports."""
    ray.join("10.0.0.7", number="aaaaaaaaaaaa")
    ray.join("10.0.0.7", number="bbbbbbbbbbbb")
    Running(ray, tmp_path).look()
    assert [(actor.arguments[0], actor.arguments[3]) for actor in ray.actors] == [
        ("10.0.0.7", 0),
        ("10.0.0.7-bbbbbbbb", 1),
    ]


def test_a_node_that_leaves_is_told_and_may_come_back(ray: Ray, tmp_path: Path) -> None:
    """Its rack is no longer healthy at once; under the same name it gets a rack again."""
    ray.join("north", number="1")
    running = Running(ray, tmp_path)
    running.look()
    ray.actors[0].ready()
    running.look()
    ray.leave("north")
    racks = running.look()
    assert not racks["north"].healthy
    assert racks["north"].problems == ("its node has left the Ray cluster",)
    assert running.told[-1][0] == "lost"
    ray.join("north", number="2")
    running.look()
    ray.actors[1].ready()
    assert running.look()["north"].healthy
    assert len(ray.actors) == 2


@pytest.mark.parametrize(
    ("tells", "why"),
    [
        (ActorUnavailableError("a page of text"), "it is restarted, or its node is gone"),
        (RayError("Traceback\ngone"), "ended (RayError): gone"),
        (b"{}", "is of another version"),
        (b"\xff", "another version"),
    ],
)
def test_a_supervisor_that_fails_is_told_and_asked_again(ray: Ray, tmp_path: Path, tells: Any, why: str) -> None:
    """Neither a dead actor nor nonsense ends the pool."""
    ray.join("north")
    running = Running(ray, tmp_path)
    running.look()
    ray.actors[0].tells = tells
    (problem,) = running.look()["north"].problems
    assert why in problem
    ray.actors[0].ready()
    assert running.look()["north"].healthy


def test_a_supervisor_that_is_silent_is_told(ray: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rack that nobody speaks for is not called healthy."""
    monkeypatch.setattr(ray_pool, "_REPORT_S", -1.0)
    ray.join("north")
    (problem,) = Running(ray, tmp_path).look()["north"].problems
    assert "does not answer" in problem


def test_a_pool_begins_when_one_rack_is_ready(ray: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for one rack; without nodes, or without a rack in time, it says why."""
    with pytest.raises(UsageError, match="no node of the Ray cluster has CPUs or GPUs"):
        Running(ray, tmp_path).pool.start(lambda: False)
    ray.join("north")
    monkeypatch.setattr(ray_pool, "_READY_S", -1.0)
    with pytest.raises(UsageError, match=r"no rack is ready .*north: it is being started"):
        Running(ray, tmp_path).pool.start(lambda: False)
    Running(ray, tmp_path).pool.start(lambda: True)


def test_every_rack_is_stopped(ray: Ray, tmp_path: Path) -> None:
    """Actors of nodes that are there stop their racks; then they are ended, and the cluster is left."""
    ray.join("north")
    ray.join("south", address="10.0.0.8")
    running = Running(ray, tmp_path, "paced=1")
    running.look()
    ray.leave("south")
    running.look()
    running.pool.hurry()
    running.pool.stop()
    assert [actor.called[-2:] for actor in ray.actors] == [["hurry", "stop"], ["report"]]
    assert ray.killed == ray.actors[:1]
    assert ray.left
