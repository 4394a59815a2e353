"""A rack on each node of a Ray cluster that has accelerators. Ray carries addresses and counts, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sectum.errors import UsageError
from sectum.hetee.installed_policy import installed_policy, write_policy
from sectum.hetee.inventory import RackEntry
from sectum.hetee.pool.node import NodeOptions, NodeRack, NodeReport
from sectum.hetee.pool.protocol import Stopped, Tell, printable, rack_name

_LOOK_S = 0.5
_READY_S = 300.0
_REPORT_S = 10.0
_STOP_S = 15.0
_KINDS = {"CPU": "cpu", "GPU": "cuda"}


@dataclass(eq=False)
class _Node:
    """A node, its actor, and what that has told."""

    entry: RackEntry
    actor: Any
    address: str
    offset: int
    alive: bool = True
    root: str = ""
    asked: Any = None
    asked_s: float = 0.0


class RayPool:
    """A rack on each node with accelerators; nodes that join later get one, too.

    Args:
        ray: the module, connected to a cluster.
        options: what each rack is to be.
        accelerators: number of each kind on each node, as for ``sectum hetee up``; None for what Ray says that it has.
        policy: file that gets a policy for clients, which accepts the software that is installed here on all racks.
        tell: is told ``joined``, ``ready``, ``lost`` and ``restarted``.
    """

    def __init__(self, ray: Any, options: NodeOptions, accelerators: str | None, policy: Path, tell: Tell) -> None:
        self._ray, self._options, self._accelerators, self._tell = ray, options, accelerators, tell
        self._nodes: dict[str, _Node] = {}
        self._policy, self._path = installed_policy([], training="--training" in options.arguments), policy

    def start(self, stopped: Stopped) -> None:
        """Start a rack on each node, and wait until one is ready.

        Raises:
            UsageError: no node has accelerators, or no rack becomes ready in time.
        """
        self._look()
        if not self._nodes:
            raise UsageError("no node of the Ray cluster has CPUs or GPUs for racks: see 'ray status'")
        until_s = time.monotonic() + _READY_S
        while not stopped() and not any(node.entry.healthy for node in self._nodes.values()):
            if time.monotonic() > until_s:
                why = "; ".join(f"{node.entry.name}: {' '.join(node.entry.problems)}" for node in self._nodes.values())
                raise UsageError(f"no rack is ready after {_READY_S:g} s: {why}")
            time.sleep(_LOOK_S)
            self._look()

    def run(self, stopped: Stopped) -> None:
        """Watch nodes and racks, until ``stopped``. Actors start their racks again, and Ray its actors."""
        while not stopped():
            time.sleep(_LOOK_S)
            self._look()

    def racks(self) -> tuple[RackEntry, ...]:
        """What the actors told last."""
        return tuple(node.entry for node in list(self._nodes.values()))

    def hurry(self) -> None:
        """Make `stop` end sessions at once."""
        for node in self._nodes.values():
            if node.alive:
                node.actor.hurry.remote()

    def stop(self) -> None:
        """Stop every rack, and leave the cluster."""
        alive = [node for node in self._nodes.values() if node.alive]
        waiting = [node.actor.stop.remote() for node in alive]
        until_s = time.monotonic() + self._options.drain_s + _STOP_S
        while waiting and time.monotonic() < until_s:  # in short waits, so that Ctrl-C is heard
            _, waiting = self._ray.wait(waiting, num_returns=len(waiting), timeout=_LOOK_S)
        for node in alive:
            self._ray.kill(node.actor)
        self._ray.shutdown()

    # --- nodes ---

    def _look(self) -> None:
        """Start actors on new nodes, and take in what the others told."""
        present = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for number, node in present.items():
            kinds = self._accelerators or _kinds(node["Resources"])
            if number not in self._nodes and kinds:
                self._begin(number, node, kinds)
        for number, known in self._nodes.items():
            if known.alive and number not in present:
                known.alive = False
                self._update(known, _down(known.entry, "its node has left the Ray cluster"))
            elif known.alive:
                self._ask(known)
        roots = tuple(dict.fromkeys(node.root for node in self._nodes.values() if node.root))
        if roots != self._policy.roots:
            self._policy = msgspec.structs.replace(self._policy, roots=roots)
            write_policy(self._path, self._policy)

    def _begin(self, number: str, node: Mapping[str, Any], kinds: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        name = rack_name(node["NodeName"])
        if (gone := self._named(name)) is not None and not self._nodes[gone].alive:
            del self._nodes[gone]  # it came back
        elif gone is not None:
            name = rack_name(f"{name[:50]}-{number[:8]}")
        # All processors and GPUs of the node, so that Ray starts nothing else there.
        resources = node["Resources"]
        options = {
            "num_cpus": resources.get("CPU", 0),
            "num_gpus": resources.get("GPU", 0),
            "max_restarts": -1,
            "max_concurrency": 8,
            "name": f"rack-{name}",
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        }
        address = node["NodeManagerAddress"]
        taken = {other.offset for other in self._nodes.values() if other.alive and other.address == address}
        offset = min(set(range(len(taken) + 1)) - taken)
        arguments = name, address, kinds, offset, msgspec.json.encode(self._options)
        try:
            actor = self._ray.remote(NodeRack).options(**options).remote(*arguments)
        except ValueError as error:
            raise UsageError(f"another pool runs on this Ray cluster, on node {name}: stop it first") from error
        self._nodes[number] = _Node(RackEntry(name, "", problems=("it is being started",)), actor, address, offset)
        self._tell("joined", f"starting a rack on {name} with {kinds}", name=name)

    def _named(self, name: str) -> str | None:
        return next((number for number, node in self._nodes.items() if node.entry.name == name), None)

    def _ask(self, node: _Node) -> None:
        """Take in an actor's answer if it is there, and ask again."""
        now_s = time.monotonic()
        if node.asked is not None:
            done, _ = self._ray.wait([node.asked], timeout=0)
            if not done:
                if now_s - node.asked_s > _REPORT_S:
                    self._update(node, _down(node.entry, "its supervisor does not answer: is the node busy?"))
                return
            try:
                report = msgspec.json.decode(self._ray.get(node.asked), type=NodeReport)
            except self._ray.exceptions.ActorUnavailableError:
                self._update(
                    node, _down(node.entry, "its supervisor is not there: it is restarted, or its node is gone")
                )
            except self._ray.exceptions.RayError as error:
                why = (str(error).strip().splitlines() or [""])[-1][:200]
                self._update(node, _down(node.entry, f"its supervisor ended ({type(error).__name__}): {why}"))
            except msgspec.DecodeError as error:
                self._update(node, _down(node.entry, f"its supervisor is of another version ({error})"))
            else:
                node.root = report.root
                self._update(node, msgspec.structs.replace(report.rack, name=node.entry.name))
        node.asked, node.asked_s = node.actor.report.remote(), now_s

    def _update(self, node: _Node, entry: RackEntry) -> None:
        before, node.entry = node.entry, entry
        name = entry.name
        if entry.healthy and not before.healthy:
            counts = _words(entry.accelerators)
            text = f"{name} is ready at {entry.url} with {counts}"
            self._tell("ready", text, name=name, url=entry.url, accelerators=entry.accelerators)
        elif before.healthy and not entry.healthy:
            self._tell("lost", f"{name}: {'; '.join(entry.problems)}", name=name, problems=entry.problems)
        if entry.restarts > before.restarts:
            self._tell("restarted", f"the rack on {name} ended and is started again")


def _kinds(resources: Mapping[str, float]) -> str:
    """What Ray says that a node has, as ``sectum hetee up`` takes it; empty if it has no accelerator."""
    return _words({kind: int(resources.get(name, 0)) for name, kind in _KINDS.items()})


def _words(counts: Mapping[str, int]) -> str:
    return ",".join(f"{kind}={count}" for kind, count in counts.items() if count)


def _down(entry: RackEntry, problem: str) -> RackEntry:
    return msgspec.structs.replace(entry, healthy=False, free={}, problems=(printable(problem),))
