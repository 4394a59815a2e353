"""A machine's measurements: fitted, stored, read back."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from sectum import zoo
from sectum.errors import CalibrationInvalid
from sectum.measure.reference import References
from sectum.ort.cpu import Cpu
from sectum.ort.operators import KINDS
from sectum.ort.optimize import optimize
from sectum.predict import Predictor, calibrating, calibration
from sectum.predict.calibrating import (
    MINOR_FAULT_SHARE,
    ObservedNetwork,
    PageObservation,
    group_factor,
    mean_page_weight,
    median_factors,
    solve_page_costs,
    variation,
)
from sectum.predict.calibration import STREAMED_PRODUCTS, Calibration, PageCosts, groups_of, nearest
from sectum.predict.features import extract
from sectum.units import MIB


@pytest.fixture
def example():
    return Calibration(
        machine="a test machine",
        cpu=Cpu.AVX2,
        references=References(2.0, 3.0),
        group_factors={1: {"conv": 2.0}, 2: {"conv": 1.5}},
        variation={1: 0.02, 2: 0.03},
        page_costs={1: PageCosts(swap_us=20.0, minor_fault_us=2.0)},
        context={"date": "2026-01-01"},
    )


def test_what_is_stored_is_read_back(tmp_path, example):
    """Storing and loading gives an equal calibration."""
    path = example.store(tmp_path / "deep" / "calibration.json")
    assert calibration.load(path) == example


def test_a_calibration_keeps_that_its_processor_has_amx(tmp_path, example):
    """Pages of products of bytes depend on it; a file that does not say so is of a processor without."""
    amx = dataclasses.replace(example, cpu=Cpu.AMX)
    path = amx.store(tmp_path / "calibration.json")
    assert calibration.load(path) == amx
    stored = json.loads(path.read_text())
    del stored["amx"]
    path.write_text(json.dumps(stored))
    assert calibration.load(path).cpu is Cpu.AVX512


def test_without_a_file_there_is_no_calibration(tmp_path):
    """A machine that was never calibrated is no error."""
    assert calibration.load(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("machine"),
        lambda data: data.update(format=99),
        lambda data: data.update(schema_sha256="0"),
        lambda data: data["references"].update(products_ms=float("inf")),
        lambda data: data["references"].update(sums_ms=-1),
        lambda data: data.update(group_factors={}),
        lambda data: data.update(page_costs={"1": {"swap_us": 1}}),
        lambda data: data.update(group_factors=[1, 2]),
        lambda data: data.pop("variation"),
        lambda data: data.update(variation={}),
        lambda data: data.update(variation={"1": -0.1}),
    ],
)
def test_a_damaged_calibration_is_refused(tmp_path, example, damage):
    """A calibration with a missing or senseless value is an error that says what to do."""
    path = example.store(tmp_path / "calibration.json")
    data = json.loads(path.read_text())
    damage(data)
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationInvalid, match="sectum calibrate"):
        calibration.load(path)


def test_bytes_that_are_no_json_are_refused(tmp_path):
    """A file that a crash or an editor damaged is an error, not a traceback."""
    path = tmp_path / "calibration.json"
    path.write_bytes(b"\x00\xff{")
    with pytest.raises(CalibrationInvalid):
        calibration.load(path)


def test_threads_take_the_nearest_measured_number_below():
    """Four threads use what two measured, one uses one, and where only two were measured one uses those."""
    assert nearest({1: "a", 2: "b"}, 4) == "b"
    assert nearest({1: "a", 2: "b"}, 1) == "a"
    assert nearest({2: "b"}, 1) == "b"


def test_a_calibrated_prediction_is_in_this_machines_milliseconds(pages_by_kind, squeezenet, softepc, example):
    """Reference time, group factors and page costs of the calibration decide the prediction."""
    operators = pages_by_kind({})
    example = dataclasses.replace(example, cpu=operators.cpu)
    ours = Predictor(operators, example).predict(squeezenet, softepc.with_epc(4 * MIB))
    plain = Predictor(operators).predict(squeezenet, softepc.with_epc(4 * MIB))
    assert ours.calibrated
    assert ours.machine == "a test machine"
    memory = ours.memory
    paging_us = 10.0 * (memory.loads + memory.evictions) + 2.0 * memory.minor_faults
    assert ours.breakdown_ms.paging == pytest.approx(paging_us / 1e3, rel=1e-6)
    assert not plain.calibrated
    assert any("not calibrated" in note for note in plain.notes)
    scale = example.references.products_ms / operators.reference_ms
    start_ms = operators.overheads.start * operators.reference_ms / len(plain.layers)
    for mine, theirs in zip(ours.layers, plain.layers, strict=True):
        factor = 2.0 if theirs.type.endswith("nchwc:Conv") else 1.0
        expected_ms = (theirs.native_ms - start_ms) * factor + start_ms
        assert mine.native_ms == pytest.approx(expected_ms * scale, rel=1e-6)


def test_page_costs_are_recovered_from_latencies():
    """Latencies made from known costs give the costs back."""
    made = [(24000, 100), (20000, 3000), (9000, 6000)]
    observations = [
        PageObservation(loads, minor, 12.5 * (loads + MINOR_FAULT_SHARE * minor) / 2500) for loads, minor in made
    ]
    swap_us, minor_us = solve_page_costs(observations, sums_us=2500)
    assert swap_us == pytest.approx(12.5)
    assert minor_us == pytest.approx(12.5 * MINOR_FAULT_SHARE)


def test_noise_never_makes_a_cost_negative():
    """Where noise hides the cost of paging altogether, what is found is still positive and finite."""
    observations = [PageObservation(1000, 1000, -0.02), PageObservation(2000, 100, 10.0)]
    swap_us, minor_us = solve_page_costs(observations, sums_us=2500)
    assert 0 < minor_us < swap_us < 100


def test_few_operators_move_a_factor_less_than_many():
    """A group seen in few operators stays nearer to what the shipped models say."""
    few = group_factor([(np.log(2.0), 0.1)] * 2)
    many = group_factor([(np.log(2.0), 0.1)] * 200)
    assert 1.0 < few < many < 2.0
    assert many == pytest.approx(2.0, rel=0.03)


def _observed(name: str, times: list[float]) -> ObservedNetwork:
    """A network of convolutions whose times were expected to be 1."""
    return ObservedNetwork(name, 0.0, ("conv",) * len(times), np.array(times), np.ones(len(times)))


def test_a_round_beside_a_busy_neighbour_moves_no_factor() -> None:
    """Factors are those of the round in the middle, whichever of three is disturbed."""
    quiet = [_observed("a", [1.2] * 40)]
    busy = [_observed("a", [2.5] * 40)]
    references = References(1.0, 1.0)
    alone = median_factors([quiet], references)
    for rounds in ([busy, quiet, quiet], [quiet, busy, quiet], [quiet, quiet, busy]):
        assert median_factors(rounds, references) == alone


def test_variation_is_that_of_networks_between_rounds() -> None:
    """The difference between networks is no variation; that between rounds is; one round tells none."""
    first = [_observed("a", [1.0]), _observed("b", [9.0])]
    assert variation([first]) == 0.0
    assert variation([first, first, first]) == 0.0
    rng = np.random.default_rng(1)
    made = [[_observed(name, [math.exp(rng.normal(0, 0.1))]) for name in map(str, range(500))] for _ in range(3)]
    assert variation(made) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(("threads", "said"), [(1, False), (2, True)])
def test_intervals_grow_with_the_variation_of_the_machine(
    operators, squeezenet, softepc, example, threads, said
) -> None:
    """Latencies stay, ends of intervals move apart by the variation's square, and much of it is said."""
    example = dataclasses.replace(example, cpu=operators.cpu, variation={1: 0.0, 2: 0.2})
    steady = dataclasses.replace(example, variation={1: 0.0, 2: 0.0})
    one, other = (
        Predictor(operators, each).predict(squeezenet, softepc, threads=threads) for each in (example, steady)
    )
    assert one.latency_ms == other.latency_ms
    ends = [(prediction.interval_ms.low, prediction.interval_ms.high) for prediction in (one, other)]
    for end, known in zip(*ends, strict=True):
        width, least = abs(math.log(end / one.latency_ms)), abs(math.log(known / one.latency_ms))
        assert width == pytest.approx(math.hypot(least, 1.645 * 0.2 * said), rel=1e-6)
    assert any("differed by 20%" in note for note in one.notes) == said


