"""Predictions for confidential machines, from outside and with a calibration from inside."""

from __future__ import annotations

import dataclasses

import pytest

from sectum.enclave import profile as profiles
from sectum.errors import UsageError
from sectum.measure.reference import References
from sectum.predict import Predictor
from sectum.predict.calibration import Calibration


@pytest.fixture
def calibrated(predictor):
    """A predictor with a calibration that was made in the given kind of machine."""

    def make(tee: str, threads: tuple[int, ...] = (1, 2)) -> Predictor:
        operators = predictor.operators
        calibration = Calibration(
            machine="a rented machine",
            cpu=operators.cpu,
            references=References(2.0, 3.0),
            group_factors={n: {"conv": 1.0} for n in threads},
            variation=dict.fromkeys(threads, 0.02),
            page_costs={},
            context={"date": "2026-01-01", "tee": tee},
        )
        return Predictor(operators, calibration)

    return make


def test_nitro_is_a_factor_on_native_time_and_the_cost_of_transfers(predictor, squeezenet) -> None:
    """A virtual machine does not page: its time is the native time times a factor, and bytes over a socket."""
    nitro = profiles.load("nitro")
    found = predictor.predict(squeezenet, nitro)
    crossing = sum(squeezenet.tensors[name].n_bytes for name in (*squeezenet.inputs, *squeezenet.outputs))
    assert found.latency_ms == pytest.approx(found.native_ms * 1.129 + 0.155 + crossing * 4.4e-6)
    assert found.memory.epc_bytes is None
    assert found.memory.loads == 0


def test_the_interval_is_as_wide_as_the_sources_disagree(predictor, squeezenet) -> None:
    """The interval holds every factor that the sources leave possible, even where the native latency is given."""
    nitro = profiles.load("nitro")
    found = predictor.predict(squeezenet, nitro, native_ms=100.0)
    transfers_ms = found.breakdown_ms.paging
    assert found.interval_ms.low <= 100.0 * nitro.compute_factor_low + transfers_ms
    assert found.interval_ms.high >= 100.0 * nitro.compute_factor_high + transfers_ms


def test_the_output_says_for_which_runtime_it_speaks(predictor, squeezenet) -> None:
    """A factor that was measured with another runtime is named as such."""
    found = predictor.predict(squeezenet, profiles.load("nitro"))
    assert found.runtime == "ONNX Runtime 1.31 on the CPU"
    assert any("Candle" in note and "ONNX Runtime" in note and "1.026 to 1.645" in note for note in found.notes)


@pytest.mark.parametrize("tee", ["", "sgx-host", "sev-snp"])
def test_without_a_calibration_from_inside_tdx_is_refused(calibrated, squeezenet, tee) -> None:
    """A calibration from any other place does not know what TDX costs."""
    with pytest.raises(UsageError, match="inside a TDX guest"):
        calibrated(tee).predict(squeezenet, profiles.load("tdx"))


@pytest.mark.parametrize("name", ["tdx", "sev-snp", "nitro"])
def test_a_calibration_from_inside_is_not_multiplied_again(calibrated, squeezenet, name) -> None:
    """Inside, the native milliseconds are those of the confidential machine, and the prediction says so."""
    predictor = calibrated(name)
    found = predictor.predict(squeezenet, profiles.load(name))
    assert found.breakdown_ms.compute == pytest.approx(found.native_ms)
    assert any("native milliseconds already contain its cost" in note for note in found.notes)
    assert not any("another machine" in note or "Candle" in note for note in found.notes)
    native = predictor.predict(squeezenet, profiles.load("native"))
    assert any("calibrated inside" in note for note in native.notes)
    assert native.native_ms == found.native_ms


def test_every_way_to_a_latency_leaves_the_factor_out(calibrated, squeezenet) -> None:
    """The curve, the advice and the prediction agree on a machine that was calibrated from inside."""
    predictor, nitro = calibrated("nitro"), profiles.load("nitro")
    prepared = predictor.prepare(squeezenet)
    found = predictor.in_enclave(prepared, nitro)
    assert predictor.latency_ms(prepared, nitro) == found.latency_ms
    assert predictor.latency_and_interval(prepared, nitro) == (found.latency_ms, found.interval_ms)


def test_a_latency_from_outside_gets_the_factor_even_inside(calibrated, squeezenet) -> None:
    """A native latency that the caller gives is one from outside the machine, wherever the calibration was made."""
    found = calibrated("nitro").predict(squeezenet, profiles.load("nitro"), native_ms=100.0)
    assert found.breakdown_ms.compute == pytest.approx(112.9)
    assert not any("already contain" in note for note in found.notes)
    with pytest.raises(UsageError, match="cannot be predicted from outside"):
        calibrated("tdx").predict(squeezenet, profiles.load("tdx"), native_ms=100.0)


@pytest.mark.parametrize(
    ("name", "threads", "measured", "words"),
    [
        ("softepc", 4, (1, 2), "4 threads were never measured: operators were measured with 1 and 2"),
        ("native", 2, (1,), "2 threads were never measured: this machine was calibrated with 1"),
        ("sgx1", 2, (1, 2), "2 threads were never measured: sgx1 was measured with 1 and 4"),
    ],
)
def test_a_number_of_threads_that_was_never_measured_says_so(
    calibrated, squeezenet, name, threads, measured, words
) -> None:
    """Operators, calibration and profile each know with how many threads they were measured."""
    found = calibrated("", measured).predict(squeezenet, profiles.load(name), threads=threads)
    assert any(note.startswith(words) for note in found.notes)


def test_measured_numbers_of_threads_need_no_note(calibrated, squeezenet) -> None:
    """Where everything was measured with one thread, nothing is said about threads."""
    for name in ("softepc", "sgx1", "native"):
        assert not any(
            "threads were never measured" in note
            for note in calibrated("").predict(squeezenet, profiles.load(name)).notes
        )


def test_faults_of_layers_add_up_to_those_of_the_inference(predictor, squeezenet, softepc) -> None:
    """Loads, evictions and minor faults of the layers are those of the whole inference, so paging time follows."""
    found = predictor.predict(squeezenet, softepc.with_epc(4 << 20))
    assert found.memory.evictions > 0
    for name in ("loads", "evictions", "minor_faults"):
        total = sum(getattr(layer, name) for layer in found.layers)
        assert total == pytest.approx(getattr(found.memory, name))
    profile = dataclasses.replace(profiles.load("sgx1"), epc_bytes=4 << 20)
    for layer in predictor.predict(squeezenet, profile).layers:
        expected_us = profile.load_us * layer.loads + profile.evict_us * layer.evictions
        assert layer.breakdown_ms.paging == pytest.approx(expected_us / 1e3)
