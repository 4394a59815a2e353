"""The SGX profiles against the published measurements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from places import ROOT
from sectum.enclave import profile as profiles
from sectum.lab.sgx import fit as sgx_fit
from sectum.lab.sgx.__main__ import main
from sectum.lab.sgx.networks import streamed_bytes, trace, weight_bytes
from sectum.lab.sgx.report import markdown
from sectum.paging.replacement import working_set_pages

pytest.importorskip("scipy", reason="the profiles are fitted by SciPy: install the extra train")

FOUND = {name: sgx_fit.predictions(name) for name in sgx_fit.PLATFORMS}
SINGLE = [p for rows in FOUND.values() for p in rows if p.measurement.threads == 1]


def test_single_thread_error_on_networks_held_out_is_within_ten_percent() -> None:
    """Fitted without a network, the model tells that network's time in the enclave to 10 % in the mean."""
    assert len(SINGLE) == 16
    assert sgx_fit.mape(p.held_out_error for p in SINGLE) <= 0.10


@pytest.mark.parametrize("name", list(sgx_fit.PLATFORMS))
def test_each_platform_alone_is_within_ten_percent(name: str) -> None:
    """The easy platform does not hide the hard one."""
    rows = [p for p in FOUND[name] if p.measurement.threads == 1]
    assert sgx_fit.mape(p.held_out_error for p in rows) <= 0.10
    assert sgx_fit.mape(p.in_sample_error for p in rows) <= 0.05


def test_a_held_out_network_does_not_touch_its_own_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its rows say, the constants fitted without a network stay the same."""
    before = sgx_fit.fitted_profile("sgx1", without="large_mlp")
    assert before != sgx_fit.fitted_profile("sgx1")
    rows = sgx_fit.measurements()
    wrong = tuple(
        sgx_fit.PublishedTimes(r.platform, r.model, r.threads, r.batch, 100 * r.enclave_ms, r.native_ms)
        if r.model == "large_mlp"
        else r
        for r in rows
    )
    monkeypatch.setattr(sgx_fit, "measurements", lambda: wrong)
    assert sgx_fit.fitted_profile("sgx1", without="large_mlp") == before


@pytest.mark.parametrize("name", list(sgx_fit.PLATFORMS))
def test_shipped_profile_holds_the_fitted_constants(name: str) -> None:
    """The profile in the package is what the fit gives, to every digit."""
    assert profiles.load(name) == sgx_fit.fitted_profile(name)


def test_document_is_what_the_fit_writes() -> None:
    """The page about the SGX profiles is generated and up to date."""
    assert (ROOT / "docs" / "sgx-profile.md").read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize(
    ("model", "megabytes"), [("alex", 249.5), ("simple_alex", 33.4), ("vgg16", 553.4), ("large_mlp", 52.6)]
)
def test_networks_have_the_weights_that_were_measured(model: str, megabytes: float) -> None:
    """The layer tables add up to the published sizes."""
    assert weight_bytes(model) / 1e6 == pytest.approx(megabytes, abs=0.1)


def test_only_fully_connected_weights_are_streamed() -> None:
    """All of the perceptron streams; of AlexNet's convolutions with a small head, only the head."""
    assert streamed_bytes("large_mlp", 1) == weight_bytes("large_mlp")
    assert streamed_bytes("simple_alex", 1) == (9216 + 1) * 500 * 4


def test_larger_batches_touch_more_activations_and_the_same_weights() -> None:
    """A batch of four adds three more of each activation and no weight."""
    one, four = (working_set_pages(trace("large_mlp", batch)) for batch in (1, 4))
    assert 0 < four - one < 100


def test_measurements_are_complete() -> None:
    """Two platforms, four networks, one and four threads, batch one and four."""
    rows = sgx_fit.measurements()
    assert len({(r.platform, r.model, r.threads, r.batch) for r in rows}) == len(rows) == 32


MATRICES = arrays(np.float64, (6, 2), elements=st.floats(0, 4).map(lambda v: round(v, 2)))
TARGETS = arrays(np.float64, 6, elements=st.floats(-2, 4).map(lambda v: round(v, 2)))
POINTS = arrays(np.float64, 2, elements=st.floats(0, 3))


@given(MATRICES, TARGETS, POINTS)
def test_no_point_has_a_smaller_error_than_the_solvers(
    matrix: np.ndarray, target: np.ndarray, point: np.ndarray
) -> None:
    """Both solvers find the minimum over all constants that are 0 or more."""
    for solver, power in ((sgx_fit.least_absolute, 1), (sgx_fit.least_squares, 2)):
        x = solver(matrix, target)
        assert (x >= 0).all()
        best, other = (np.sum(np.abs(matrix @ v - target) ** power) for v in (x, point))
        assert best <= other + 1e-6


@pytest.mark.parametrize(
    ("arguments", "beginning"), [(["--markdown"], "# The SGX profiles"), (["--profile", "sgx1"], "{")]
)
def test_module_writes_the_report_and_the_profiles(
    arguments: list[str], beginning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``python -m sectum.lab.sgx`` makes what the repository holds."""
    main(arguments)
    assert capsys.readouterr().out.startswith(beginning)
