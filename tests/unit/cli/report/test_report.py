"""What the report's page says."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest

from sectum.cli.predict.predicting import Request
from sectum.cli.report.charts import curve_chart, memory_chart, time_chart
from sectum.cli.report.findings import MeasuredPoint, gather
from sectum.cli.report.page import MOST_ROWS, SHOWN_ROWS, page
from sectum.measure.measurement import Measurement
from sectum.measure.reference import References
from sectum.ort import Cpu
from sectum.ort.footprint import Footprint
from sectum.plan.epc_curve import CurvePoint
from sectum.predict.calibration import Calibration, PageCosts
from sectum.predict.prediction import Breakdown
from sectum.units import GIB, MIB


@cache
def findings_for(enclave: str, epc_bytes: int | None = None):
    request = Request(
        model="zoo:squeezenet1_1",
        enclave=enclave,
        epc_bytes=epc_bytes,
    )
    return gather(request, measure=False, deadline_s=1.0, progress=lambda _what, _share: None)


@pytest.fixture(scope="module")
def paging(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECTUM_HOME", str(tmp_path_factory.mktemp("home")))
        return findings_for("softepc", 3 * MIB)


def measurement(latency_ms: float, uncertainty: float | None = 0.02) -> Measurement:
    """A measurement with only what the page shows."""
    return Measurement(
        latency_ms=latency_ms,
        uncertainty=uncertainty,
        reference_ms=2.5,
        reference_source="this run",
        processes=1,
        samples=(),
        warm_up_runs=2,
        stopped_because="precise",
        faults=2000.0,
        loads=1999.0,
        evictions=1999.0,
        minor_faults=1.0,
        zero_fills=0.0,
        live_bytes=9 * MIB,
        resident_bytes=3 * MIB,
        peak_resident_bytes=3 * MIB,
        outputs_equal_native=True,
        settled=True,
        period=1,
        context={"runner": "softepc", "cpu_model": "a processor", "kernel": "a kernel", "date": "a day"},
    )


def with_layers(findings, layers):
    """The findings with other layers than the network has, the last of which touches all its memory."""
    levels = ((Footprint(0, 0),) * len(layers) + findings.footprints[-1:])[1:] if layers else ()
    return replace(findings, prediction=replace(findings.prediction, layers=layers), footprints=levels)


def body(content: str) -> str:
    """What a person reads, without markup, script and style."""
    inner = re.sub(r"<(script|style).*?</\1>", "", content, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", " ", inner)


@pytest.mark.parametrize("enclave", ["native", "softepc", "sgx1", "sgx2"])
def test_page_can_be_made_for_every_shipped_profile(enclave):
    """Every shipped profile gives a complete page; the curve over EPC sizes is left out without an enclave."""
    content = page(findings_for(enclave))
    assert "squeezenet1_1" in content
    assert "{{" not in content
    assert ("Latency against EPC size" in content) == (enclave != "native")


def test_page_names_the_kind_of_every_number_and_whose_milliseconds_they_are(paging):
    """The page says that its numbers are predicted, on which machine, and that this machine is not calibrated."""
    words = body(page(paging))
    assert "predicted" in words
    assert "Predicted for the machine" in words
    assert "Not calibrated" in words
    # Nothing of this model was measured; the constants of the profile were.
    assert "measured" not in words.replace("us; measured: regression over", "").replace("measured kind", "")


def test_measured_numbers_stand_beside_predicted_ones(paging):
    """With measurements the page shows their points, intervals, page counts and the error of the prediction."""
    points = (
        MeasuredPoint(None, measurement(11.5)),
        MeasuredPoint(3 * MIB, measurement(2 * paging.prediction.latency_ms)),
    )
    content = page(replace(paging, measured=points))
    assert "off by -50&nbsp;%" in content
    assert "measured-dot" in content
    assert "whisker" in content
    assert "1,999" in body(content)
    assert "compared with the native run" in body(content)


def test_single_sample_has_no_interval(paging):
    """A measurement without an uncertainty is written without an interval."""
    content = page(replace(paging, measured=(MeasuredPoint(3 * MIB, measurement(50.0, None)),)))
    words = body(content).replace("  ", " ")
    assert "50.0 ms. The prediction, which is in another machine's milliseconds, is off" in words


def test_only_the_costliest_layers_are_shown_at_first(paging):
    """All layers are in the table, the costliest first, and only the first few are visible."""
    content = page(paging)
    rows = re.findall(r'<tr role="row" data-i="(\d+)"( hidden)?>', content)
    assert len(rows) == len(paging.prediction.layers)
    assert sum(1 for _, hidden in rows if not hidden) == SHOWN_ROWS
    layers = paging.prediction.layers
    times = [layers[int(index)].breakdown_ms.total for index, _ in rows]
    assert times == sorted(times, reverse=True)


def test_layers_beyond_the_limit_are_summed_not_dropped(paging):
    """Layers beyond the most that the table holds are counted in one last row."""
    layers = (paging.prediction.layers * 40)[: MOST_ROWS + 5]
    content = page(with_layers(paging, layers))
    assert "5 other operators" in content


def test_network_without_operators_has_a_page(paging):
    """A network without operators gives a page that says so."""
    assert "No operator takes any time" in page(with_layers(paging, ()))


def test_epc_far_above_the_memory_is_named_not_drawn():
    """An EPC far above the working set is named in the chart of memory, without a line that would flatten it."""
    chart = memory_chart([Footprint(MIB, 2 * MIB)], 64 * GIB)
    assert "far above" in chart
    assert "epc-line" not in chart


@pytest.mark.parametrize("epc_bytes", [3 * MIB, 7 * MIB, 16 * MIB])
def test_chart_of_memory_says_what_the_verdict_says(epc_bytes):
    """The staircase passes the EPC exactly where the verdict is that the network does not fit."""
    findings = findings_for("softepc", epc_bytes)
    words = body(page(findings))
    fits = not findings.prediction.overcommit.predicted
    assert fits == (epc_bytes == 16 * MIB)
    assert ("squeezenet1_1 fits" in words) == fits
    assert ("stays below the EPC" in words) == fits
    assert ("exceeds the EPC at operator" in words) == (not fits)
    assert ("over the EPC" in words) == (not fits)


def test_page_names_the_costs_that_were_used(monkeypatch):
    """On a calibrated machine the page shows the measured cost of a page, not the profile's default."""
    calibration = Calibration(
        machine="a machine",
        cpu=Cpu.AVX2,
        references=References(5.0, 4.0),
        group_factors={1: {"conv": 1.0}},
        variation={1: 0.02},
        page_costs={1: PageCosts(swap_us=24.68, minor_fault_us=1.0)},
        context={"date": "a day"},
    )
    monkeypatch.setattr("sectum.predict.load_calibration", lambda: calibration)
    words = " ".join(body(page(findings_for.__wrapped__("softepc", 3 * MIB))).split())
    assert "Page load 12.3 us; measured: sectum calibrate, a day" in words


