"""Pools of racks: one suite for both kinds, and what only several machines can show, on a cluster of three nodes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hetee_hostile_host import HostileHost
from hetee_pool_conformance import RACK_S, PoolConformance, RunningPool, command_of, descendants
from hetee_rack import adding_model, found_in_memory, free_port, may_look_into_processes, until
from places import SUPPORT
from sectum.hetee.client import read_policy_file
from sectum.hetee.client.pool import PoolSession, RackResult, connect_pool
from sectum.hetee.errors import CleaningUnproven, EvidenceRefused
from sectum.hetee.installed_policy import installed_policy
from sectum.hetee.inventory import RackEntry, ask_racks
from sectum.hetee.launcher import RackPaths
from sectum.hetee.pool.cluster import own_address
from sectum.hetee.pool.credentials import make_credentials, variables
from sectum.hetee.pool.local import LocalPool, RackOptions
from sectum.hetee.pool.server import PoolServer

pytestmark = pytest.mark.slow

NODES = ("north", "east", "south")
LOST = "south"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPool]:
    """A pool of one rack, which this process launches."""
    paths = RackPaths(tmp_path_factory.mktemp("local"))
    listen, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    controller = ["--accelerators", "cpu=1", "--spares", "1"]
    made = LocalPool(paths, RackOptions(listen, metrics, controller, False, 1.0), lambda *_, **__: None)
    ended = threading.Event()
    try:
        made.start(lambda: False)
        keeper = threading.Thread(target=made.run, args=(ended.is_set,), daemon=True)
        keeper.start()
        server = PoolServer("127.0.0.1:0", "local", made)
        address, folders = f"127.0.0.1:{server.server_port}", {"local": paths.directory}
        yield RunningPool(address, read_policy_file(paths.policy), folders, lambda _folder: os.getpid())
        ended.set()
        keeper.join()
        server.close()
    finally:
        made.stop()


class TestLocalPool(PoolConformance):
    """The default pool: a rack on this machine, without Ray."""

    @pytest.fixture
    def pool(self, local: RunningPool) -> RunningPool:
        """The pool of one rack."""
        return local


@dataclass
class RayCluster:
    """A cluster that runs, and the pool on it.

    Attributes:
        nodes: the program that has its nodes.
        up: the command that runs the pool.
        folder: Ray's files.
        events: what the command has printed.
    """

    nodes: subprocess.Popen[str]
    up: subprocess.Popen[str]
    folder: Path
    events: list[dict[str, Any]]

    def kill(self, node: str) -> None:
        """Kill a node with all that Ray runs on it."""
        assert self.nodes.stdin is not None
        assert self.nodes.stdout is not None
        self.nodes.stdin.write(f"{node}\n")
        self.nodes.stdin.flush()
        self.nodes.stdout.readline()

    def processes(self) -> list[int]:
        """The processes of Ray: all of the cluster's but the racks, and the command that runs the pool."""
        return [self.up.pid, *(pid for pid in descendants(self.nodes.pid) if b"hetee" not in command_of(pid))]


