"""Measuring small networks."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import onnx
import pytest

from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import (
    MIN_EPC_BYTES,
    Job,
    OperatorTime,
    ProcessMemory,
    Runner,
    Sample,
    SessionInfo,
)
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveUnavailable, OutputsDiffer
from sectum.graph.ir import Graph
from sectum.measure import Measurement, measure
from sectum.measure.reference import References
from sectum.testing.tiny_models import convolutions, matrix_chain

pytestmark = pytest.mark.slow


class Model:
    """The part of a model that measuring needs."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.graph = Graph("tiny", (), {}, (), (), 17)

    def bound_bytes(self) -> bytes:
        """Return the model."""
        return self._content


class LyingSession:
    """Answers at once, with other outputs than the model has."""

    info = SessionInfo(versions={"onnxruntime": "0"})

    def sample(self, n: int) -> list[Sample]:
        """Claim 5 ms."""
        return [Sample(5_000_000, 5_000_000, 2_500_000, 2_500_000, 2_500_000, 2_500_000, loads=7)] * n

    def outputs_digest(self) -> str:
        """Claim outputs that no model has."""
        return "0" * 64

    def memory(self) -> ProcessMemory:
        """Claim three bytes."""
        return ProcessMemory(3, 2, 2, 1)

    def set_epc(self, epc_bytes: int | None) -> None:
        """Ignore it."""

    def operator_times(self, n: int) -> list[OperatorTime]:
        """Know no operator."""
        return []

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> LyingSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LyingRunner:
    """A runner whose sessions lie."""

    name = "lying"
    provenance = "unverified"
    counts_pages = False

    def check(self) -> None:
        """Claim to be usable."""

    def start(self, job: Job) -> LyingSession:
        """Start to lie."""
        return LyingSession()


class CountingRunner(LyingRunner):
    """A runner whose sessions remember the sizes of EPC that they were told, and after how many inferences."""

    counts_pages = True

    def __init__(self) -> None:
        self.told: list[tuple[int, int | None]] = []

    def start(self, job: Job) -> LyingSession:
        """Start to remember."""
        told = self.told

        class Remembering(LyingSession):
            done = 0

            def sample(self, n: int) -> list[Sample]:
                self.done += n
                return super().sample(n)

            def set_epc(self, epc_bytes: int | None) -> None:
                told.append((self.done, epc_bytes))

        return Remembering()


@pytest.mark.parametrize(("as_loaded", "told"), [(False, [(2, MIN_EPC_BYTES), (2, 1 << 20)]), (True, [])])
def test_a_steady_state_begins_with_all_pages_evicted(as_loaded: bool, told: list[tuple[int, int]]) -> None:
    """All pages are evicted once before the warm-up, unless the caller asks for the state as loaded."""
    runner = CountingRunner()
    model = Model(convolutions())
    found = measure(model, runner, epc_bytes=1 << 20, runs=6, compare_native=False, as_loaded=as_loaded)
    assert runner.told == told
    assert found.context["as_loaded"] is as_loaded


def test_loads_without_evictions_are_no_paging() -> None:
    """A model is over-committed only if pages are evicted; late loads of pages that were evicted once do not count."""
    found = measure(Model(convolutions()), CountingRunner(), epc_bytes=1 << 20, runs=6, compare_native=False)
    assert found.loads == 7
    assert found.evictions == 0
    assert found.over_committed is False
    assert replace(found, evictions=0.5).over_committed is True
    assert replace(found, loads=None, evictions=None).over_committed is None


@pytest.fixture(scope="module")
def native() -> Measurement:
    return measure(Model(convolutions()), NativeRunner(), runs=6, references=References(2.5, 2.5))


def test_measurement_is_complete(native: Measurement) -> None:
    """A measurement has the raw data of its latency, and its JSON can be read again."""
    assert native.latency_ms > 0
    assert native.outputs_equal_native is True
    assert native.stopped_because == "runs"
    assert native.reference_source == "calibration"
    assert len(native.samples) == 6
    assert native.loads == native.faults == 0
    assert native.settled
    assert native.context["kind"] == "measured"
    assert native.context["versions"]["onnxruntime"]
    assert json.loads(json.dumps(native.as_dict(), allow_nan=False))["latency_ms"] == native.latency_ms


