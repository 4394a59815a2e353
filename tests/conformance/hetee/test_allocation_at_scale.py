"""The simulation of the allocator at scale counts what it says."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from places import ROOT
from sectum.hetee.controller.allocation import Insecure, Secure

pytest.importorskip("simpy", reason="install sectum[simulate]")
pytestmark = pytest.mark.slow


def simulation() -> Any:
    """The benchmark as a module."""
    name = "allocation_at_scale"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def machine(load: float, hours: float = 6.0) -> Any:
    """A rack of 32 accelerators with so much load of sessions and of jobs."""
    module = simulation()
    return module.Machine(
        32,
        hours,
        sessions_load=load,
        jobs_load=load,
        quantum_s=5.0,
        costs=module.Costs(),
        every_s=1.0,
        seed=1,
    )


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on this computer."""
    return {name: value for name, value in row.items() if name not in ("decide_ms", "controller_load")}


def test_a_simulated_day_can_be_repeated() -> None:
    """The same seed gives the same figures, but for the processor time, which is measured."""
    assert figures(machine(0.5).run()) == figures(machine(0.5).run())


def test_accelerators_are_neither_lost_nor_made() -> None:
    """What the simulation counts as used is what the allocator has given away."""
    busy = machine(0.8)
    row = busy.run()
    owners = [busy.allocator.owner(f"gpu:{number}") for number in range(32)]
    assert busy.held["secure"] == sum(isinstance(owner, Secure) for owner in owners)
    assert busy.held["insecure"] == sum(isinstance(owner, Insecure) for owner in owners)
    assert all(0 <= share <= 1 for _, *shares in row["usage"] for share in (*shares, sum(shares)))
    assert row["events"]["finished"] > 0
    assert row["events"]["jobs preempted"] > 0


def test_more_load_means_longer_waits() -> None:
    """A rack with more to do than it can has longer waits of jobs than one with little to do."""
    low, high = (machine(load, 12.0).run() for load in (0.1, 0.9))
    assert high["job_wait_s"]["p99"] > low["job_wait_s"]["p99"]
    assert high["utilisation"]["insecure"] > low["utilisation"]["insecure"]
