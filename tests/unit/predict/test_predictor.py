"""Predictions hold together, and say what they rest on."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest

from sectum.enclave import profile as profiles
from sectum.errors import OperatorUnsupported, UsageError
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.predict import Predictor, sweep
from sectum.predict.prediction import GUESS, MEASURED_KIND
from sectum.units import MIB, PAGE_BYTES


@pytest.fixture(scope="module")
def paging(predictor, alexnet, softepc):
    return predictor.predict(alexnet, softepc.with_epc(93 * MIB))


def test_the_parts_sum_to_the_whole(paging):
    """Latency is the sum over causes, and each cause the sum over layers."""
    assert paging.latency_ms == pytest.approx(paging.breakdown_ms.total)
    for cause in ("compute", "memory"):
        layers = sum(getattr(layer.breakdown_ms, cause) for layer in paging.layers)
        assert layers == pytest.approx(getattr(paging.breakdown_ms, cause))
    assert sum(layer.loads for layer in paging.layers) == pytest.approx(paging.memory.loads)
    assert sum(layer.native_ms for layer in paging.layers) == pytest.approx(paging.native_ms)


def test_a_model_larger_than_the_epc_pages_and_a_roomy_one_does_not(predictor, alexnet, softepc, paging):
    """AlexNet over-commits 93 MiB and fits 1 GiB, and the prediction is certain of both."""
    roomy = predictor.predict(alexnet, softepc.with_epc(1024 * MIB))
    assert paging.overcommit.predicted
    assert paging.overcommit.probability > 0.99
    assert paging.memory.margin_bytes < 0
    assert not roomy.overcommit.predicted
    assert roomy.overcommit.probability < 0.01
    assert roomy.breakdown_ms.paging == 0
    assert roomy.latency_ms < paging.latency_ms


def test_the_verdict_turns_exactly_at_the_working_set(predictor, squeezenet, softepc):
    """One page less than the working set pages, the working set itself does not."""
    size = predictor.predict(squeezenet, softepc).memory.working_set_bytes
    fits, over = sweep(predictor, squeezenet, softepc, [size, size - PAGE_BYTES])
    assert not fits.overcommit.predicted
    assert over.overcommit.predicted


def test_the_interval_holds_the_prediction_and_widens_at_the_boundary(predictor, squeezenet, softepc):
    """Where a page more or less decides, the interval covers both outcomes."""
    size = predictor.predict(squeezenet, softepc).memory.working_set_bytes
    roomy, near = sweep(predictor, squeezenet, softepc, [4 * size, size])
    for prediction in (roomy, near):
        assert prediction.interval_ms.low <= prediction.latency_ms <= prediction.interval_ms.high
    paged = sweep(predictor, squeezenet, softepc, [size - PAGE_BYTES])[0]
    assert near.interval_ms.high > roomy.interval_ms.high
    assert near.interval_ms.high >= paged.latency_ms * 0.9


def test_native_latency_that_is_given_is_kept(predictor, alexnet, softepc):
    """With the user's own native latency, shares of layers stay and their sum is that latency."""
    ours = predictor.predict(alexnet, softepc)
    given = predictor.predict(alexnet, softepc, native_ms=42.0)
    assert given.native_ms == pytest.approx(42.0)
    assert given.native_source == "given"
    for mine, theirs in zip(ours.layers, given.layers, strict=True):
        assert theirs.native_ms / 42.0 == pytest.approx(mine.native_ms / ours.native_ms)


def test_a_page_costs_what_the_kind_of_its_operator_says(pages_by_kind, squeezenet, softepc):
    """Pages of convolutions at twice the mean cost twice as much; those of hardware cost what its profile says."""
    twice, once = Predictor(pages_by_kind({"conv": 2.0})), Predictor(pages_by_kind({}))
    for enclave, factor in ((softepc, 2.0), (profiles.load("sgx1"), 1.0)):
        profile = enclave.with_epc(3 * MIB)
        for dear, cheap in zip(
            twice.predict(squeezenet, profile).layers, once.predict(squeezenet, profile).layers, strict=True
        ):
            expected = factor if cheap.type == "com.microsoft.nchwc:Conv" else 1.0
            assert dear.breakdown_ms.paging == pytest.approx(expected * cheap.breakdown_ms.paging)


def test_outside_an_enclave_nothing_is_added(predictor, alexnet):
    """Under the native profile latency is native latency."""
    prediction = predictor.predict(alexnet, profiles.load("native"))
    assert prediction.latency_ms == pytest.approx(prediction.native_ms)
    assert prediction.memory.epc_bytes is None
    assert prediction.overcommit.probability == 0.0


