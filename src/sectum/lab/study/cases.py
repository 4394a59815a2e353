"""What the study measures: each sweep varies one thing and holds the others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from sectum.lab.study.networks import Kind, Order, Synthetic
from sectum.units import MIB, PAGE_BYTES

MEMORY_MIB = {
    16: (8, 12, 15, 17, 20, 24, 31),
    32: (17, 24, 31, 33, 36, 48, 63),
    64: (36, 48, 63, 66, 72),
    93: (48, 72, 91, 95, 104, 128),
}
"""Sweep of memory: matrices of 1 MiB under each EPC size, dense where they pass it. The largest EPC is what a
processor with 128 MB of it leaves to enclaves."""
STEPS = 144
"""Convolutions in the sweep of memory. They use the matrices in turn, in at least two whole rounds up to 72 MiB."""
POLICIES = ("second-chance", "fifo")
WORKING_SETS_OVER_EPC = (0.5, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.2, 1.35, 1.6, 2.0, 3.0)
"""Dense where they pass 1."""
HELD_WORKING_SETS_OVER_EPC = (0.8, 1.25, 2.0)
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
class StudyCase:
    """One network, in one process natively and in one enclave, under several EPC sizes.

    Attributes:
        sweep: what it is part of.
        network: to measure.
        policy: of replacement.
        threads: of the runtime.
        epc_sizes: in bytes.
        working_sets_over_epc: EPC sizes that depend on the working set.
    """

    sweep: Sweep
    network: Synthetic
    policy: str = POLICIES[0]
    threads: int = 1
    epc_sizes: tuple[int, ...] = ()
    working_sets_over_epc: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """Names the case within a study."""
        return f"{self.sweep}/{self.network.key}/{self.policy}/t{self.threads}/{self.network.seed}"

    def epcs(self, working_set_bytes: int) -> list[int]:
        """EPC sizes to measure under, in bytes, whole pages, the largest first."""
        relative = [int(working_set_bytes / ratio) // PAGE_BYTES * PAGE_BYTES for ratio in self.working_sets_over_epc]
        return sorted({*self.epc_sizes, *relative}, reverse=True)


def plan(seed: int = 0, threads: int = 1) -> list[StudyCase]:
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


_weights = partial(Synthetic, kind=Kind.WEIGHTS, channels=512)
"""Matrices of 1 MiB."""
_maps = partial(Synthetic, kind=Kind.MAPS, channels=64)
"""Maps of 1 MiB at a resolution of 64."""


def _memory() -> Iterator[StudyCase]:
    for distinct in sorted({distinct for sizes in MEMORY_MIB.values() for distinct in sizes}):
        epcs = tuple(epc_mib * MIB for epc_mib, sizes in MEMORY_MIB.items() if distinct in sizes)
        network = _weights(order=Order.CYCLE, distinct=distinct, steps=STEPS, resolution=4)
        yield StudyCase(sweep=Sweep.MEMORY, network=network, epc_sizes=epcs)


def _orders() -> Iterator[StudyCase]:
    networks = [_weights(order=order, distinct=24, steps=48, resolution=4) for order in Order]
    networks += [_maps(order=order, distinct=24, steps=2, resolution=64) for order in (Order.CYCLE, Order.BACK)]
    for network in networks:
        for policy in POLICIES:
            yield StudyCase(
                sweep=Sweep.ORDER, network=network, policy=policy, working_sets_over_epc=WORKING_SETS_OVER_EPC
            )


def _computation() -> Iterator[StudyCase]:
    networks = [
        _weights(order=Order.CYCLE, distinct=32, steps=32, resolution=resolution) for resolution in (1, 2, 4, 8, 16, 32)
    ]
    networks += [_maps(order=Order.BACK, distinct=24, steps=steps, resolution=64) for steps in (1, 2, 4, 8)]
    for network in networks:
        yield StudyCase(sweep=Sweep.COMPUTATION, network=network, working_sets_over_epc=HELD_WORKING_SETS_OVER_EPC)


def _batches() -> Iterator[StudyCase]:
    weights = _weights(order=Order.CYCLE, distinct=48, steps=48, channels=256, resolution=16)
    maps = _maps(order=Order.BACK, distinct=16, steps=2, resolution=32)
    for batch in (1, 2, 4, 8, 16):
        for network in (weights, maps):
            yield StudyCase(sweep=Sweep.BATCH, network=replace(network, batch=batch), epc_sizes=(16 * MIB, 32 * MIB))


def _operators() -> Iterator[StudyCase]:
    network = _weights(order=Order.BETWEEN, distinct=24, steps=48, resolution=8)
    yield StudyCase(sweep=Sweep.OPERATORS, network=network, working_sets_over_epc=(0.8, 1.5))