def launcher_of(folder: Path) -> int:
    """The process of ``sectum hetee up`` that runs the rack in a folder."""
    words = (b"\0hetee\0up\0", b"\0" + os.fsencode(folder) + b"\0")
    processes = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return next(pid for pid in processes if all(word in command_of(pid) for word in words))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Three nodes with token and TLS, and a pool on them that has told of a rack on each."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'sectum[ray]'")
    home, address = tmp_path_factory.mktemp("home"), own_address()
    credentials, state = home / "credentials" / address, home / "pool"
    make_credentials(credentials.parent, [address], credentials)
    environment = {**os.environ, "HOME": str(home)}
    with contextlib.ExitStack() as stack:
        nodes = subprocess.Popen(
            [sys.executable, str(SUPPORT / "hetee_ray_cluster.py"), *NODES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | variables(credentials),
            text=True,
        )
        stack.callback(_end, nodes)
        assert nodes.stdout is not None
        about = json.loads(nodes.stdout.readline())
        words = ["--address", about["address"], "--credentials", credentials, "--state", state, "--spares", 1, "--json"]
        words += ["--listen", f"127.0.0.1:{free_port()}", "--metrics", f"127.0.0.1:{free_port()}", "--drain", 1]
        up = subprocess.Popen(
            [sys.executable, "-m", "sectum.cli", "hetee", "up", "--pool", "ray", *map(str, words)],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        stack.callback(_end, up, signal.SIGINT)
        assert up.stdout is not None
        events: list[dict[str, Any]] = []
        for line in up.stdout:
            events.append(json.loads(line))
            names = [event.get("event") for event in events]
            if names.count("ready") == len(NODES) and "listening" in names:
                break
        else:
            pytest.fail(f"the pool has ended: {events}")
        yield RayCluster(nodes, up, Path(about["folder"]), events)
        up.send_signal(signal.SIGINT)
        events += map(json.loads, up.stdout)
        assert events[-1]["event"] == "stopped"


def _end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
    """End a program: by the end of its input if it reads it, else by a signal."""
    if process.stdin is not None:
        process.stdin.close()
    else:
        process.send_signal(number)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def pool(cluster: RayCluster) -> RunningPool:
    """The pool on the cluster."""
    listening = next(event for event in cluster.events if event["event"] == "listening")
    policy = Path(listening["policy"])
    folders = {name: policy.parent / name for name in NODES}
    return RunningPool(listening["address"], read_policy_file(policy), folders, launcher_of)


class TestRayPool(PoolConformance):
    """A rack on each node of a Ray cluster."""

    def test_a_rack_that_ends_is_started_again(self, pool: RunningPool) -> None:
        """The actor on a node starts its rack again at the same address, and the inventory counts it."""
        before = pool.racks()["east"]
        os.kill(launcher_of(pool.folders["east"]), signal.SIGKILL)
        until(lambda: pool.racks()["east"].restarts == before.restarts + 1, RACK_S, "another start")
        until(lambda: pool.racks()["east"].healthy, RACK_S, "the rack")
        assert pool.racks()["east"].url == before.url

    def test_racks_know_nothing_of_ray(self, pool: RunningPool) -> None:
        """No process of a rack has a variable of Ray: neither its token nor its keys."""
        for folder in pool.folders.values():
            launcher = launcher_of(folder)
            for pid in (launcher, *descendants(launcher)):
                assert b"RAY_" not in Path(f"/proc/{pid}/environ").read_bytes()


def before(rack: RackEntry) -> HostileHost:
    """A host that stands before a rack, and sees every frame."""
    address, _, port = rack.url.removeprefix("hetee://").rpartition(":")
    return HostileHost(int(port), address=address)


class Lying:
    """A pool that tells what it likes."""

    def __init__(self, entries: tuple[RackEntry, ...]) -> None:
        self._entries = entries

    def racks(self) -> tuple[RackEntry, ...]:
        """What it tells."""
        return self._entries


def test_a_false_rack_in_the_inventory_gets_nothing(pool: RunningPool) -> None:
    """A rack under a root that the client does not trust is refused, and so is one that is told twice."""
    honest = pool.racks()
    false = (pool.folders["north"] / "endorsement" / "root.pub").read_text().strip()
    policy = msgspec.structs.replace(pool.policy, roots=tuple(root for root in pool.policy.roots if root != false))
    with before(honest["north"]) as host, before(honest["east"]) as twin:
        told = (
            RackEntry("north", host.url, {"cpu": 4096}, {"cpu": 4096}, healthy=True),
            honest["east"],
            RackEntry("west", twin.url, {"cpu": 1}, {"cpu": 1}, healthy=True),
        )
        server = PoolServer("127.0.0.1:0", "ray", Lying(told))  # type: ignore[arg-type]  # clients need no more of it
        with connect_pool(lambda: ask_racks(f"127.0.0.1:{server.server_port}"), policy) as session:
            session.load(adding_model())
            states = until(lambda: _decided(session), what="a word on each rack")
            results = [session.infer(np.zeros((1, 64), np.float32)) for _ in range(4)]
            refused = next(rack for rack in session.racks if rack.url == host.url)
        server.close()
        assert isinstance(refused.error, EvidenceRefused)
        assert refused.trust is None
        assert refused.answered == 0
        assert sorted(states) == ["refused", "refused", "serving"]
        assert len({result.rack for result in results}) == 1
        # One handshake, up to the evidence: the identity of the client and its model come after that.
        assert len([seen for seen in host.seen if seen.direction == "up"]) == 1


def _decided(session: PoolSession) -> list[str] | None:
    states = [rack.state for rack in session.racks]
    return states if "connecting" not in states and states.count("serving") == 1 else None


@pytest.mark.skipif(not may_look_into_processes(), reason="looking into the memory of other processes needs root")
def test_neither_the_wire_nor_ray_has_plaintext(pool: RunningPool, cluster: RayCluster) -> None:
    """Inputs, results and models are in no frame, and in no memory, object store, log or file of Ray."""
    numbers = np.random.default_rng(os.getpid()).random((2000, 64)).astype(np.float32)
    model = adding_model()
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(before(rack)) for rack in pool.racks().values()]
        with connect_pool([host.url for host in hosts], pool.policy) as session:
            session.load(model)
            results = [future.result(60) for future in [session.submit(numbers) for _ in range(6)]]
            (answer,) = results[-1].outputs.values()
            needles = {
                "input": numbers.tobytes()[4096:4160],
                "result": answer.tobytes()[4096:4160],
                "model": model[4:60],
            }
            told = {"address": pool.racks()["east"].url.removeprefix("hetee://").encode()}
            searched = [found_in_memory(pid, needles | told) for pid in cluster.processes()]
            assert found_in_memory(os.getpid(), needles) == set(needles), "the search finds what is there"
        traffic = b"".join(host.traffic for host in hosts)
    assert any("address" in found for found in searched), "the search finds what Ray does carry"
    assert not [found for found in searched if found - {"address"}]
    assert len(traffic) > 6 * 2 * numbers.nbytes
    assert not {name for name, needle in needles.items() if needle in traffic}
    files = [path for path in cluster.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert not {name for name, needle in needles.items() if needle in content or needle.hex().encode() in content}


def test_a_policy_of_the_installed_software_accepts_all_racks(pool: RunningPool) -> None:
    """The pool's policy names each rack's root, and the software that is installed here."""
    roots = [(folder / "endorsement" / "root.pub").read_text().strip() for folder in pool.folders.values()]
    assert sorted(pool.policy.roots) == sorted(roots)
    assert pool.policy == installed_policy(pool.policy.roots)


def test_a_node_killed_in_mid_job_costs_no_batch(pool: RunningPool, cluster: RayCluster) -> None:
    """When a node is killed, its unanswered batches are answered by other racks: none is lost, none comes twice."""
    lost, launcher = pool.racks()[LOST].url, Path(f"/proc/{launcher_of(pool.folders[LOST])}")
    answered: list[int] = []
    futures: list[Future[RackResult]] = []
    session = connect_pool(lambda: ask_racks(pool.metrics), pool.policy)
    session.load(adding_model())
    until(lambda: all(rack.state == "serving" for rack in session.racks), what="a session with each rack")

    def send() -> None:
        number = len(futures)
        futures.append(session.submit(np.full((4000, 64), number, np.float32)))
        futures[-1].add_done_callback(lambda _future: answered.append(number))

    while len(futures) < 20:
        send()
    cluster.kill(LOST)
    while launcher.exists():  # the kernel ends the rack when Ray's processes on the node have ended
        send()
    until(lambda: next(rack for rack in session.racks if rack.url == lost).state == "lost", what="the loss")
    gone = len(futures)
    while len(futures) < gone + 8:
        send()
    results = [future.result(60) for future in futures]
    for number, result in enumerate(results):
        (output,) = result.outputs.values()
        assert (output == number + 1).all()
        assert session.bundle(result).receipt
    assert sorted(answered) == list(range(len(futures)))
    assert lost in {result.rack for result in results[:gone]}
    assert lost not in {result.rack for result in results[gone:]}
    until(lambda: not pool.racks()[LOST].healthy, what="the pool's word")
    assert set(ask_racks(pool.metrics)) == {rack.url for name, rack in pool.racks().items() if name != LOST}
    with pytest.raises(CleaningUnproven, match=lost):  # nobody can say what became of its enclave
        session.close()
