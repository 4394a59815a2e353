"""Which networks are measured: decided by a seed, each once, none too large, and again from what was stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataset_records import failed, record
from sectum import zoo
from sectum.errors import UsageError
from sectum.lab.dataset import campaign
from sectum.lab.dataset.campaign import affordable, collect, new_tasks, repeated, tasks
from sectum.lab.dataset.task import SAMPLE, Task, task_of
from sectum.ort.costs import cost

pytestmark = pytest.mark.slow

SEED = 5
PLANNED = 2 * len(zoo.families())


@pytest.fixture(scope="module")
def planned() -> list[Task]:
    return list(itertools.islice(tasks(SEED), PLANNED))


class Writer:
    """Remembers what is stored, as `DatasetWriter` does."""

    def __init__(self, *stored: dict[str, Any]) -> None:
        self.known = {one["key"]: one for one in stored}
        self.flushed = 0

    @property
    def keys(self) -> set[str]:
        return set(self.known)

    def add(self, one: dict[str, Any]) -> None:
        self.known[one["key"]] = one

    def flush(self) -> None:
        self.flushed = len(self.known)


def measured(task: Task, **changes: Any) -> dict[str, Any]:
    """Make the record that measuring the task would give."""
    architecture = task.network()
    return record(task.seed) | {
        "key": task.key,
        "family": task.family,
        "source": task.source,
        "width": task.width,
        "resolution": architecture.resolution,
        "batch": task.batch,
        "structure": zoo.structure(architecture)[:32],
        **changes,
    }


class FakeEngine:
    """Measures nothing, at once; ends with an error after so many if it is told to."""

    def __init__(self, ends_after: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self._ends_after, self._error = ends_after, error

    def context(self) -> dict[str, Any]:
        return {}

    def measure(self, to_do: Iterable[Task]) -> Iterator[dict[str, Any]]:
        for index, task in enumerate(to_do):
            if index == self._ends_after:
                raise self._error
            yield measured(task)


def test_a_seed_decides_the_tasks(planned: list[Task]) -> None:
    """Whoever collects with the same seed measures the same networks; another seed gives others."""
    assert list(itertools.islice(tasks(SEED), 8)) == planned[:8]
    assert not {task.key for task in itertools.islice(tasks(SEED + 1), 8)} & {task.key for task in planned}


def test_what_is_known_is_passed_over_without_making_it(planned: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign goes on where it was, without building what it has; what it plans then is the same."""
    known = {task.key for index, task in enumerate(planned) if index not in (3, 11)}
    assert list(itertools.islice(tasks(SEED, known), 2)) == [planned[3], planned[11]]
    built: list[Task] = []
    monkeypatch.setattr(Task, "network", lambda task: built.append(task) or zoo.network("shufflenet_v2_x0_5"))
    next(tasks(SEED, known))
    assert len(built) == 1


def test_a_plan_keeps_to_the_families_given() -> None:
    """Published networks come from families that were given; a family without any has only drawn ones."""
    assert {task.family for task in itertools.islice(tasks(SEED, families=("mixed",)), 20)} == {"mixed"}
    pair = list(itertools.islice(tasks(SEED, families=("vgg", "alexnet")), 40))
    assert {task.family for task in pair} == {"vgg", "alexnet"}
    assert {task.source for task in pair} > {SAMPLE}


def test_heavy_networks_are_mostly_weights() -> None:
    """They need not be affordable, but still have the size that a campaign bears."""
    for task in itertools.islice(tasks(SEED, families=("alexnet",), only_heavy=True), 4):
        graph = zoo.to_graph(task.network(), task.batch)
        assert campaign.HEAVY_WEIGHT_BYTES <= graph.weight_bytes <= campaign.MAX_WEIGHT_BYTES


