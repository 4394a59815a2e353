"""What is measured of one network, on runners that exist only here."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum import zoo
from sectum.enclave.runners.runner import MIN_EPC_BYTES, Job, OperatorTime, ProcessMemory, Sample
from sectum.errors import EnclaveDeadline, EnclaveFailed, SectumError, UsageError
from sectum.lab.dataset import network, runs
from sectum.lab.dataset.network import NEAR, SMALLEST_EPC_BYTES, WIDE, epc_sizes, measure_network
from sectum.lab.dataset.runs import Places
from sectum.lab.dataset.task import SAMPLE, Task
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.units import MIB, PAGE_BYTES

TASK = Task(SAMPLE, "nasbench201", 3, 1.0, 0, 2)
RUNTIME = optimize(zoo.to_graph(TASK.network(), TASK.batch), Cpu.here())
WORKING_SET_PAGES = 5000
LATENCY_NS, REFERENCE_NS = 3_000_000, 2_000_000


class FakeSession:
    """Pages as an enclave does whose working set is known: all of it where the EPC is smaller, else nothing."""

    def __init__(self, runner: FakeRunner) -> None:
        self._runner = runner
        self._epc_bytes: int | None = None
        self._sealed = False

    def sample(self, n: int) -> list[Sample]:
        return [self._one() for _ in range(n)]

    def _one(self) -> Sample:
        tight = self._epc_bytes is not None and self._epc_bytes < WORKING_SET_PAGES * PAGE_BYTES
        loads = WORKING_SET_PAGES if tight or self._sealed else 0
        self._sealed = False
        references = dict.fromkeys(
            ("products_before_ns", "products_after_ns", "sums_before_ns", "sums_after_ns"), REFERENCE_NS
        )
        return Sample(latency_ns=LATENCY_NS, wall_ns=LATENCY_NS, **references, loads=loads, evictions=loads)

    def operator_times(self, n: int) -> list[OperatorTime]:
        assert self._runner.jobs[-1].profile
        least, most = network.PROFILED_INFERENCES
        assert least <= n <= most
        return [
            OperatorTime(
                name=op.name, type=op.type, time_us=10.0 * (1 + index), products_us=20.0, sums_us=20.0,
                output_shapes=tuple(RUNTIME.tensors[name].shape for name in op.outputs),
            )
            for index, op in enumerate(RUNTIME.operators[: self._runner.operators])
        ]  # fmt: skip

    def set_epc(self, epc_bytes: int | None) -> None:
        self._runner.epcs.append(epc_bytes)
        self._runner.fail("set_epc")
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
    """Starts sessions, and fails where it is told to."""

    def __init__(self, *, digest: str = "same", operators: int | None = None) -> None:
        self.digest, self.operators = digest, operators
        self.failures: dict[str, Callable[[], SectumError]] = {}
        self.jobs: list[Job] = []
        self.epcs: list[int | None] = []
        self.ended = 0

    def fail(self, step: str) -> None:
        if step in self.failures:
            raise self.failures[step]()

    def start(self, job: Job) -> FakeSession:
        self.jobs.append(job)
        self.fail("start")
        return FakeSession(self)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples need not be spread over time here, and one process is enough."""
    monkeypatch.setattr(runs, "LEAST_S", 0.0)
    monkeypatch.setattr(network, "SHORT_MS", 0.0)


def measured(native: FakeRunner | None = None, enclave: FakeRunner | None = None, task: Task = TASK) -> dict[str, Any]:
    return measure_network(task, Places(native or FakeRunner(), enclave or FakeRunner(), (3,), "here"))


def test_a_record_has_every_column_and_goes_into_the_journal() -> None:
    """Nothing that the dataset promises is missing, and nothing is measured that it has no place for."""
    pytest.importorskip("pyarrow", reason="the schema is pyarrow's: install sectum[train]")
    from sectum.lab.dataset.dataset import schema

    record = measured()
    assert record["error"] == ""
    assert set(record) == set(schema().names)
    columns = {field.name for field in schema().field("runs").type.value_type}
    assert all(set(run) == columns for run in record["runs"])
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_record_says_what_was_measured() -> None:
    """Network, graph, operator times, native run and two enclaves, the larger EPC first."""
    native, enclave = FakeRunner(), FakeRunner()
    record = measured(native, enclave)
    assert (record["key"], record["machine"], record["batch"]) == (TASK.key, "here", 2)
    assert record["graph"] == stored.dumps(RUNTIME)
    assert record["working_set_bytes"] == WORKING_SET_PAGES * PAGE_BYTES
    assert record["model_live_bytes"] == 25
    assert record["operator_times"] == pytest.approx([0.5 * (1 + i) for i in range(len(RUNTIME.operators))])
    runs = record["runs"]
    assert [(run["place"], run["epc_bytes"] is None) for run in runs] == [
        ("native", True), ("softepc", False), ("softepc", False),
    ]  # fmt: skip
    assert [run["latency"] for run in runs] == pytest.approx([1.5] * 3)
    assert runs[1]["epc_bytes"] >= runs[2]["epc_bytes"]
    for run in runs[1:]:
        assert run["loads"] == (WORKING_SET_PAGES if run["epc_bytes"] < WORKING_SET_PAGES * PAGE_BYTES else 0)
    assert all(run["outputs_equal_native"] and run["settled"] for run in runs)
    assert all(len(run["sample_loads"]) == len(run["sample_latency_ns"]) > 0 for run in runs)
    assert [job.cpus for job in (*native.jobs, *enclave.jobs)] == [(3,), (3,)]
    assert native.ended == enclave.ended == 1
    assert native.epcs == []


