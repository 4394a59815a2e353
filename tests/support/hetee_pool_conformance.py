"""What every pool of racks has to do: one suite, which the test of a pool inherits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from hetee_rack import adding_model, until
from sectum.hetee.client import connect
from sectum.hetee.client.pool import connect_pool
from sectum.hetee.errors import HeteeError
from sectum.hetee.inventory import Inventory, RackEntry, ask_racks, read_inventory
from sectum.hetee.verification.policy import Policy

RACK_S = 90.0


@dataclass
class RunningPool:
    """A pool that runs.

    Attributes:
        metrics: where it tells its racks.
        policy: accepts all of them.
        folders: the folder of each rack, by its name.
        launcher: gives the process that runs the rack in a folder.
    """

    metrics: str
    policy: Policy
    folders: dict[str, Path]
    launcher: Callable[[Path], int]

    def racks(self) -> dict[str, RackEntry]:
        """The racks that it tells now, by name."""
        return {rack.name: rack for rack in self.inventory().racks}

    def inventory(self) -> Inventory:
        """What it tells now."""
        with urlopen(f"http://{self.metrics}/racks", timeout=5) as answer:
            return read_inventory(answer.read())

    def controller(self, name: str) -> int:
        """The process id of a rack's controller."""
        launcher = self.launcher(self.folders[name])
        return next(pid for pid in children(launcher) if command_of(pid).startswith(b"/controller/"))


def command_of(pid: int) -> bytes:
    """The command line of a process, with zero bytes between its words; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def children(pid: int) -> list[int]:
    """The processes that any thread of a process started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += map(int, task.read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def works(url: str, policy: Policy) -> bool:
    """Whether a rack serves an attested session."""
    batch = np.zeros((1, 64), np.float32)
    try:
        with connect(url, policy, wait_s=5, timeout_s=2) as session:
            session.load(adding_model())
            (output,) = session.infer(batch).outputs.values()
    except HeteeError:
        return False
    return bool(np.array_equal(output, batch + 1))


class PoolConformance:
    """The suite. A test class inherits it and has a fixture ``pool``."""

    def test_every_rack_that_it_tells_serves_an_attested_client(self, pool: RunningPool) -> None:
        """Each address that a pool calls healthy leads to a rack that the policy accepts, and that computes."""
        urls = ask_racks(pool.metrics)
        assert len(urls) == len(pool.folders)
        assert all(works(url, pool.policy) for url in urls)

    def test_it_tells_addresses_and_counts_and_nothing_else(self, pool: RunningPool) -> None:
        """An inventory has the fields that clients read, with the number of accelerators of each rack."""
        inventory = pool.inventory()  # refuses unknown fields
        assert {rack.name for rack in inventory.racks} == set(pool.folders)
        for rack in inventory.racks:
            assert rack.healthy
            assert rack.accelerators == {"cpu": 1}
            assert rack.problems == ()

    def test_batches_are_spread_over_its_racks(self, pool: RunningPool) -> None:
        """A session over the pool answers every batch once, with its own result, the name of its rack and a receipt."""
        batches = [np.full((64, 64), number, np.float32) for number in range(12)]
        with connect_pool(lambda: ask_racks(pool.metrics), pool.policy) as session:
            session.load(adding_model())
            until(lambda: all(rack.state == "serving" for rack in session.racks), what="a session with each rack")
            results = [future.result(60) for future in [session.submit(batch) for batch in batches]]
            reports = session.racks
        for batch, result in zip(batches, results, strict=True):
            (output,) = result.outputs.values()
            assert np.array_equal(output, batch + 1)
            assert result.receipt.items == 64
        assert sum(rack.answered for rack in reports) == len(batches)
        assert {result.rack for result in results} <= {rack.url for rack in reports}
        assert len({result.device for result in results}) == len({result.rack for result in results})

    def test_a_controller_that_dies_is_back_at_its_address(self, pool: RunningPool) -> None:
        """A rack whose controller was killed serves again at the address that clients know."""
        name, before = next(iter(pool.racks().items()))
        os.kill(pool.controller(name), signal.SIGKILL)
        until(lambda: works(before.url, pool.policy), RACK_S, "the rack")
        until(lambda: pool.racks()[name].healthy, RACK_S, "the pool's word")
        assert pool.racks()[name].url == before.url
