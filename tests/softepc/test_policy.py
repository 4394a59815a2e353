"""The counters and the order of faults equal those of a page-by-page simulation of the policy."""

from __future__ import annotations

import random
from collections import OrderedDict

import pytest

PAGE_BYTES = 4096
BATCH = 16
ZERO_FILL, LOAD, MINOR = 0, 1, 2


class Simulation:
    """The policy of softepc, as documented. Pages are (allocation, index)."""

    def __init__(self, budget_pages: int, policy: str) -> None:
        self.budget, self.policy = budget_pages, policy
        self.resident: OrderedDict[tuple[int, int], bool] = OrderedDict()  # oldest first; mapped?
        self.sealed: set[tuple[int, int]] = set()
        self.live: dict[int, int] = {}
        self.faults: list[tuple[tuple[int, int], int]] = []
        self.evictions = 0

    def reclaim(self) -> None:
        batch = [self.resident.popitem(last=False) for _ in range(min(BATCH, len(self.resident)))]
        for page, mapped in batch:
            if mapped and self.policy == "second-chance":
                self.resident[page] = False
            else:
                self.sealed.add(page)
                self.evictions += 1

    def touch(self, page: tuple[int, int]) -> None:
        if page in self.resident:
            if not self.resident[page]:
                self.resident[page] = True
                self.faults.append((page, MINOR))
            return
        while self.budget and len(self.resident) >= self.budget:
            self.reclaim()
        self.faults.append((page, LOAD if page in self.sealed else ZERO_FILL))
        self.sealed.discard(page)
        self.resident[page] = True

    def discard(self, allocation: int, first: int, count: int) -> None:
        for index in range(first, first + count):
            self.resident.pop((allocation, index), None)
            self.sealed.discard((allocation, index))

    def free(self, allocation: int) -> None:
        self.discard(allocation, 0, self.live.pop(allocation))

    def set_budget(self, pages: int) -> None:
        self.budget = pages
        while pages and len(self.resident) > pages:
            self.reclaim()

    def totals(self) -> list[int]:
        kinds = [kind for _, kind in self.faults]
        return [
            *(kinds.count(kind) for kind in (ZERO_FILL, LOAD, MINOR)),
            self.evictions,
            len(self.resident) * PAGE_BYTES,
            len(self.sealed) * PAGE_BYTES,
            sum(self.live.values()) * PAGE_BYTES,
        ]


def random_script(rng: random.Random, simulation: Simulation, changes: bool) -> list[str]:
    """Run random operations on the simulation; return them as a script for the C program."""
    script: list[str] = []
    for _ in range(400):
        choice = rng.random()
        identity = rng.randrange(12)
        if identity not in simulation.live:
            pages = rng.choice([16, 17, 40, 150, 600])
            script.append(f"a {identity} {pages}")
            simulation.live[identity] = pages
        elif choice < 0.08:
            script.append(f"f {identity}")
            simulation.free(identity)
        elif choice < 0.14:
            first = rng.randrange(simulation.live[identity])
            count = rng.randint(1, simulation.live[identity] - first)
            script.append(f"d {identity} {first} {count}")
            simulation.discard(identity, first, count)
        elif choice < 0.18 and changes:
            pages = rng.choice([0, 64, 65, 200, 500])
            script.append(f"b {pages * PAGE_BYTES}")
            simulation.set_budget(pages)
        elif choice < 0.22 and changes:
            simulation.policy = rng.choice(["fifo", "second-chance"])
            script.append(f"p {simulation.policy}")
        else:
            pages = simulation.live[identity]
            start, length, step = rng.randrange(pages), rng.randint(1, pages), rng.choice([1, 1, 3, -1])
            for k in range(length):
                index = (start + k * step) % pages
                script.append(f"t {identity} {index}")
                simulation.touch((identity, index))
    return script


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget_pages", [64, 100, 777, 0])
@pytest.mark.parametrize("policy", ["second-chance", "fifo"])
def test_counters_and_trace_equal_the_simulation(enclave, policy, budget_pages, seed):
    """Counters and faults of random operations are exactly those of the policy."""
    changes = seed % 2 == 1
    simulation = Simulation(budget_pages, policy)
    script = random_script(random.Random(f"{policy} {budget_pages} {seed}"), simulation, changes)
    result = enclave.run(
        enclave.program("sequence"), budget_bytes=budget_pages * PAGE_BYTES, policy=policy, stdin="\n".join(script)
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    trace = [tuple(map(int, line.split())) for line in lines[1:]]
    assert [kind for _, kind in trace] == [kind for _, kind in simulation.faults]
    assert list(map(int, lines[0].split())) == simulation.totals()
    assert len(trace) > 500


def test_the_trace_names_pages_within_the_region(enclave):
    """Page numbers in a trace count from the region's base."""
    script = "a 0 16\na 1 16\nt 1 3\nt 0 5\nt 1 3\n"
    result = enclave.run(enclave.program("sequence"), stdin=script)
    assert result.stdout.splitlines()[1:] == ["19 0", "5 0"]
