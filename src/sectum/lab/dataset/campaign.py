"""Which networks a campaign measures, and the loop that measures and stores them."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sectum import zoo
from sectum.errors import ShapeInconsistent, UsageError
from sectum.graph.ir import Graph
from sectum.ort.costs import cost
from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    from sectum.lab.dataset.dataset import DatasetWriter
    from sectum.lab.dataset.engines import Engine

SAMPLE = "sample"
NAMED_SHARE = 0.12
"""Of the networks: published ones, at another width and resolution. All others are random relatives of them."""
WIDTHS = (0.5, 0.75, 1.0, 1.0, 1.25)
BATCHES = (1, 1, 1, 1, 1, 1, 1, 1, 2, 4)
COMMON_S, MAX_GFLOP = 0.1, 6.0
"""Of networks whose inference takes longer than the first when it pages, fewer are taken, with the square of that time;
of more than the second none: large ones are there, and do not take all of a campaign's time."""
_GFLOP_S, _PAGE_S = 1 / 40, 25e-6  # of a core of 2021
MAX_WEIGHT_BYTES = 256 << 20
HEAVY_WEIGHT_BYTES = 48 << 20
"""Weights of networks that are measured for their weights: a plan for all has few of them, as paging takes its time."""
DIGEST_CHARACTERS = 32
"""Of a structure's or topology's digest that are stored: no two of ten thousand agree in that many."""
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Task:
    """One network to measure; the same fields always make the same network.

    Attributes:
        source: ``sample``, or the name of a published network.
        family: to draw from; of a published network, the family that it belongs to.
        seed: of the draw and of the weights; of the EPC sizes too.
        width: of a published network.
        resolution: of a published network, in pixels; a sample draws its own.
        batch: images in an inference.
        repeat: 0, or how many times it was measured before.
    """

    source: str
    family: str
    seed: int
    width: float
    resolution: int
    batch: int
    repeat: int = 0

    @property
    def key(self) -> str:
        """Names the task within a dataset."""
        what = self.family if self.source == SAMPLE else f"{self.source}:w{self.width:g}:r{self.resolution}"
        again = f"#{self.repeat}" if self.repeat else ""
        return f"{what}/{self.seed}/b{self.batch}{again}"

    def architecture(self) -> zoo.Architecture:
        """Make the network."""
        if self.source == SAMPLE:
            return zoo.sample(self.family, random.Random(self.seed))  # noqa: S311 - a network, not a secret
        return zoo.build(self.source, resolution=self.resolution, width=self.width, seed=self.seed)


def identity(structure: str, batch: int) -> str:
    """Name what two tasks share if they would measure the same thing."""
    return f"{structure[:DIGEST_CHARACTERS]}/b{batch}"


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
    seed: int, known: Container[str] = frozenset(), *, families: Sequence[str] = (), only_heavy: bool = False
) -> Iterator[Task]:
    """Tasks without end: the families in turn, the same for the same arguments.

    Args:
        seed: of the plan.
        known: keys of tasks that are not wanted any more. They are passed over without making their networks, so
            that a campaign goes on in seconds after thousands of them.
        families: to keep to; all if none is given.
        only_heavy: keep to networks that are `heavy`, however long they take, instead of those that are `affordable`.

    Raises:
        UsageError: no family has such networks.
    """
    families = tuple(families) or tuple(zoo.families())
    barren = 0
    for index in itertools.count():
        family = families[index % len(families)]
        tried = itertools.islice(_draws(seed, index, family, families), _DRAWS)
        if any(task.key in known for task, _ in tried):
            continue
        for task, luck in itertools.islice(_draws(seed, index, family, families), _DRAWS):
            graph = zoo.to_graph(task.architecture(), task.batch)
            if heavy(graph) if only_heavy else affordable(graph, luck):
                yield task
                barren = 0
                break
        else:
            barren += 1
            if barren > len(families):
                kind = "heavy network" if only_heavy else "network"
                raise UsageError(f"no {kind} found in {', '.join(families)}: give other families")


def _draws(seed: int, index: int, family: str, families: tuple[str, ...]) -> Iterator[tuple[Task, float]]:
    """Candidates for one place of the plan, and the luck of each; the first that is affordable takes the place."""
    rng = random.Random(f"{seed}/{index}")  # noqa: S311 - a plan, not a secret
    batch = rng.choice(BATCHES)
    is_named = rng.random() < NAMED_SHARE
    names = _published(families)
    while True:
        task = _named(rng, names, batch) if is_named and names else _sampled(rng, family, batch)
        if task is not None:
            yield task, rng.random()


def _sampled(rng: random.Random, family: str, batch: int) -> Task:
    return Task(SAMPLE, family, rng.randrange(1 << 31), 1.0, 0, batch)


def _named(rng: random.Random, names: Sequence[str], batch: int) -> Task | None:
    name, width, resolution = rng.choice(names), rng.choice(WIDTHS), 32 * rng.randint(1, 7)
    family = _family(name, width, resolution)
    return None if family is None else Task(name, family, rng.randrange(1 << 31), width, resolution, batch)


@functools.cache
def _published(families: tuple[str, ...]) -> list[str]:
    return [name for name in zoo.names() if zoo.build(name).family in families]


@functools.cache
def _family(name: str, width: float, resolution: int) -> str | None:
    """Family of a published network; None where the images are too small for it."""
    try:
        return zoo.build(name, resolution=resolution, width=width).family
    except ShapeInconsistent:
        return None


def new_tasks(planned: Iterable[Task], writer: DatasetWriter) -> Iterator[Task]:
    """Tasks that the dataset does not hold yet, nor their like: an equal network with equal batch."""
    given: set[str] = set()  # on a cluster some are being measured, and stored later
    for task in planned:
        if task.key in writer.keys:
            continue
        what = identity(zoo.structure(task.architecture()), task.batch)
        if task.repeat or what not in writer.identities | given:
            given.add(what)
            yield task


def repeated(rows: Iterable[dict[str, Any]], networks: int, seed: int) -> list[Task]:
    """Draw networks that were measured well, to be measured again: the noise of the labels.

    Args:
        rows: of a dataset.
        networks: how many.
        seed: of the draw.
    """
    measured = sorted((row for row in rows if not row["error"] and "#" not in row["key"]), key=lambda row: row["key"])
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    chosen = rng.sample(measured, min(networks, len(measured)))
    return [replace(task_of(row), repeat=1) for row in chosen]


def task_of(row: dict[str, Any]) -> Task:
    """Rebuild the task that a row was measured for."""
    resolution = 0 if row["source"] == SAMPLE else row["resolution"]
    repeat = int(row["key"].partition("#")[2] or 0)
    return Task(row["source"], row["family"], row["seed"], row["width"], resolution, row["batch"], repeat)


def collect(writer: DatasetWriter, planned: Iterable[Task], engine: Engine, networks: int) -> Iterator[dict[str, Any]]:
    """Measure and store until the dataset holds as many networks; yields each record when it is safe.

    Args:
        writer: of the dataset.
        planned: what to measure, in this order; what is there already is left out.
        engine: where.
        networks: to stop at, those included that were there before.

    Raises:
        EnclaveUnavailable: the software enclave cannot run.
        OSError: the disk is full; what was stored stays.
    """
    missing = networks - len(writer.keys)
    try:
        for record in engine.measure(itertools.islice(new_tasks(planned, writer), max(0, missing))):
            writer.add(record)
            yield record
    finally:  # Ctrl-C too
        writer.flush()
