"""Where a campaign's networks are measured: on this machine, or on those of a Ray cluster."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any, Protocol

from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.enclave.runners.warm import WarmRunner
from sectum.errors import EnclaveFailed, EnclaveUnavailable, UsageError
from sectum.extras import require
from sectum.lab.dataset.network import measure_network
from sectum.lab.dataset.runs import Places
from sectum.lab.dataset.shards import Record, ShardWriter, machine_name
from sectum.lab.dataset.task import Task
from sectum.measure.context import machine_context

Measuring = Callable[[Any, Places], Record]
"""Measures one task of a campaign; a failure is a record with its reason under ``error``."""

FAILURES_IN_A_ROW = 8
"""When this many networks in a row fail, the machine is to blame, not the networks."""
_NODE_READY_S = 120.0


class Engine(Protocol):
    """Measures networks, in any order, each once."""

    def context(self) -> dict[str, Any]:
        """Describe the machine or machines, as plain values for JSON."""
        ...

    def measure(self, tasks: Iterable[Any]) -> Iterator[Record]:
        """Take tasks one by one, as there is room for them, and give their records as they come.

        Raises:
            EnclaveUnavailable: the software enclave cannot run there.
            EnclaveFailed: network after network fails; these have no record.
        """
        ...


class _Machine:
    """Measures on the machine where it is created, with warm parents."""

    def __init__(self, name: str, cpus: tuple[int, ...] | None, measuring: Measuring | None = None) -> None:
        self._measuring = measuring or measure_network
        self._native, self._enclave = WarmRunner(NativeRunner()), WarmRunner(SoftEpcRunner())
        self._places = Places(self._native, self._enclave, cpus, name)
        self._ended = False

    def check(self) -> dict[str, Any]:
        """Return its context if it can measure.

        Raises:
            EnclaveUnavailable: the software enclave cannot run here.
        """
        self._enclave.check()
        return machine_context()

    def measure(self, task: Any) -> Record:
        """Measure a network. After a failure it is measured again, with new parents; that result counts."""
        record = self._measuring(task, self._places)
        if record["error"] and not self._ended:
            self.close()
            record = self._measuring(task, self._places)
        return record

    def close(self) -> None:
        """End the parents. The next network would start new ones."""
        self._native.close()
        self._enclave.close()

    def kill(self) -> None:
        """End the network that is being measured; the thread that measures it sees a failure."""
        self._ended = True
        self._native.kill()
        self._enclave.kill()


class LocalEngine:
    """The machine that it runs on.

    Args:
        machine: its name in the dataset.
        places: sets of CPUs. Each set measures one network after the other, pinned to its CPUs; None leaves them to the
            scheduler. docs/dataset.md says how much networks that run side by side disturb each other.
        measuring: how a task is measured; if not given, tasks are networks of a dataset.
    """

    def __init__(
        self, machine: str, places: Sequence[tuple[int, ...] | None] = (None,), measuring: Measuring | None = None
    ) -> None:
        self._machine = machine
        self._places = places
        self._measuring = measuring

    def context(self) -> dict[str, Any]:
        """Describe this machine, and on how many places networks are measured side by side."""
        return machine_context() | {"side_by_side": len(self._places)}

    def measure(self, tasks: Iterable[Any]) -> Iterator[Record]:
        """Keep every place busy with one task; see `Engine.measure`. With one place records keep the tasks' order."""
        machines = [_Machine(self._machine, cpus, self._measuring) for cpus in self._places]
        try:
            machines[0].check()
            if len(machines) == 1:
                yield from trusted(map(machines[0].measure, tasks))
            else:
                with closing(_side_by_side(machines, iter(tasks))) as records:
                    yield from trusted(records)
        finally:
            for machine in machines:
                machine.close()


def _side_by_side(machines: Sequence[_Machine], tasks: Iterator[Any]) -> Generator[Record, None, None]:
    idle = list(machines)
    running: dict[Future[Record], _Machine] = {}
    pool = ThreadPoolExecutor(len(machines), "measuring")  # of threads that wait for processes
    try:
        while True:
            while idle and (task := next(tasks, None)) is not None:
                machine = idle.pop()
                running[pool.submit(machine.measure, task)] = machine
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                idle.append(running.pop(future))
                yield future.result()
    finally:
        for machine in running.values():
            machine.kill()
        pool.shutdown()


