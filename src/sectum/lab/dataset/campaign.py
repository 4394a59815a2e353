"""Which networks a campaign measures, and the loop that measures and stores them."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sectum import zoo
from sectum.errors import ShapeInconsistent, UsageError
from sectum.graph.ir import Graph
from sectum.lab.dataset.dataset import read
from sectum.lab.dataset.engines import Engine, store
from sectum.lab.dataset.shards import Record, ShardWriter
from sectum.lab.dataset.task import SAMPLE, Task, identity, task_of
from sectum.ort.costs import cost
from sectum.units import PAGE_BYTES

NAMED_SHARE = 0.12
"""Share of the networks that are published ones, at another width and resolution; others are drawn from families."""
WIDTHS = (0.5, 0.75, 1.0, 1.0, 1.25)
BATCHES = (1, 1, 1, 1, 1, 1, 1, 1, 2, 4)
COMMON_S, MAX_GFLOP = 0.1, 6.0
"""A network whose inference takes longer than the first when it pages is taken less often, by the square of that time;
one of more work than the second never is. So there are large networks, but they do not take a campaign's whole time."""
_GFLOP_S, _PAGE_S = 1 / 40, 25e-6  # of a core of 2021
MAX_WEIGHT_BYTES = 256 << 20
HEAVY_WEIGHT_BYTES = 48 << 20
"""Weights of networks that ``only_heavy`` keeps to: an ordinary plan has few of them, because paging takes its time."""
_DRAWS = 1000


def affordable(graph: Graph, luck: float) -> bool:
    """Whether a campaign spends the time and memory that a network takes.

    Args:
        graph: the network.
        luck: from 0 to 1, drawn; the more the network costs, the less must it be.
    """
    gflop = _gflop(graph)
    pages = (graph.weight_bytes + graph.lifetimes.peak_bytes) / PAGE_BYTES
    time_s = gflop * _GFLOP_S + pages * _PAGE_S
    return _bearable(graph) and luck * (time_s / COMMON_S) ** 2 <= 1


def heavy(graph: Graph) -> bool:
    """Whether a network is mostly weights, and still of a size that a campaign can bear."""
    return graph.weight_bytes >= HEAVY_WEIGHT_BYTES and _bearable(graph)


def _bearable(graph: Graph) -> bool:
    return _gflop(graph) <= MAX_GFLOP and graph.weight_bytes <= MAX_WEIGHT_BYTES


def _gflop(graph: Graph) -> float:
    return sum(cost(op, graph).flops for op in graph.operators) / 1e9


def tasks(
    seed: int,
    known: Container[str] = frozenset(),
    *,
    families: Sequence[str] = (),
    only_heavy: bool = False,
    threads: int = 1,
) -> Iterator[Task]:
    """Tasks without end: the families in turn, the same for the same arguments.

    Args:
        seed: of the plan.
        known: keys of tasks that are not wanted any more. They are passed over without making their networks, so
            that a campaign goes on in seconds after thousands of them.
        families: to keep to; those of image classifiers if none is given.
        only_heavy: keep to networks that are `heavy`, however long they take, instead of those that are `affordable`.

        threads: of the runtime.

    Raises:
        UsageError: no family has such networks.
    """
    families = tuple(families) or tuple(zoo.families())
    barren = 0
    for index in itertools.count():
        family = families[index % len(families)]
        tried = itertools.islice(_draws(seed, index, family, families, threads), _DRAWS)
        if any(task.key in known for task, _ in tried):
            continue
        for task, luck in itertools.islice(_draws(seed, index, family, families, threads), _DRAWS):
            graph = zoo.to_graph(task.network(), task.batch)
            if heavy(graph) if only_heavy else affordable(graph, luck):
                yield task
                barren = 0
                break
        else:
            barren += 1
            if barren > len(families):
                kind = "heavy network" if only_heavy else "network"
                raise UsageError(f"no {kind} found in {', '.join(families)}: give other families")


def _draws(seed: int, index: int, family: str, families: tuple[str, ...], threads: int) -> Iterator[tuple[Task, float]]:
    """Candidates for one place of the plan, and the luck of each; the first that is affordable takes the place."""
    rng = random.Random(f"{seed}/{index}")  # noqa: S311 - a plan, not a secret
    batch = rng.choice(BATCHES)
    is_named = rng.random() < NAMED_SHARE
    names = _published(families)
    while True:
        task = _named(rng, names, batch) if is_named and names else _sampled(rng, family, batch)
        if task is not None:
            yield replace(task, threads=threads), rng.random()


def _sampled(rng: random.Random, family: str, batch: int) -> Task:
    return Task(SAMPLE, family, rng.randrange(1 << 31), 1.0, 0, batch)


def _named(rng: random.Random, names: Sequence[str], batch: int) -> Task | None:
    name, width, resolution = rng.choice(names), rng.choice(WIDTHS), 32 * rng.randint(1, 7)
    if name in zoo.program_names():
        return Task(name, zoo.network(name).family, rng.randrange(1 << 31), 1.0, 0, batch)
    family = _family(name, width, resolution)
    return None if family is None else Task(name, family, rng.randrange(1 << 31), width, resolution, batch)


@functools.cache
def _published(families: tuple[str, ...]) -> list[str]:
    return [name for name in (*zoo.names(), *zoo.program_names()) if zoo.network(name).family in families]


@functools.cache
def _family(name: str, width: float, resolution: int) -> str | None:
    """Family of a published network; None where the images are too small for it."""
    try:
        return zoo.network(name, resolution=resolution, width=width).family
    except ShapeInconsistent:
        return None


def new_tasks(planned: Iterable[Task], writer: ShardWriter) -> Iterator[Task]:
    """Tasks that the dataset does not hold yet. A network whose equal it holds, with an equal batch, is left out."""
    measured = {identity(row["structure"], row["batch"], row["threads"]) for row in writer.known.values()}
    for task in planned:
        if task.key in writer.keys:
            continue
        what = identity(zoo.structure(task.network()), task.batch, task.threads)
        if task.repeat or what not in measured:
            measured.add(what)  # at once: on a cluster it is stored later
            yield task


def repeated(rows: Iterable[dict[str, Any]], networks: int, seed: int) -> list[Task]:
    """Draw networks that were measured without failure, to be measured again: the noise of the labels."""
    measured = sorted((row for row in rows if not row["error"] and "#" not in row["key"]), key=lambda row: row["key"])
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    chosen = rng.sample(measured, min(networks, len(measured)))
    return [replace(task_of(row), repeat=1) for row in chosen]


def to_repeat(folder: Path, machines: Container[str], networks: int, seed: int) -> list[Task]:
    """Draw networks to measure again. Those of other machines are left out: they would differ by more than noise.

    Raises:
        UsageError: these machines have measured nothing.
    """
    fields = ["key", "family", "source", "seed", "width", "resolution", "batch", "threads", "error", "machine"]
    planned = repeated((row for row in read(folder, fields) if row["machine"] in machines), networks, seed)
    if not planned:
        raise UsageError(f"{folder} holds no network that this machine measured: give its --machine, or collect first")
    return planned


def collect(
    writer: ShardWriter, planned: Iterable[Task], engine: Engine, networks: int
) -> Generator[Record, None, None]:
    """Measure and store until the dataset holds as many networks; see `sectum.lab.dataset.engines.store`."""
    missing = max(0, networks - len(writer.keys))
    return store(engine, itertools.islice(new_tasks(planned, writer), missing), writer)