def test_pages_weigh_what_their_operators_say(predictor, pages_by_kind, squeezenet):
    """All pages of one weight have that weight; where nothing is modelled to page it is 1."""
    prepared = predictor.prepare(squeezenet)
    features, trace = prepared.features, prepared.trace
    operators = pages_by_kind(dict.fromkeys(KINDS, 1.25))
    assert mean_page_weight(operators, features, trace, trace.pages // 2) == pytest.approx(1.25)
    assert mean_page_weight(operators, features, trace, trace.pages) == 1.0


def test_what_cannot_be_read_back_is_not_stored(tmp_path, example):
    """A cost that is no number is refused before anything is written over."""
    broken = dataclasses.replace(example, page_costs={1: PageCosts(swap_us=math.nan, minor_fault_us=2.0)})
    with pytest.raises(ValueError, match="JSON"):
        broken.store(tmp_path / "calibration.json")
    assert not (tmp_path / "calibration.json").exists()


@pytest.mark.slow
def test_what_other_programs_use_of_the_processors_is_told() -> None:
    """A process that this one has not waited for is another program; what it has used itself is what counts."""
    spin = "import sys, time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\nsys.stdin.read()"
    before_s = calibrating._used_by_others_s()
    with subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        assert calibrating._used_by_others_s() - before_s > 0.4
        busy.communicate()


def test_products_bound_by_memory_are_corrected_apart() -> None:
    """AlexNet's dense layers for one image are a group of their own, and for many images they are not."""
    network = zoo.network("alexnet", resolution=64)
    groups = {
        batch: set(groups_of(extract(optimize(zoo.to_graph(network, batch), Cpu.AVX512), threads=1)))
        for batch in (1, 64)
    }
    assert STREAMED_PRODUCTS in groups[1]
    assert "gemm" not in groups[1]
    assert "gemm" in groups[64]
    assert STREAMED_PRODUCTS not in groups[64]
