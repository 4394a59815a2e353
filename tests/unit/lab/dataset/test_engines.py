"""Where networks are measured: failures of a network and failures of the machine are not the same."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from dataset_records import failed, record
from sectum.errors import EnclaveFailed, EnclaveUnavailable, UsageError
from sectum.lab.dataset import engines
from sectum.lab.dataset.engines import FAILURES_IN_A_ROW, LocalEngine, RayEngine, trusted
from sectum.lab.dataset.runs import Places
from sectum.lab.dataset.task import SAMPLE, Task


def task(number: int) -> Task:
    return Task(SAMPLE, "alexnet", number, 1.0, 0, 1)


class FakeWarmRunner:
    """Counts how often its parents were ended."""

    made: list[FakeWarmRunner]

    def __init__(self, base: object) -> None:
        self.base = base
        self.checks = self.closings = 0
        self.killed = threading.Event()
        self.made.append(self)

    def check(self) -> None:
        self.checks += 1

    def close(self) -> None:
        self.closings += 1

    def kill(self) -> None:
        self.killed.set()


@pytest.fixture
def runners(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeWarmRunner]]:
    """Runners of the engine under test: native, then enclave."""
    monkeypatch.setattr(FakeWarmRunner, "made", [], raising=False)
    monkeypatch.setattr(engines, "WarmRunner", FakeWarmRunner)
    return FakeWarmRunner.made


class Call(NamedTuple):
    task: Task
    places: Places


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, runners: list[FakeWarmRunner]) -> list[Call]:
    """What was measured: odd seeds above 100 fail always, even ones the first time."""
    made: list[Call] = []

    def measure(one: Task, places: Places) -> dict[str, Any]:
        made.append(Call(one, places))
        tries = sum(call.task == one for call in made)
        if one.seed > 100 and (one.seed % 2 or tries == 1):
            return failed(one.seed)
        return record(one.seed)

    monkeypatch.setattr(engines, "measure_network", measure)
    return made


def seeds(records: Iterator[dict[str, Any]]) -> list[int]:
    return [one["seed"] for one in records]


def test_tasks_are_measured_in_turn_where_they_should_be(calls: list[Call], runners: list[FakeWarmRunner]) -> None:
    """Each task once, on the CPUs and under the machine's name that were given; parents are ended after the last."""
    assert seeds(LocalEngine("here", [(1,)]).measure(map(task, range(3)))) == [0, 1, 2]
    assert [call.task for call in calls] == [task(number) for number in range(3)]
    native, enclave = runners
    assert calls[0].places == Places(native, enclave, (1,), "here")
    assert enclave.checks == 1
    assert native.closings == enclave.closings == 1


def test_tasks_are_taken_one_at_a_time(calls: list[Call], runners: list[FakeWarmRunner]) -> None:
    """A task is planned when it can be measured: what was stored meanwhile decides whether it still has to be."""
    drawn: list[int] = []

    def to_do() -> Iterator[Task]:
        for number in range(5):
            drawn.append(number)
            yield task(number)

    records = LocalEngine("here").measure(to_do())
    next(records)
    assert drawn == [0]
    next(records)
    assert drawn == [0, 1]
    records.close()
    assert [runner.closings for runner in runners] == [1, 1]


def test_places_measure_side_by_side(calls: list[Call], runners: list[FakeWarmRunner]) -> None:
    """Each task is measured once, on one of the places; both places work, and all runners are closed in the end."""
    both = threading.Barrier(2, timeout=30)

    def together(one: Task, places: Places) -> dict[str, Any]:
        both.wait()  # passed only if two tasks are measured at a time
        calls.append(Call(one, places))
        return record(one.seed)

    engine = LocalEngine("here", [(0,), (1,)], together)
    assert engine.context()["side_by_side"] == 2
    assert sorted(seeds(engine.measure(map(task, range(6))))) == list(range(6))
    assert {call.places.cpus for call in calls} == {(0,), (1,)}
    assert [runner.closings for runner in runners] == [1, 1, 1, 1]


def test_stopping_does_not_wait_for_the_networks_in_hand(calls: list[Call], runners: list[FakeWarmRunner]) -> None:
    """Ctrl-C ends the processes that measure on the other places; what they leave behind is not measured again."""

    def measure(one: Task, places: Places) -> dict[str, Any]:
        calls.append(Call(one, places))
        if one.seed == 0:
            return record(0)
        assert isinstance(places.native, FakeWarmRunner)
        assert places.native.killed.wait(30)
        return failed(one.seed)

    records = LocalEngine("here", [(0,), (1,)], measure).measure(map(task, range(2)))
    assert next(records)["seed"] == 0
    records.close()
    assert sorted(call.task.seed for call in calls) == [0, 1]
    assert [runner.closings for runner in runners] == [1, 1, 1, 1]


def test_a_failure_is_tried_once_more_under_new_parents(calls: list[Call], runners: list[FakeWarmRunner]) -> None:
    """A network whose parent had died is measured, and one that fails by itself fails twice."""
    records = list(LocalEngine("here").measure([task(102), task(103), task(0)]))
    assert [(one["seed"], bool(one["error"])) for one in records] == [(102, False), (103, True), (0, False)]
    assert [call.task.seed for call in calls] == [102, 102, 103, 103, 0]
    assert [runner.closings for runner in runners] == [3, 3]  # once a failure, and in the end


def test_failures_wait_until_a_network_succeeds() -> None:
    """A failure is the network's own only if the machine can measure others."""
    given: list[int] = []

    def records() -> Iterator[dict[str, Any]]:
        for one in (failed(1), failed(2), record(3), record(4), failed(5)):
            given.append(one["seed"])
            yield one

    told = trusted(records())
    assert next(told)["seed"] == 1
    assert given == [1, 2, 3]
    assert seeds(told) == [2, 3, 4, 5]


def test_a_machine_on_which_everything_fails_ends_the_campaign() -> None:
    """Thousands of networks are not written off because a disk is full; none of those is stored as failed."""
    told = trusted([record(0), *(failed(number, "EnclaveFailed: no room") for number in range(1, 1000))])
    assert next(told)["seed"] == 0
    with pytest.raises(EnclaveFailed, match=r"8 networks in a row failed, .* no room.*are measured then"):
        next(told)


def test_where_nothing_succeeds_nothing_is_written_off() -> None:
    """However few networks are asked for: that none can be measured is no fault of them."""
    with pytest.raises(EnclaveFailed, match=r"2 networks in a row failed"):
        list(trusted([failed(1), failed(2)]))


def test_failures_that_are_not_in_a_row_end_nothing() -> None:
    """A family that often fails is no broken machine."""
    often = [failed(n) if n % FAILURES_IN_A_ROW else record(n) for n in range(1, 10 * FAILURES_IN_A_ROW + 1)]
    assert seeds(trusted(often)) == [one["seed"] for one in often]


def test_without_an_enclave_nothing_is_measured(
    calls: list[Call], runners: list[FakeWarmRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that cannot run the software enclave says so at once, rather than in every row."""

    def check(self: FakeWarmRunner) -> None:
        raise EnclaveUnavailable("no compiler")

    monkeypatch.setattr(FakeWarmRunner, "check", check)
    with pytest.raises(EnclaveUnavailable):
        next(LocalEngine("here").measure([task(0)]))
    assert not calls
    assert [runner.closings for runner in runners] == [1, 1]


def test_the_context_is_of_this_machine() -> None:
    """A shard says on what it was measured."""
    assert LocalEngine("here").context()["cpu_model"]


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a cluster and lacks Ray is told what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="run scripts/setup ray"):
        RayEngine("here", "local")
