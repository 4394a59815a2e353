"""Steps of training that several accelerators share: the numbers of one accelerator, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from hetee_training import SMALL, batches, changed, checked
from sectum.hetee.data_plane.messages import Work
from sectum.hetee.errors import Refusal, WorkRefused
from sectum.hetee.training.job import Optimiser, TrainingJob
from sectum.hetee.training.tensor_file import read_tensors
from sectum.hetee.worker.accelerators import accelerator
from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.models import CheckedModel, inspect
from sectum.hetee.worker.team import Helper
from sectum.hetee.worker.training.checked_job import CheckedJob

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="PyTorch is an extra")

SLOW_SGD = Optimiser(kind="sgd", rate=1e-3, momentum=0.9)
SLOW_ADAM = Optimiser(kind="adam", rate=1e-5)
LOSS_RTOL = 1e-5  # docs/service.md states both
GRADIENT_RTOL = 1e-4  # of the largest element of a tensor
ROUNDED_RTOL = 2e-7  # a loss that is computed in double precision is given in single precision


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch as it was, after a test."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch._C._set_deterministic_algorithms(False, warn_only=False)
    torch.backends.mkldnn.enabled = True


@contextmanager
def helping(job: CheckedJob, count: int) -> Iterator[list[Helper]]:
    """Other accelerators, each in a thread of its own."""
    others = [accelerator(f"cpu:{number}") for number in range(1, count + 1)]
    copies = [None] * count

    def copy(number: int) -> object:
        copies[number] = copies[number] or others[number].join(job)
        return copies[number]

    helpers = [Helper(one.name, lambda number=number: copy(number)) for number, one in enumerate(others)]

    def serve(helper: Helper) -> None:
        helper.serve()
        helper.free.set()

    threads = [threading.Thread(target=serve, args=(helper,)) for helper in helpers]
    for thread in threads:
        thread.start()
    yield helpers
    for helper in helpers:
        helper.dismiss()


def train(
    job: CheckedJob, data: list, count: int, name: str = "input", *, states: bool = True
) -> tuple[list[float], list[dict]]:
    """Train with ``count`` accelerators: losses, and the tensors of the ``states`` before and after each step."""
    trainer = accelerator("cpu:0").train(job)
    losses, found = [], []

    def state(step: int) -> dict:
        answer = trainer.run(Work(kind="checkpoint", step=step), {}, Stop(), lambda: None)
        stored = read_tensors(answer["checkpoint"].tobytes()).tensors
        return {key: np.frombuffer(one.data, "<f4" if one.dtype == "F32" else "<i8") for key, one in stored.items()}

    with helping(job, count - 1) as helpers:
        found += [state(0)] if states else []
        for step, (pictures, labels) in enumerate(data, 1):
            arrays = {name: pictures, "labels": labels}
            answer = trainer.run(Work(kind="train", step=step), arrays, Stop(), lambda: None, None, helpers)
            losses.append(float(answer["loss"]))
            found += [state(step)] if states else []
    return losses, found


def network(dropout: float = 0.0) -> CheckedModel:
    """Two convolutions with batch normalisation, and dropout; input ``x`` [N, 3, 16, 16], output ``y`` [N, 3]."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    shapes = {"a": (8, 3, 3, 3), "b": (8, 8, 3, 3), "c": (8, 3)}
    values = {name: rng.standard_normal(shape) / 3 for name, shape in shapes.items()}
    values |= {f"{norm}{part}": np.full(8, part in "sv") for norm in "mn" for part in "sbmv"} | {"share": dropout}
    stored = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()]
    ends = [("x", TensorProto.FLOAT, ["N", 3, 16, 16]), ("y", TensorProto.FLOAT, ["N", 3])]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["1"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["1", "ms", "mb", "mm", "mv"], ["2"]),
        helper.make_node("Relu", ["2"], ["3"]),
        helper.make_node("Conv", ["3", "b"], ["4"], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["4", "ns", "nb", "nm", "nv"], ["5"]),
        helper.make_node("GlobalAveragePool", ["5"], ["6"]),
        helper.make_node("Flatten", ["6"], ["7"]),
        helper.make_node("Dropout", ["7", "share"], ["8"]),
        helper.make_node("MatMul", ["8", "c"], ["y"]),
    ]
    values_of_graph = [helper.make_tensor_value_info(*end) for end in ends]
    graph = helper.make_graph(nodes, "small", values_of_graph[:1], values_of_graph[1:], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return inspect(made.SerializeToString())


def job_of(model: CheckedModel, optimiser: Optimiser = SLOW_SGD) -> CheckedJob:
    """A job that trains a model."""
    return checked(TrainingJob(optimiser=optimiser, onnx=(model.sha256,)), model)


def data_of(count: int, items: int = 10) -> list:
    """Batches for `network`."""
    rng = np.random.default_rng(3)
    return [(rng.standard_normal((items, 3, 16, 16), np.float32), rng.integers(0, 3, items)) for _ in range(count)]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("optimiser", [SLOW_SGD, SLOW_ADAM], ids=["sgd", "adam"])
def test_a_shared_step_is_the_step_of_one_accelerator(optimiser: Optimiser, count: int) -> None:
    """Losses, gradients and statistics of batch normalisation are those of the whole batch on one accelerator."""
    model, data = network(), data_of(3)
    whole, shared = (train(job_of(model, optimiser), data, used, "x") for used in (1, count))
    np.testing.assert_allclose(shared[0], whole[0], rtol=LOSS_RTOL)
    assert len(set(whole[0])) == 3
    scale = max(np.abs(value).max() for value in whole[1][1].values())
    for name, value in whole[1][1].items():
        if name[-2:] in ("mm", "mv", "nm", "nv") or "momentum" in name or "mean." in name:  # these are the gradient
            furthest = np.abs(shared[1][1][name] - value).max()
            assert furthest <= GRADIENT_RTOL * max(np.abs(value).max(), 1e-3 * scale), name


def test_a_published_network_has_the_losses_of_one_accelerator() -> None:
    """The first loss of a network of the zoo, with normalisation in each block, is the same on two accelerators.

    Only the first: where the input of a ReLU is as close to 0 as rounding, the order of additions decides on its side,
    so that a gradient is there or not. On some processors one input of this network is.
    """
    job, data = changed(SMALL, network="resnet18", optimiser=SLOW_SGD), batches(1)
    whole, shared = (train(checked(job), data, count, states=False)[0] for count in (1, 2))
    np.testing.assert_allclose(shared, whole, rtol=LOSS_RTOL)


def test_in_double_precision_a_published_network_trains_alike() -> None:
    """With numbers so precise that the order of additions decides nothing, step after step has the same loss."""
    job, data = changed(SMALL, network="resnet18", optimiser=SLOW_SGD), batches(2)
    exact = [(pictures.astype(np.float64), labels) for pictures, labels in data]
    torch.set_default_dtype(torch.float64)
    try:
        whole, shared = (train(checked(job), exact, count, states=False)[0] for count in (1, 2))
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(shared, whole, rtol=ROUNDED_RTOL)
    assert len(set(whole)) == 2


def test_what_is_drawn_does_not_depend_on_the_number_of_accelerators() -> None:
    """Dropout leaves the same values out, whether one accelerator computes a batch or three do."""
    model, data = network(0.5), data_of(3)
    whole, shared = (train(job_of(model), data, count, "x")[0] for count in (1, 3))
    np.testing.assert_allclose(shared, whole, rtol=LOSS_RTOL)
    other = train(job_of(network()), data, 1, "x")[0]
    assert not np.isclose(whole[0], other[0], rtol=1e-3)


class Sudden(Exception):
    """A failure of one accelerator."""


@pytest.mark.parametrize("failing", [0, 1])
def test_a_step_that_fails_on_one_accelerator_is_refused(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever accelerator fails, the others do not wait for it, and the step can be done again."""
    from sectum.hetee.worker.accelerators.pytorch import parts

    model, ((pictures, labels),) = network(), data_of(1)
    job = job_of(model)
    trainer, work = accelerator("cpu:0").train(job), Work(kind="train", step=1)
    loss_of = parts.loss_of

    def fail(*given):
        if given[4] == failing:
            raise Sudden("broken")
        return loss_of(*given)

    with helping(job, 1) as helpers:
        arrays = {"x": pictures, "labels": labels}
        with monkeypatch.context() as broken:
            broken.setattr(parts, "loss_of", fail)
            with pytest.raises(WorkRefused, match="broken") as caught:
                trainer.run(work, arrays, Stop(), lambda: None, None, helpers)
        assert caught.value.code is Refusal.COMPUTE_FAILED
        again = trainer.run(work, arrays, Stop(), lambda: None, None, helpers)
    alone = accelerator("cpu:0").train(job_of(model)).run(work, arrays, Stop(), lambda: None)
    np.testing.assert_allclose(again["loss"], alone["loss"], rtol=LOSS_RTOL)


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_stops_in_its_middle(count: int) -> None:
    """A step that is asked to stop ends before the next layer, changes nothing, and can be done again."""
    model, ((pictures, labels),) = network(), data_of(1)
    job = job_of(model)
    trainer, work = accelerator("cpu:0").train(job), Work(kind="train", step=1)
    arrays, asked = {"x": pictures, "labels": labels}, []

    def late() -> bool:
        asked.append(True)
        return len(asked) > limit

    def no() -> None:
        raise AssertionError("a step that was stopped changed the state")

    with helping(job, count - 1) as helpers:
        for limit in (0, 3, 12):  # at once, in the forward and in the backward pass
            asked.clear()
            stop = Stop()
            stop.late = late
            with pytest.raises(WorkRefused) as caught:
                trainer.run(work, arrays, stop, no, None, helpers)
            assert caught.value.code is Refusal.CANCELLED
            assert limit < len(asked) <= limit + count
        done = trainer.run(work, arrays, Stop(), lambda: None, None, helpers)
    alone = accelerator("cpu:0").train(job_of(model)).run(work, arrays, Stop(), lambda: None)
    np.testing.assert_allclose(done["loss"], alone["loss"], rtol=LOSS_RTOL)
