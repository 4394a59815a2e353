"""Each learner finds a law of its own kind in real networks with made-up latencies."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from measured_networks import held_out_errors, made_up, under
from sectum.errors import UsageError
from sectum.lab.evaluation.registry import SHIPPED, Entry, chosen, learners
from sectum.lab.learners.kernel_additive import KernelAdditive
from sectum.lab.learners.learner import LatencyCase
from sectum.lab.learners.measured import known
from sectum.lab.learners.native import Shared
from sectum.lab.learners.proxies import FlopsAndBytes, NativeTimesConstant
from sectum.lab.learners.regression import factor, proportional, weighted_median
from sectum.lab.learners.shipped import OperatorsAndPages, over_commitment, working_set_errors
from sectum.lab.learners.three_constants import ThreeConstants, faults, rate_ms
from sectum.lab.learners.two_stage import TwoStage, WorkingSetRule, modelled_bytes, overflow_bytes
from sectum.predict.overcommit import ErrorDistribution
from sectum.units import MIB, PAGE_BYTES

pytestmark = pytest.mark.slow

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
pytest.importorskip("lightgbm", reason="learners are trained by LightGBM: install sectum[train]")
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="graph networks need torch: install sectum[learn]"
)


def native_ms(network):
    """The law of native latency: the roofline."""
    return float(network.features.roofline.sum() * network.unit_ms)


def swaps_ms(network, run):
    """A law of paging: so much for each modelled swap."""
    return float(faults(network, run.epc_pages) @ (0.02, 0.0)) if run.epc_bytes else 0.0


def overflows(network, run):
    """Loads where the modelled working set does not fit, and none where it does."""
    return float(network.trace.pages) if run.epc_pages and network.trace.pages > run.epc_pages else 0.0


def test_flops_and_bytes_finds_a_linear_law():
    """A latency that is linear in operations and bytes is predicted exactly, natively and in the enclave."""

    def law(network, run):
        flops = sum(cost.flops for cost in network.features.costs)
        traffic = sum(cost.input_bytes + cost.output_bytes for cost in network.features.costs)
        return (1 if run.epc_bytes is None else 4) * (flops / 5e7 + traffic / 1e7 + 0.5)

    errors, _ = held_out_errors(FlopsAndBytes(), under(law))
    assert errors.max() < 1e-6


def test_the_constant_of_native_times_constant_is_found():
    """Where every enclave takes three times the native latency, that is learned."""
    networks = under(lambda network, run: native_ms(network) * (1 if run.epc_bytes is None else 3))
    errors, _ = held_out_errors(NativeTimesConstant(Shared()), networks)
    assert np.mean(errors) < 0.03


def test_kernels_are_learned_and_summed():
    """A time of each operator that depends on its sizes is learned; of networks not seen, the sum is near."""
    networks = under(lambda network, run: native_ms(network))
    errors, _ = held_out_errors(KernelAdditive(), networks)
    assert np.median(errors) < 0.15


def test_the_page_model_measures_its_constants():
    """Where latency is the reference kernels' rate and a cost for each fault, three constants say everything."""

    def law(network, run):
        paging = faults(network, run.epc_pages) @ (0.03, 0.002) if run.epc_bytes else 0.0
        return 1.7 * rate_ms(network) + float(paging)

    errors, regime = held_out_errors(ThreeConstants(), under(law))
    assert errors.max() < 1e-6
    assert set(regime.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("paged", "name"), [(overflow_bytes, "overflow"), (modelled_bytes, "faults")], ids=["overflow", "faults"]
)
def test_two_stages_find_a_law_for_each_regime(paged, name):
    """Other coefficients where it fits than where it pages: both are found."""

    def law(network, run):
        if run.epc_bytes is None or not overflows(network, run):
            return native_ms(network)
        case = LatencyCase(network, run.epc_pages)
        return 2 * native_ms(network) + paged(case, network.trace.pages * PAGE_BYTES) / 1e5

    networks = under(law, pages=overflows)
    errors, regime = held_out_errors(TwoStage(name, Shared(), WorkingSetRule(), paged), networks)
    assert np.mean(errors[regime == 2]) < 0.05
    assert np.mean(errors[regime == 1]) < 0.05