@pytest.mark.parametrize(
    "arguments", [{"threads": 0}, {"threads": -1}, {"native_ms": 0.0}, {"native_ms": float("nan")}]
)
def test_arguments_out_of_range_are_refused(predictor, squeezenet, softepc, arguments):
    """A number that makes no sense is an error, not a prediction."""
    with pytest.raises(UsageError):
        predictor.predict(squeezenet, softepc, **arguments)


def graph_with_unknown_operator() -> Graph:
    tensors = {
        "x": Tensor("x", (1, 64, 56, 56), "float32", TensorKind.INPUT),
        "y": Tensor("y", (1, 64, 56, 56), "float32", TensorKind.ACTIVATION),
        "z": Tensor("z", (1, 64, 56, 56), "float32", TensorKind.ACTIVATION),
    }
    operators = (Operator("a", "Relu", ("x",), ("y",)), Operator("b", "Mystery", ("y",), ("z",), domain="my.own"))
    return Graph("mystery", operators, tensors, ("x",), ("z",), 17)


def test_an_unknown_operator_is_named_bounded_and_makes_the_answer_a_guess(predictor, softepc):
    """An operator without a cost is in the coverage and the notes, has bounds, and strict refuses it."""
    graph = graph_with_unknown_operator()
    prediction = predictor.predict(graph, softepc)
    assert prediction.coverage.operators == 2
    assert prediction.coverage.supported == 1
    assert prediction.coverage.unsupported == {"my.own:Mystery": 1}
    assert any("Mystery" in note for note in prediction.notes)
    mystery = next(layer for layer in prediction.layers if "Mystery" in layer.type)
    assert mystery.breakdown_ms.compute > 0
    assert not mystery.supported
    assert (mystery.support, mystery.why_outside) == ("outside", "my.own:Mystery was never measured")
    assert prediction.interval_ms.high > 3 * mystery.breakdown_ms.compute
    assert prediction.grade.word == GUESS
    assert 0 < prediction.grade.inside_share < 1
    with pytest.raises(OperatorUnsupported, match="Mystery"):
        predictor.predict(graph, softepc, strict=True)


def test_networks_of_measured_kinds_are_graded_so_and_have_the_learned_interval(paging, operators):
    """Where all operators are like those that were measured, the interval is the learned width."""
    assert paging.grade.word == MEASURED_KIND
    assert paging.grade.inside_share == 1.0
    assert {layer.support for layer in paging.layers} == {"inside"}
    low, high = operators.widths["pages"]
    ends = [math.log(end / paging.latency_ms) for end in (paging.interval_ms.low, paging.interval_ms.high)]
    assert ends[0] < 0 < ends[1]
    assert ends[1] / ends[0] == pytest.approx(high / low)  # both are the network's spread times a learned quantile


def test_over_commitment_is_not_certain_where_memory_is_not_known(predictor, operators):
    """Pages of operators outside the support make the probability less sure on both sides."""
    known = [predictor.overcommit_probability(1000, epc) for epc in (700, 1000, 1300)]
    unsure = [predictor.overcommit_probability(1000, epc, 500) for epc in (700, 1000, 1300)]
    assert known[0] > unsure[0] > 0.5 > unsure[2] > known[2]
    assert unsure == sorted(unsure, reverse=True)
    assert predictor.overcommit_probability(1000, 700, 0) == known[0]


def test_where_memory_is_not_known_the_interval_covers_paging_and_none(predictor, softepc):
    """An unknown operator may touch its tensors twice: the interval near the working set holds both regimes."""
    graph = graph_with_unknown_operator()
    size = predictor.predict(graph, softepc).memory.working_set_bytes
    fits, near = sweep(predictor, graph, softepc, [4 * size, size + 8 * PAGE_BYTES])
    assert not near.overcommit.predicted
    assert near.interval_ms.high > fits.interval_ms.high


def test_json_holds_every_field(paging):
    """The JSON form says that it is a prediction and gives the interval as a pair."""
    data = paging.to_json()
    assert data["kind"] == "predicted"
    assert data["interval_ms"] == [paging.interval_ms.low, paging.interval_ms.high]
    assert set(data) == {field.name for field in dataclasses.fields(paging)} | {"kind"}


@pytest.mark.slow
def test_predicting_imports_no_training_library():
    """A process that predicts has loaded no library that trains, and no pyarrow."""
    program = (
        "import sys, onnx, pathlib\n"
        "from sectum.graph import read\n"
        "from sectum.predict import load_predictor\n"
        "from sectum.enclave import profile\n"
        "light = pathlib.Path(onnx.__file__).parent / 'backend/test/data/light/light_squeezenet.onnx'\n"
        "load_predictor(calibration=False).predict(read(light).graph, profile.load('sgx1'))\n"
        "heavy = {'torch', 'sklearn', 'lightgbm', 'onnxmltools', 'pyarrow', 'scipy', 'matplotlib'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
