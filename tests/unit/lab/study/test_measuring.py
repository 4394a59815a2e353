"""What is measured of a case, on runners that exist only here, and that nothing of it is lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sectum.enclave.runners.runner import MIN_EPC_BYTES, Job, OperatorTime, ProcessMemory, Sample
from sectum.errors import DatasetInvalid, EnclaveFailed
from sectum.graph.reader import read as read_model
from sectum.lab.dataset import dataset, runs
from sectum.lab.dataset.engines import LocalEngine
from sectum.lab.dataset.runs import Places
from sectum.lab.study import store
from sectum.lab.study.cases import StudyCase, Sweep
from sectum.lab.study.measuring import PROFILED_INFERENCES, collect, measure_case
from sectum.lab.study.networks import to_bytes
from sectum.lab.study.store import StudyWriter
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from study_records import record, weights

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")

CASE = StudyCase(sweep=Sweep.ORDER, network=weights(2, 4), policy="fifo", working_sets_over_epc=(0.8, 2.0))
PAGES = 512


class FakeSession:
    """Loads its whole working set where the EPC is smaller."""

    def __init__(self, runner: FakeRunner, job: Job) -> None:
        self._runner, self._job, self._epc_bytes, self._sealed = runner, job, job.epc_bytes, False

    def sample(self, n: int) -> list[Sample]:
        tight = self._epc_bytes is not None and self._epc_bytes < PAGES * 4096
        loads = PAGES if tight or self._sealed else 0
        self._sealed = False
        times = ("products_before_ns", "products_after_ns", "sums_before_ns", "sums_after_ns")
        latency_ns = 2_000_000 + 10_000 * loads
        one = Sample(latency_ns=latency_ns, wall_ns=latency_ns, **dict.fromkeys(times, 1_000_000), loads=loads)
        return [one] * n

    def operator_times(self, n: int) -> list[OperatorTime]:
        assert self._job.profile
        assert n == PROFILED_INFERENCES
        graph = optimize(read_model(self._job.model).graph, Cpu.here())
        return [
            OperatorTime(
                name=op.name, type=op.type, time_us=10.0, products_us=20.0, sums_us=20.0,
                output_shapes=tuple(graph.tensors[name].shape for name in op.outputs),
            )
            for op in graph.operators
        ]  # fmt: skip

    def set_epc(self, epc_bytes: int | None) -> None:
        self._sealed |= epc_bytes == MIN_EPC_BYTES
        self._epc_bytes = epc_bytes

    def outputs_digest(self) -> str:
        return self._runner.digest

    def memory(self) -> ProcessMemory:
        return ProcessMemory(40, 30, 35, 25)

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.ended += 1


class FakeRunner:
    """Starts sessions, or fails."""

    def __init__(self, name: str, *, digest: str = "same", broken: bool = False) -> None:
        self.name, self.digest, self.broken = name, digest, broken
        self.jobs: list[Job] = []
        self.ended = 0

    def start(self, job: Job) -> FakeSession:
        self.jobs.append(job)
        if self.broken:
            raise EnclaveFailed("it died")
        return FakeSession(self, job)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples need not be spread over time here."""
    monkeypatch.setattr(runs, "LEAST_S", 0.0)


def measured(case: StudyCase = CASE, **changes: Any) -> tuple[dict[str, Any], FakeRunner, FakeRunner]:
    native, enclave = FakeRunner("native"), FakeRunner("softepc", **changes)
    return measure_case(case, Places(native, enclave, (3,), "here")), native, enclave


def test_a_record_has_every_column_and_goes_into_the_journal() -> None:
    """Nothing that the study promises is missing, and nothing is measured that it has no place for."""
    made, *_ = measured()
    assert made["error"] == ""
    assert set(made) == set(store.schema().names)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert list(record(CASE)) == store.schema().names