class RayEngine:
    """The machines of a Ray cluster; each measures one network at a time, and does nothing else meanwhile.

    Args:
        machine: the first part of their names in the dataset; the second is what Ray calls the node.
        address: of the cluster; ``local`` starts one here.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at this address.
        EnclaveUnavailable: a node cannot measure.
    """

    def __init__(self, machine: str, address: str) -> None:
        self._ray = ray = require("ray", "the engine ray needs Ray", "ray")
        # A dashboard's processes would disturb the measurements, and records are small.
        here = {"include_dashboard": False, "object_store_memory": 128 << 20} if address == "local" else {}
        try:
            if not ray.is_initialized():
                ray.init(address=address, log_to_driver=False, **here)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"there is no Ray cluster at {address} ({error}): give its --address") from error
        self._nodes = {name: self._start(name, node) for name, node in self._named(machine).items()}
        self._contexts = {name: self._check(name, node) for name, node in self._nodes.items()}

    def _named(self, machine: str) -> dict[str, Mapping[str, Any]]:
        """Nodes by name; the name that was given at the node's start, else its host's."""
        named = {}
        for node in self._ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU"):
                given = node["NodeName"] != node["NodeManagerAddress"]
                named[machine_name(f"{machine}-{node['NodeName' if given else 'NodeManagerHostname']}")] = node
        return named

    def _start(self, name: str, node: Mapping[str, Any]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # All CPUs of the node, so that Ray starts nothing else there.
        options = {
            "num_cpus": int(node["Resources"]["CPU"]),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        }
        return self._ray.remote(_Machine).options(**options).remote(name, None)

    def _check(self, name: str, node: Any) -> dict[str, Any]:
        errors = self._ray.exceptions
        try:
            context: dict[str, Any] = self._ray.get(node.check.remote(), timeout=_NODE_READY_S)
        except errors.GetTimeoutError as error:
            raise EnclaveUnavailable(f"{name} has other work of Ray's: measure when all its CPUs are free") from error
        except errors.RayError as error:
            why = getattr(error, "cause", None) or error
            raise EnclaveUnavailable(f"{name} cannot measure: {why}") from error
        return context

    def context(self) -> dict[str, Any]:
        """Describe this machine, and under ``nodes`` those that measure, by name."""
        return machine_context() | {"nodes": self._contexts}

    def measure(self, tasks: Iterable[Task]) -> Iterator[Record]:
        """Keep every node busy with one network; see `Engine.measure`."""
        try:
            yield from trusted(self._spread(iter(tasks)))
        finally:
            for node in self._nodes.values():
                self._ray.kill(node)
            self._nodes = {}

    def _spread(self, tasks: Iterator[Task]) -> Iterator[Record]:
        idle = list(self._nodes.values())
        running: dict[Any, tuple[Any, Task]] = {}
        lost: list[Task] = []
        while True:
            while idle and (task := lost.pop() if lost else next(tasks, None)) is not None:
                node = idle.pop()
                running[node.measure.remote(task)] = node, task
            if not running:
                break
            (done,), _ = self._ray.wait(list(running))
            node, task = running.pop(done)
            try:
                record = self._ray.get(done)
            except self._ray.exceptions.RayActorError:  # the node is gone: another measures the network
                lost.append(task)
                continue
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from error
            idle.append(node)
            yield record
        if lost:
            raise EnclaveFailed("no node of the Ray cluster is left: start them, and the same command again")


def store(engine: Engine, tasks: Iterable[Any], writer: ShardWriter) -> Generator[Record, None, None]:
    """Measure tasks and store their records; yields each record when it is safe.

    Raises:
        EnclaveUnavailable: the software enclave cannot run.
        EnclaveFailed: network after network fails.
        OSError: the disk is full; what was stored stays.
    """
    try:
        for record in engine.measure(tasks):
            writer.add(record)
            yield record
    finally:  # Ctrl-C too
        writer.flush()


def trusted(records: Iterable[Record]) -> Iterator[Record]:
    """Hold failures back until a network succeeds: only then is it clear that the machine can measure.

    Raises:
        EnclaveFailed: too many fail in a row, or all.
    """
    failed: list[Record] = []
    good = False
    for record in records:
        if record["error"]:
            failed.append(record)
        if len(failed) >= FAILURES_IN_A_ROW:
            raise _failing(failed)
        if not record["error"]:
            good = True
            yield from itertools.chain(failed, [record])
            failed = []
    if failed and not good:
        raise _failing(failed)
    yield from failed


def _failing(failed: Sequence[Record]) -> EnclaveFailed:
    last = failed[-1]
    many = "1 network" if len(failed) == 1 else f"{len(failed)} networks in a row"
    return EnclaveFailed(
        f"{many} failed, the last on {last['machine']} with '{last['error']}': "
        "put that right and give the same command again; these networks are measured then"
    )