def test_epc_line_lies_between_what_is_below_and_above_it():
    """The line of the EPC is drawn above a smaller footprint and below a larger one."""
    chart = memory_chart([Footprint(50 * MIB, 50 * MIB), Footprint(100 * MIB, 100 * MIB)], 75 * MIB)
    line = float(re.search(r'epc-line" d="M0 ([\d.]+)', chart)[1])
    steps = [float(y) for y in re.findall(r"V([\d.]+)H", re.search(r'band-weights" d="([^"]+)', chart)[1])]
    assert steps[0] > line > steps[1]  # downwards in a drawing


def test_bars_of_an_operator_are_as_high_as_its_time(paging):
    """Bars in the chart of times are in proportion to the milliseconds they stand for."""
    first, second, *_ = paging.prediction.layers
    splits = (Breakdown(1.0, 0.5, 0.25), Breakdown(3.5, 0, 0))
    chart = time_chart([replace(layer, breakdown_ms=ms) for layer, ms in zip((first, second), splits, strict=True)])
    heights = {
        kind: [-float(h) for h in re.findall(r"v(-[\d.]+)", path)]
        for kind, path in re.findall(r'class="(\w+)" d="([^"]+)', chart)
    }
    assert heights["compute"][1] == pytest.approx(3.5 * heights["compute"][0], rel=1e-3)
    assert heights["paging"][0] == pytest.approx(0.25 * heights["compute"][0], rel=1e-3)


def test_point_on_the_curve_lies_where_its_size_and_latency_say():
    """The point asked for lies at its size on the logarithmic axis and at its latency on the linear one."""
    curve = [CurvePoint(MIB, 10, 9, 11), CurvePoint(4 * MIB, 10, 9, 11)]
    chart = curve_chart(curve, [], CurvePoint(2 * MIB, 5.5, 5, 6), 1.0, 9 * MIB)
    left, bottom = re.search(r'here-dot" style="left:([\d.]+)%;bottom:([\d.]+)%', chart).groups()
    assert float(left) == pytest.approx(50)
    assert float(bottom) == pytest.approx(100 * 5.5 / (1.1 * 11), abs=0.1)