def test_a_record_says_what_was_measured() -> None:
    """The native run first, then the enclave without a limit and under each size, with the case's policy and CPUs."""
    made, native, enclave = measured()
    assert made["working_set_bytes"] == PAGES * 4096
    assert [run["place"] for run in made["runs"]] == ["native", "softepc", "softepc", "softepc"]
    assert [run["epc_bytes"] for run in made["runs"]] == [None, None, *CASE.epcs(PAGES * 4096)]
    assert [run["loads"] for run in made["runs"]] == [0, 0, 0, PAGES]
    assert [run["latency"] for run in made["runs"]] == pytest.approx([2, 2, 2, 7.12])
    assert [job.policy for job in enclave.jobs] == ["fifo"]
    assert {job.cpus for job in (*native.jobs, *enclave.jobs)} == {(3,)}
    assert (native.ended, enclave.ended) == (1, 1)
    assert made["profiles"] == []


def test_operators_are_timed_in_every_place() -> None:
    """Each place in a process of its own, since the runtime profiles a session once."""
    case = StudyCase(sweep=Sweep.OPERATORS, network=weights(2, 4), working_sets_over_epc=(0.8, 2.0))
    made, native, enclave = measured(case)
    sizes = case.epcs(PAGES * 4096)
    assert [profile["epc_bytes"] for profile in made["profiles"]] == [None, *sizes]
    assert [job.epc_bytes for job in (*native.jobs, *enclave.jobs) if job.profile] == [None, *sizes]
    operators = len(optimize(read_model(to_bytes(case.network)).graph, Cpu.here()).operators)
    assert all(profile["operator_times"] == [0.5] * operators for profile in made["profiles"])


def test_other_outputs_than_natively_are_told() -> None:
    """An enclave that computes something else is never taken for one that works."""
    made, *_ = measured(digest="another")
    assert [run["outputs_equal_native"] for run in made["runs"]] == [True, False, False, False]


def test_a_failure_is_a_row_with_its_reason() -> None:
    """What was measured before it stays in the row."""
    made, *_ = measured(broken=True)
    assert made["error"] == "EnclaveFailed: it died"
    assert len(made["runs"]) == 1
    assert json.loads(json.dumps(made, allow_nan=False)) == made


class FakeEngine(LocalEngine):
    """Gives records of nothing, and stops in the middle."""

    def __init__(self, *, stop_after: int = 1000) -> None:
        super().__init__("here")
        self.asked: list[str] = []
        self._stop_after = stop_after

    def measure(self, tasks: Iterable[StudyCase]) -> Iterator[dict[str, Any]]:
        for case in tasks:
            if len(self.asked) == self._stop_after:
                raise KeyboardInterrupt
            self.asked.append(case.key)
            yield record(case)


PLANNED = [StudyCase(sweep=Sweep.MEMORY, network=weights(1, steps)) for steps in (1, 2, 3, 4)]


def run(folder: Path, engine: FakeEngine, limit: int = 1000) -> list[str]:
    with StudyWriter(folder, "here", {}) as writer:
        return [one["key"] for one in collect(writer, PLANNED, engine, limit)]


def test_a_study_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """Ctrl-C costs the case in hand; what was measured is in a shard, and is not measured again."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FakeEngine(stop_after=2))
    assert [row["key"] for row in store.read(tmp_path)] == [case.key for case in PLANNED[:2]]
    engine = FakeEngine()
    run(tmp_path, engine)
    assert engine.asked == [case.key for case in PLANNED[2:]]
    assert sorted(row["key"] for row in store.read(tmp_path)) == sorted(case.key for case in PLANNED)


def test_what_a_killed_process_had_stored_is_taken_over(tmp_path: Path) -> None:
    """A kill leaves a journal: its rows are there for the next process."""
    with StudyWriter(tmp_path, "here", {}) as writer:
        writer.add(record(PLANNED[0]))
    engine = FakeEngine()
    assert run(tmp_path, engine, limit=1) == [PLANNED[1].key]
    assert sorted(row["key"] for row in store.read(tmp_path)) == sorted(case.key for case in PLANNED[:2])


def test_a_dataset_is_not_taken_for_a_study(tmp_path: Path) -> None:
    """Shards say what they hold, and those of another kind are refused on both sides."""
    with StudyWriter(tmp_path, "here", {}) as writer:
        writer.add(record(PLANNED[0]))
        writer.flush()
    assert store.contexts(tmp_path) == {path.name: {} for path in tmp_path.glob("*.parquet")}
    with pytest.raises(DatasetInvalid, match="not of format 1"):
        list(dataset.read(tmp_path))