def test_a_plan_without_networks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a family of small networks for heavy ones is told so, and does not wait for ever."""
    monkeypatch.setattr(campaign, "_DRAWS", 5)
    with pytest.raises(UsageError, match="no heavy network found in nasbench201"):
        next(tasks(SEED, families=("nasbench201",), only_heavy=True))


def test_families_take_turns(planned: list[Task]) -> None:
    """Every family is measured about as often, but where a published network took its turn."""
    families = zoo.families()
    sampled = [(index, task) for index, task in enumerate(planned) if task.source == SAMPLE]
    assert 0.7 * len(planned) <= len(sampled) < len(planned)
    assert all(task.family == families[index % len(families)] for index, task in sampled)


def test_tasks_are_distinct_and_affordable(planned: list[Task]) -> None:
    """No key comes twice, and every network is one that a campaign has the time and memory for."""
    assert len({task.key for task in planned}) == len(planned)
    for task in planned:
        graph = zoo.to_graph(task.network(), task.batch)
        assert sum(cost(op, graph).flops for op in graph.operators) <= campaign.MAX_GFLOP * 1e9
        assert graph.weight_bytes <= campaign.MAX_WEIGHT_BYTES


def test_a_task_always_makes_the_same_network(planned: list[Task]) -> None:
    """What was measured can be made again from its row, whatever was drawn in between."""
    for task in planned[:6]:
        assert zoo.structure(task.network()) == zoo.structure(task.network())


@pytest.mark.parametrize("repeat", [0, 1, 12])
def test_a_task_comes_back_from_its_row(planned: list[Task], repeat: int) -> None:
    """Rows say all that is needed to measure their network again, and how often it was."""
    for task in planned[::3]:
        again = replace(task, repeat=repeat)
        assert task_of(measured(again)) == again
        assert task_of(measured(again)).key == again.key


@pytest.mark.parametrize(
    ("name", "width", "luck", "is_affordable"),
    [
        ("shufflenet_v2_x0_5", 1.0, 1.0, True),  # 0.05 s when it pages: always
        ("mobilenet_v2", 1.0, 0.38, True),  # 0.16 s: with luck
        ("mobilenet_v2", 1.0, 0.40, False),
        ("vgg16", 1.0, 0.0, False),  # 31 GFLOP: never
        ("alexnet", 1.0, 0.004, True),  # 1.5 s
        ("alexnet", 1.25, 0.0, False),  # 360 MiB of weights: never, although it computes little
    ],
)
def test_what_costs_more_is_taken_more_seldom(name: str, width: float, luck: float, is_affordable: bool) -> None:
    """Large networks are there and do not take all of the time; the largest are not."""
    assert affordable(zoo.to_graph(zoo.network(name, width=width), 1), luck) is is_affordable


def test_what_the_dataset_holds_is_left_out(planned: list[Task]) -> None:
    """Neither a stored task comes again, nor another one whose network is the same; other batches do."""
    first, second, third = planned[:3]
    held = Writer(measured(first), measured(second, key="the same network, from another seed"))
    other_batch = replace(second, batch=second.batch + 1)
    assert list(new_tasks([first, second, third, other_batch], held)) == [third, other_batch]


def test_a_network_that_is_being_measured_is_not_given_twice(planned: list[Task]) -> None:
    """On a cluster several tasks are under way, and none of them in the dataset yet."""
    assert list(new_tasks([planned[0], planned[0]], Writer())) == [planned[0]]


def test_a_network_that_is_measured_again_is_no_duplicate(planned: list[Task]) -> None:
    """Repeats are wanted although their network is there; each of them once."""
    again = replace(planned[0], repeat=1)
    assert list(new_tasks([again], Writer(measured(planned[0])))) == [again]
    assert list(new_tasks([again], Writer(measured(planned[0]), measured(again)))) == []


def test_repeats_are_drawn_from_what_was_measured_well(planned: list[Task]) -> None:
    """Failures and repeats are not repeated; the seed decides, not the order of the rows."""
    good = [measured(task) for task in planned[:10]]
    bad = [failed(1), measured(replace(planned[0], repeat=1))]
    chosen = repeated([*good, *bad], 4, SEED)
    assert chosen == repeated([*reversed(bad), *reversed(good)], 4, SEED)
    assert chosen != repeated(good, 4, SEED + 1)
    assert len(chosen) == len({task.key for task in chosen}) == 4
    assert all(replace(task, repeat=0) in planned[:10] and task.repeat == 1 for task in chosen)
    assert len(repeated(good, 1000, SEED)) == 10
    assert repeated(bad, 4, SEED) == []


def test_collecting_stops_at_the_number_that_was_asked_for(planned: list[Task]) -> None:
    """What the dataset holds already counts, and all is in a shard at the end."""
    writer = Writer(measured(planned[0]))
    assert [one["key"] for one in collect(writer, planned, FakeEngine(), 4)] == [task.key for task in planned[1:4]]
    assert len(writer.keys) == writer.flushed == 4
    assert list(collect(writer, planned, FakeEngine(), 4)) == []
    assert list(collect(writer, planned, FakeEngine(), 3)) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, RuntimeError])
def test_what_was_measured_before_the_end_is_stored(planned: list[Task], error: type[BaseException]) -> None:
    """Ctrl-C and errors end a campaign, not what it has; the next one goes on behind it."""
    writer = Writer()
    with pytest.raises(error):
        list(collect(writer, planned, FakeEngine(2, error), 6))
    assert writer.flushed == 2
    list(collect(writer, planned, FakeEngine(), 6))
    assert list(writer.known) == [task.key for task in planned[:6]]


def test_a_campaign_goes_through_a_real_dataset(planned: list[Task], tmp_path: Path) -> None:
    """Planning and storing fit together: what comes back from the shards are the tasks."""
    pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
    from sectum.lab.dataset.dataset import DatasetWriter, read

    for networks in (3, 5):
        with DatasetWriter(tmp_path, "here", {}) as writer:
            list(collect(writer, tasks(SEED), FakeEngine(), networks))
    assert [task_of(row) for row in read(tmp_path)] == planned[:5]
