"""What the study measures: each sweep varies one thing and holds the others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from sectum.lab.study.networks import Kind, Order, Synthetic
from sectum.units import MIB, PAGE_BYTES

MEMORY_MIB = {
    16: (8, 12, 15, 17, 20, 24, 31),
    32: (17, 24, 31, 33, 36, 48, 63),
    64: (36, 48, 63, 66, 72),
    93: (48, 72, 91, 95, 104, 128),
}
"""Sweep of memory: matrices of 1 MiB under each size of EPC, dense where they pass it. The largest EPC is what a
processor with 128 MB of it leaves to enclaves."""
STEPS = 144
"""Of the sweep of memory: convolutions that use the matrices in turn, in two whole rounds or more up to 72 MiB."""
POLICIES = ("second-chance", "fifo")
OCCUPATIONS = (0.5, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.2, 1.35, 1.6, 2.0, 3.0)
"""Working set over EPC, dense where it passes 1."""
HELD_OCCUPATIONS = (0.8, 1.25, 2.0)
"""While computation varies."""


class Sweep(StrEnum):
    """What varies.

    ``memory``: distinct weights under the same convolutions. ``order``: EPC, for each order of accesses and each
    policy. ``computation``: positions of a map, or operators on it. ``batch``: images. ``operators``: nothing; each
    operator is timed.
    """

    MEMORY = "memory"
    ORDER = "order"
    COMPUTATION = "computation"
    BATCH = "batch"
    OPERATORS = "operators"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network, in one process natively and in one enclave, under several sizes of EPC.

    Attributes:
        sweep: what it is part of.
        network: to measure.
        policy: of eviction.
        threads: of the runtime.
        epc_sizes: in bytes.
        occupations: working set over EPC; sizes that depend on the working set.
    """

    sweep: Sweep
    network: Synthetic
    policy: str = POLICIES[0]
    threads: int = 1
    epc_sizes: tuple[int, ...] = ()
    occupations: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """Names the case within a study."""
        return f"{self.sweep}/{self.network.key}/{self.policy}/t{self.threads}/{self.network.seed}"

    def epcs(self, working_set_bytes: int) -> list[int]:
        """Sizes of EPC to measure under, in bytes, whole pages, the largest first."""
        relative = [int(working_set_bytes / occupation) // PAGE_BYTES * PAGE_BYTES for occupation in self.occupations]
        return sorted({*self.epc_sizes, *relative}, reverse=True)


def plan(seed: int = 0, threads: int = 1) -> list[Case]:
    """Cases of the study, in an order in which the machine's drift falls on all sweeps alike.

    Args:
        seed: of weights and order.
        threads: of the runtime; with more than one, only what may depend on them.
    """
    if threads == 1:
        cases = [*_memory(), *_orders(), *_computation(), *_batches(), *_operators()]
    else:
        cases = [replace(case, threads=threads) for case in (*_computation(), *_operators())]
    seeded = [replace(case, network=replace(case.network, seed=seed)) for case in cases]
    random.Random(seed).shuffle(seeded)  # noqa: S311 - a plan, not a secret
    return seeded


def _weights(order: Order, distinct: int, steps: int, resolution: int, batch: int = 1) -> Synthetic:
    """Matrices of 1 MiB."""
    return Synthetic(
        kind=Kind.WEIGHTS,
        order=order,
        distinct=distinct,
        steps=steps,
        channels=512,
        resolution=resolution,
        batch=batch,
    )


def _maps(order: Order, distinct: int, steps: int, resolution: int = 64, batch: int = 1) -> Synthetic:
    """Maps of 1 MiB at a resolution of 64."""
    return Synthetic(
        kind=Kind.MAPS,
        order=order,
        distinct=distinct,
        steps=steps,
        channels=64,
        resolution=resolution,
        batch=batch,
    )


def _memory() -> Iterator[Case]:
    for distinct in sorted({distinct for sizes in MEMORY_MIB.values() for distinct in sizes}):
        epcs = tuple(epc_mib * MIB for epc_mib, sizes in MEMORY_MIB.items() if distinct in sizes)
        yield Case(sweep=Sweep.MEMORY, network=_weights(Order.CYCLE, distinct, STEPS, 4), epc_sizes=epcs)


def _orders() -> Iterator[Case]:
    networks = [_weights(order, 24, 48, 4) for order in Order]
    networks += [_maps(order, 24, 2) for order in (Order.CYCLE, Order.BACK)]
    for network in networks:
        for policy in POLICIES:
            yield Case(sweep=Sweep.ORDER, network=network, policy=policy, occupations=OCCUPATIONS)


def _computation() -> Iterator[Case]:
    networks = [_weights(Order.CYCLE, 32, 32, resolution) for resolution in (1, 2, 4, 8, 16, 32)]
    networks += [_maps(Order.BACK, 24, steps) for steps in (1, 2, 4, 8)]
    for network in networks:
        yield Case(sweep=Sweep.COMPUTATION, network=network, occupations=HELD_OCCUPATIONS)


def _batches() -> Iterator[Case]:
    for batch in (1, 2, 4, 8, 16):
        weights = Synthetic(
            kind=Kind.WEIGHTS, order=Order.CYCLE, distinct=48, steps=48, channels=256, resolution=16, batch=batch
        )
        for network in (weights, _maps(Order.BACK, 16, 2, 32, batch)):
            yield Case(sweep=Sweep.BATCH, network=network, epc_sizes=(16 * MIB, 32 * MIB))


def _operators() -> Iterator[Case]:
    yield Case(sweep=Sweep.OPERATORS, network=_weights(Order.BETWEEN, 24, 48, 8), occupations=(0.8, 1.5))
