"""Many architectures at once: the numbers of one prediction each, in order, whatever goes wrong with one."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from sectum import zoo
from sectum.enclave import profile as profiles
from sectum.errors import UsageError
from sectum.measure.reference import References
from sectum.predict import Candidate, Candidates, Predictor, predict_many
from sectum.predict.calibration import Calibration, PageCosts
from sectum.predict.operator_model import SHIPPED, OperatorModel
from sectum.predict.search import CHUNK
from sectum.units import MIB, PAGE_BYTES


@pytest.fixture(scope="module")
def architectures():
    """One of each family: some page in 12 MiB, some do not."""
    rng = random.Random(20)
    return [zoo.sample(family, rng) for family in zoo.families()]


def one_by_one(predictor, architectures, profile, *, batch=1, threads=1):
    for architecture in architectures:
        prediction = predictor.predict(zoo.to_graph(architecture, batch), profile, threads=threads)
        pages = prediction.memory.working_set_bytes // PAGE_BYTES
        yield Candidate(
            name=architecture.name,
            latency_ms=prediction.latency_ms,
            paging_ms=prediction.breakdown_ms.paging,
            native_ms=prediction.native_ms,
            probability=predictor.overcommit_probability(pages, profile.epc_pages),
            working_set_bytes=prediction.memory.working_set_bytes,
            loads=prediction.memory.loads,
        )


@pytest.mark.slow
@pytest.mark.parametrize("block", SHIPPED)
@pytest.mark.parametrize(
    ("enclave", "epc_bytes", "batch", "threads", "part"),
    [
        ("softepc", 12 * MIB, 1, 1, slice(None)),
        ("softepc", 30 * MIB, 4, 2, slice(0, None, 4)),  # four images take four times as long
        ("sgx1", 12 * MIB, 1, 1, slice(1, None, 2)),
        ("native", None, 2, 1, slice(0, None, 2)),
    ],
)
def test_predicting_many_gives_the_numbers_of_predicting_each(
    architectures, block, enclave, epc_bytes, batch, threads, part
):
    """A search sees what `Predictor.predict` says of each candidate, to the bit, on either kind of machine."""
    predictor = Predictor(OperatorModel.load(SHIPPED[block]))
    profile = profiles.load(enclave).with_epc(epc_bytes)
    options = {"batch": batch, "threads": threads}
    some = architectures[part]
    found = list(predict_many(predictor, some, profile, workers=1, **options))
    assert found == list(one_by_one(predictor, some, profile, **options))
    if epc_bytes:
        assert {candidate.loads > 0 for candidate in found} == {True, False}


@pytest.mark.slow
def test_processes_give_the_same_in_the_same_order_and_stay(predictor, architectures, softepc):
    """Candidates come back in the order of their architectures; the processes are used again by the next call."""
    profile = softepc.with_epc(12 * MIB)
    many = architectures * 2
    alone = list(predict_many(predictor, many, profile, workers=1))
    with Candidates(predictor, profile, workers=2) as candidates:
        assert list(candidates.predict(many)) == alone
        assert list(candidates.predict(many[::-1])) == alone[::-1]


@pytest.mark.slow
def test_one_that_cannot_be_predicted_is_told_and_the_others_go_on(predictor, architectures, softepc):
    """An architecture that is none gives its error in its place."""
    broken = zoo.Architecture("broken", "resnet", architectures[0].nodes, architectures[0].shapes[:2], 1)
    before, error, after = predict_many(predictor, [architectures[0], broken, architectures[1]], softepc, workers=1)
    assert (before.error, after.error) == ("", "")
    assert (before.name, error.name, after.name) == (architectures[0].name, "broken", architectures[1].name)
    assert "IndexError" in error.error
    assert math.isnan(error.latency_ms)
    assert error.working_set_bytes == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_architectures_are_drawn_as_candidates_are_taken(predictor, softepc, workers):
    """A search without an end may be asked for a few: no more than some chunks are drawn ahead."""
    rng, drawn = random.Random(3), []

    def endless():
        while True:
            drawn.append(zoo.sample("alexnet", rng))
            yield drawn[-1]

    found = list(itertools.islice(predict_many(predictor, endless(), softepc, workers=workers), 3))
    assert [candidate.name for candidate in found] == [architecture.name for architecture in drawn[:3]]
    assert len(drawn) <= 4 * CHUNK


@pytest.mark.slow
def test_upper_ends_of_a_search_are_those_of_predictions_on_a_calibrated_machine(operators, architectures, softepc):
    """What the calibration says of the machine's variation widens a search's intervals as it does a prediction's."""
    calibration = Calibration(
        machine="one that varies", cpu=operators.cpu, references=References(2.0, 3.0), group_factors={1: {"conv": 1.1}},
        variation={1: 0.15}, page_costs={1: PageCosts(swap_us=20.0, minor_fault_us=2.0)}, context={},
    )  # fmt: skip
    predictor, enclave = Predictor(operators, calibration), softepc.with_epc(12 * MIB)
    for candidate, one in zip(
        predict_many(predictor, architectures[:6], enclave, workers=1, intervals=True), architectures, strict=False
    ):
        prediction = predictor.predict(zoo.to_graph(one, 1), enclave)
        assert candidate.upper_ms == pytest.approx(prediction.interval_ms.high, rel=1e-9)
        assert candidate.upper_ms > candidate.latency_ms * 1.2


@pytest.mark.parametrize("option", ["batch", "threads", "workers"])
def test_numbers_out_of_range_are_refused(predictor, softepc, option):
    """No images, no threads or no processes mean nothing."""
    with pytest.raises(UsageError, match=f"{option} is 0"):
        Candidates(predictor, softepc, **{option: 0})


def test_no_architectures_give_no_candidates(predictor, softepc):
    """An empty search ends at once."""
    assert list(predict_many(predictor, [], softepc, workers=2)) == []