def test_the_shipped_form_finds_operators_and_cost_of_a_page():
    """Operator times from their sizes, and a cost for each swap, are found; the intervals hold."""
    networks = under(lambda network, run: native_ms(network) + swaps_ms(network, run))
    errors, _ = held_out_errors(OperatorsAndPages(SHIPPED, Shared()), networks)
    assert np.mean(errors) < 0.03


def test_a_network_smaller_than_the_epc_is_said_to_fit():
    """Half the EPC is sure to fit, twice the EPC sure not to, and equal sizes are open."""
    errors = ErrorDistribution.fit(np.random.default_rng(0).normal(0, 0.01, 200))
    assert over_commitment(100, 200, errors) < 0.01
    assert over_commitment(200, 100, errors) > 0.99
    assert over_commitment(100, 100, errors) == pytest.approx(0.5, abs=0.1)
    assert [over_commitment(pages, 100, None) for pages in (100, 101)] == [0.0, 1.0]


def test_working_sets_that_are_off_make_verdicts_less_certain():
    """Where the modelled working set is the measured one a little more than it is enough; where not, it may not be."""
    exact = under(native_law, pages=overflows, most=24)
    exact = [replace(network, working_set_bytes=network.trace.pages * PAGE_BYTES) for network in exact]
    off = [replace(network, working_set_bytes=int(network.working_set_bytes * (0.9 + 0.01 * number)))
           for number, network in enumerate(exact)]  # fmt: skip
    sure, unsure = (over_commitment(100, 104, working_set_errors(networks)) for networks in (exact, off))
    assert sure < 0.1 < unsure


def native_law(network, _run):
    return native_ms(network)


@needs_torch
def test_the_graph_verdict_learns_what_fits(monkeypatch):
    """Networks that fit into the EPC are told from those that do not, by operators and data flow alone."""
    from sectum.lab.learners import graph_verdict

    monkeypatch.setattr(graph_verdict, "EPOCHS", 30)
    networks = [
        replace(network, working_set_bytes=network.trace.pages * PAGE_BYTES)
        for network in under(native_law, pages=overflows)
    ]
    fitted = graph_verdict.GraphVerdict().fit(networks)
    cases = [LatencyCase(known(network), run.epc_pages) for network in networks for run in network.runs]
    over_committed = np.array([run.over_committed for network in networks for run in network.runs])
    assert np.mean((fitted.judge(cases).probability >= 0.5) == over_committed) > 0.9


def test_what_several_learners_need_is_trained_once():
    """The same networks give the same model; other networks another one."""
    calls = []
    shared, networks = Shared(), [made_up(0), made_up(1)]

    def train(given):
        calls.append(len(given))
        return len(calls)

    assert [shared.once("x", networks, train), shared.once("x", networks, train)] == [1, 1]
    assert shared.once("x", networks[:1], train) == 2
    assert shared.once("y", networks[:1], train) == 3


def test_coefficients_are_never_negative():
    """A column that would want a negative cost is left out."""
    columns = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    found = proportional(columns, np.array([1.0, 3.0, 5.0]))
    assert found[1] == 0
    assert found[0] > 0


def test_factor_is_the_weighted_median_of_ratios():
    """One wild ratio does not move the constant."""
    assert factor(np.ones(3), np.array([2.0, 2.0, 900.0])) == 2.0
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 5.0])) == 2.0


def test_no_paging_seen_makes_pages_free_of_charge_but_not_of_sense():
    """Learners that never saw a page fault still answer."""
    fitted = ThreeConstants().fit(list(under(native_law, pages=lambda *_: 0.0, most=12)))
    (estimate,) = fitted.predict([LatencyCase(known(under(native_law, most=1)[0]), 16 * MIB // 4096)])
    assert estimate.latency_ms > 0


def test_names_are_keys_and_unknown_ones_are_refused():
    """The registry's keys are the learners' names, and an unknown name lists those there are."""
    assert all(name == entry.name for name, entry in learners().items())
    assert all(entry.make(Shared()).name == entry.name for entry in chosen(()) if entry.missing is None)
    with pytest.raises(UsageError, match="page-model"):
        chosen(["page-modell"])


def test_a_learner_that_lacks_a_library_says_how_to_get_it():
    """It is named, with the extra to install, and nothing is imported to find out."""
    entry = Entry("x", "", lambda _shared: ThreeConstants(), needs=("no_such_module",), extra="learn")
    assert "scripts/setup learn" in str(entry.missing)