def test_a_short_inference_is_measured_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its label is the mean over processes, since each places its memory elsewhere; the operators are timed in one."""
    monkeypatch.setattr(network, "SHORT_MS", 1e9)
    native = FakeRunner()
    record = measured(native)
    assert [run["place"] for run in record["runs"]] == ["native"] * network.PROCESSES + ["softepc"] * 2
    assert [job.profile for job in native.jobs] == [True] + [False] * (network.PROCESSES - 1)
    assert native.ended == network.PROCESSES


def test_a_program_is_measured_with_several_threads() -> None:
    """Networks that are no image classifiers go the same way; threads are part of the record and of its key."""
    task = Task(SAMPLE, zoo.program_families()[0], 5, 1.0, 0, 1, threads=2)
    enclave = FakeRunner()
    record = measured(enclave=enclave, task=task)
    assert (record["threads"], record["resolution"]) == (2, 0)
    assert record["key"].endswith("/b1/t2")
    assert {job.threads for job in enclave.jobs} == {2}


def test_the_same_task_gets_the_same_epc_sizes_also_when_it_is_measured_again() -> None:
    """Only so does a second measurement tell how far the first can be relied on."""

    def sizes(task: Task) -> list[int]:
        return [run["epc_bytes"] for run in measured(task=task)["runs"][1:]]

    assert sizes(TASK) == sizes(replace(TASK, repeat=1)) == sizes(replace(TASK, repeat=2))
    assert sizes(TASK) != sizes(replace(TASK, batch=1))


def test_other_outputs_than_natively_are_told() -> None:
    """An enclave that computes something else is never taken for one that works."""
    runs = measured(enclave=FakeRunner(digest="another"))["runs"]
    assert [run["outputs_equal_native"] for run in runs] == [True, False, False]


def test_a_graph_that_the_runtime_does_not_execute_is_told() -> None:
    """Where operator times cannot be told apart the row says so, and has none."""
    record = measured(native=FakeRunner(operators=len(RUNTIME.operators) - 1))
    assert record["operator_times"] is None
    assert "other operators" in record["error"]


@pytest.mark.parametrize(
    ("where", "step", "error", "runs"),
    [
        ("native", "start", EnclaveFailed("it died"), 0),
        ("enclave", "start", EnclaveDeadline("too long"), 1),
        ("enclave", "set_epc", EnclaveFailed("it died"), 1),
        ("enclave", "set_epc", UsageError("refused"), 1),
    ],
)
def test_a_failure_is_a_row_with_its_reason(where: str, step: str, error: SectumError, runs: int) -> None:
    """What was measured before it stays in the row; sessions are ended; the campaign goes on."""
    places = {"native": FakeRunner(), "enclave": FakeRunner()}
    places[where].failures[step] = lambda: error
    record = measured(**places)
    assert record["error"] == f"{type(error).__name__}: {error}"
    assert len(record["runs"]) == runs
    assert record["seconds"] > 0
    assert all(
        runner.ended == len(runner.jobs) - (step == "start" and runner is places[where]) for runner in places.values()
    )
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_single_sample_has_no_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be known is left out, not written as a number."""
    monkeypatch.setattr(runs, "FEWEST", 1)
    monkeypatch.setattr(runs, "ENCLAVE_S", 0.0)
    _, *limited = measured()["runs"]
    assert [len(run["sample_loads"]) for run in limited] == [1, 1]
    assert [run["uncertainty"] for run in limited] == [None, None]


@given(st.integers(1, 4 << 30), st.integers(0, 2**32))
def test_epc_sizes_lie_within_their_ranges(working_set_bytes: int, seed: int) -> None:
    """One near the working set, one from a wide range, in whole pages, and none that the pager would refuse."""
    near, wide = epc_sizes(working_set_bytes, random.Random(seed))
    assert near % PAGE_BYTES == wide % PAGE_BYTES == 0
    for size, factor, least in ((near, NEAR, MIN_EPC_BYTES), (wide, WIDE, SMALLEST_EPC_BYTES)):
        assert size >= least
        assert size <= max(least, working_set_bytes * factor * 1.001)
        assert size >= working_set_bytes / factor * 0.999 - PAGE_BYTES


def test_epc_sizes_fill_their_ranges() -> None:
    """As many are above the working set as below it, near it and far from it."""
    rng = random.Random(0)
    drawn = [epc_sizes(100 * MIB, rng) for _ in range(2000)]
    for sizes, factor in zip(zip(*drawn, strict=True), (NEAR, WIDE), strict=True):
        places = [math.log(size / (100 * MIB), factor) for size in sizes]
        quarters = [sum(low <= place < low + 0.5 for place in places) / len(places) for low in (-1, -0.5, 0, 0.5)]
        assert quarters == pytest.approx([0.25] * 4, abs=0.04)