def test_milliseconds_are_ratio_times_reference(native: Measurement) -> None:
    """The latency lies among the samples' ratios times the given reference time."""
    ratios = [sample["ratio"] for sample in native.samples]
    assert min(ratios) * 2.5 <= native.latency_ms <= max(ratios) * 2.5


def test_without_calibration_the_run_is_its_own_reference() -> None:
    """Without a calibration the run's own mean reference is used, and the result says so."""
    found = measure(Model(convolutions()), NativeRunner(), runs=2, compare_native=False)
    assert found.reference_source == "this run"
    references = [
        s[key]
        for s in found.samples
        for key in ("products_before_ms", "products_after_ms", "sums_before_ms", "sums_after_ms")
    ]
    assert min(references) <= found.reference_ms <= max(references)
    assert found.outputs_equal_native is None


def test_other_outputs_are_an_error() -> None:
    """An enclave with other outputs than the native run raises OutputsDiffer, not a latency."""
    with pytest.raises(OutputsDiffer, match="differ from those of the native run"):
        measure(Model(convolutions()), LyingRunner(), runs=1)


def test_counts_that_mean_nothing_are_none() -> None:
    """A runner that cannot count pages gives None, not zero, and its kind says that it is unverified."""
    found = measure(Model(convolutions()), LyingRunner(), runs=1, compare_native=False)
    assert found.faults is found.loads is found.evictions is None
    assert found.context["kind"] == "unverified"
    assert found.uncertainty is None


def test_a_model_is_measured_in_several_processes() -> None:
    """The ratios of several processes are averaged, and their differences add to the uncertainty."""

    class Drifting(LyingRunner):
        started = 0

        def start(self, job: Job) -> LyingSession:
            session = LyingSession()
            Drifting.started += 1
            factor = 1 + 0.1 * (Drifting.started - 2)  # 0.9, 1, 1.1
            slow = Sample(int(5e6 * factor), 5_000_000, 2_500_000, 2_500_000, 2_500_000, 2_500_000)
            session.sample = lambda n: time.sleep(0.02) or [slow] * n  # type: ignore[method-assign]
            return session

    found = measure(
        Model(convolutions()),
        Drifting(),
        epc_bytes=1 << 20,
        deadline_s=1000,
        references=References(1, 1),
        compare_native=False,
    )
    assert Drifting.started == found.processes == 3
    assert found.latency_ms == pytest.approx(2.0)
    assert {sample["process"] for sample in found.samples} == {0, 1, 2}
    assert found.uncertainty == pytest.approx(1.96 * 0.1 / 3**0.5, rel=1e-3)
    assert found.context["epc_bytes"] == 1 << 20


def test_a_given_number_of_runs_is_kept() -> None:
    """If three samples are asked for, there are three, from one process."""
    found = measure(Model(convolutions()), LyingRunner(), runs=3, compare_native=False)
    assert (len(found.samples), found.processes) == (3, 1)


def test_an_epc_smaller_than_the_weights_pages() -> None:
    """Eight matrices of 1 MiB page in 4 MiB of EPC and not in 64, with the same outputs."""
    runner: Runner = SoftEpcRunner()
    try:
        runner.check()
    except EnclaveUnavailable as error:
        pytest.skip(str(error))
    roomy, tight = (
        measure(Model(matrix_chain(8, 512)), runner, epc_bytes=epc_bytes, runs=5) for epc_bytes in (64 << 20, 4 << 20)
    )
    assert roomy.evictions == 0
    assert tight.loads is not None
    assert tight.loads > 1000
    assert tight.outputs_equal_native is True
    assert tight.resident_bytes <= 4 << 20


def test_a_real_network_pages_as_it_should() -> None:
    """SqueezeNet, 13 MiB live, pages in every inference in 6 MiB of EPC, and its outputs are the native ones."""
    runner = SoftEpcRunner()
    try:
        runner.check()
    except EnclaveUnavailable as error:
        pytest.skip(str(error))
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
    found = measure(Model(path.read_bytes()), runner, epc_bytes=6 << 20, runs=4)
    assert found.loads is not None
    assert found.evictions is not None
    assert found.loads > 500
    assert found.evictions == pytest.approx(found.loads, rel=0.1)
    assert found.peak_resident_bytes <= 6 << 20 < found.live_bytes
    assert found.outputs_equal_native is True


def test_measurements_compare_by_value(native: Measurement) -> None:
    """Measurements compare by value: a copy with one change differs."""
    assert replace(native) == native
    assert replace(native, settled=False) != native
