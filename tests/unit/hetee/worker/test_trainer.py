"""Training in the worker: the same numbers as plain PyTorch, checkpoints, and refusals."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from hetee_training import ADAM, SGD, SMALL, batches, changed, checked, losses, plainly, run
from sectum import zoo
from sectum.hetee.data_plane.messages import Work
from sectum.hetee.errors import Refusal, WorkRefused
from sectum.hetee.training.job import Optimiser, TrainingJob
from sectum.hetee.training.tensor_file import read_tensors
from sectum.hetee.worker.models import CheckedModel, inspect
from sectum.hetee.worker.training.checked_job import CheckedWeights

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="PyTorch is an extra")


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch as a worker uses it."""
    from sectum.hetee.worker.accelerators.pytorch.trainer import settle

    threads = torch.get_num_threads()
    settle(1)
    yield
    torch.set_num_threads(threads)
    torch._C._set_deterministic_algorithms(False, warn_only=False)
    torch.backends.mkldnn.enabled = True


def trainer(job: TrainingJob, *sources: CheckedModel):
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer

    return Trainer(checked(job, *sources), lambda _trainer: None)


@pytest.mark.parametrize("optimiser", [SGD, ADAM], ids=["sgd", "adam"])
def test_losses_are_those_of_plain_pytorch(optimiser) -> None:
    """Five steps give the losses of `torch.optim` in the usual loop, bit for bit."""
    job = changed(SMALL, optimiser=optimiser)
    module = zoo.to_torch(zoo.network("squeezenet1_1", classes=3, resolution=32, seed=5), seed=5)
    assert losses(trainer(job), batches(5)) == list(plainly(job, module, batches(5)))


@pytest.mark.parametrize("network", ["resnet18", "squeezenet1_1", "googlenet"])
def test_an_onnx_model_trains_as_its_network_does(network: str) -> None:
    """A network's ONNX model gives the losses of its module with the same weights, normalisation included."""
    arch = zoo.network(network, classes=3, resolution=64)
    content = zoo.to_bytes(arch)
    model = inspect(content)
    job, data = TrainingJob(optimiser=Optimiser(kind="sgd", rate=1e-3), onnx=(model.sha256,)), batches(3, side=64)
    ours = losses(trainer(job, model), data)
    theirs = list(plainly(job, zoo.to_torch(arch, like_onnx=True), data))
    assert len(set(theirs)) == 3
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


@pytest.mark.parametrize("optimiser", [SGD, ADAM], ids=["sgd", "adam"])
def test_a_checkpoint_goes_on_with_the_same_losses(optimiser) -> None:
    """After a checkpoint, another trainer gives the losses that the first one goes on to give, bit for bit."""
    job = changed(SMALL, optimiser=optimiser, network="resnet18")
    data = batches(6)
    first = trainer(job)
    losses(first, data[:3])
    content = run(first, Work(kind="checkpoint", step=3))["checkpoint"].tobytes()
    weights = CheckedWeights(content, hashlib.sha256(content).digest(), (), ())
    second = trainer(changed(job, checkpoint=(weights.sha256,), step=3), weights)
    assert losses(second, data[3:], 3) == losses(first, data[3:], 3)
    ends = [run(one, Work(kind="checkpoint", step=6))["checkpoint"].tobytes() for one in (first, second)]
    assert ends[0] == ends[1]


def test_a_job_that_leaves_its_accelerator_goes_on_where_it_was() -> None:
    """A job that is taken off its accelerator keeps its state, and goes on with the same losses."""
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer

    data, job = batches(4), checked(SMALL)
    one = Trainer(job, lambda _trainer: None)
    begun = losses(one, data[:2])
    one.park()
    assert len(job.parked) == 1
    assert begun + losses(Trainer(job, lambda _trainer: None), data[2:], 2) == losses(trainer(SMALL), data)


def test_the_state_is_the_checkpoint() -> None:
    """The digest after a step is that of the checkpoint after it, and it is given when it is due only."""
    one = trainer(changed(SMALL, state_every=2))
    states = [run(one, Work(kind="train", step=step), *batch)["state"] for step, batch in enumerate(batches(2), 1)]
    answer = run(one, Work(kind="checkpoint", step=2))
    assert [len(state) for state in states] == [0, 32]
    assert states[1].tobytes() == hashlib.sha256(answer["checkpoint"]).digest() == answer["state"].tobytes()
    assert read_tensors(answer["checkpoint"].tobytes()).about["step"] == "2"


@pytest.mark.parametrize("step", [0, 1, 3, 4])
def test_only_the_next_step_is_done(step: int) -> None:
    """A step that was done, or that comes too early, is refused and changes nothing."""
    data = batches(2)
    one = trainer(SMALL)
    losses(one, data[:1])
    with pytest.raises(WorkRefused, match="has done 1 steps") as caught:
        run(one, Work(kind="train", step=step), *data[1])
    assert caught.value.code is Refusal.INPUT_REFUSED
    assert losses(one, data[1:], 1) == losses(trainer(SMALL), data)[1:]


def test_a_step_that_nobody_wants_changes_nothing() -> None:
    """If the right to answer is gone when the gradient is there, neither parameters nor statistics change."""
    from sectum.hetee.worker.accelerators.protocol import Stop

    job = changed(SMALL, network="resnet18")
    data, one = batches(1), trainer(job)

    def gone() -> None:
        raise RuntimeError("answered")

    with pytest.raises(WorkRefused):
        one.run(Work(kind="train", step=1), {"input": data[0][0], "labels": data[0][1]}, Stop(), gone)
    assert (
        run(one, Work(kind="checkpoint", step=0))["state"].tobytes()
        == hashlib.sha256(run(trainer(job), Work(kind="checkpoint", step=0))["checkpoint"]).digest()
    )


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, -1, 2, 1], [0, 1], []])
def test_labels_that_are_no_classes_are_refused(labels: list[int]) -> None:
    """A label is needed for each item, and is the number of a class."""
    with pytest.raises(WorkRefused, match="labels"):
        run(trainer(SMALL), Work(kind="train", step=1), batches(1)[0][0], np.array(labels, np.int64))


def test_a_job_whose_state_is_lost_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails while parameters change is refused, and so is all that follows, also on another accelerator."""
    from sectum.hetee.worker.accelerators.pytorch import optimisers
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer

    def fail(*_: object) -> None:
        raise MemoryError

    data, job = batches(2), checked(changed(SMALL, optimiser=ADAM))
    one = Trainer(job, lambda _trainer: None)
    losses(one, data[:1])
    with monkeypatch.context() as broken:
        broken.setattr(optimisers.OptimiserState, "_adam", fail)
        with pytest.raises(WorkRefused, match="lost in the middle") as caught:
            losses(one, data[1:], 1)
    assert caught.value.code is Refusal.COMPUTE_FAILED
    with pytest.raises(WorkRefused):
        losses(one, data[1:], 1)
    one.park()
    with pytest.raises(WorkRefused):
        Trainer(job, lambda _trainer: None)


def test_scoring_trains_nothing() -> None:
    """Scores are those of evaluation mode, and the next step's loss is what it would have been."""
    data, one = batches(2), trainer(changed(SMALL, network="resnet18"))
    losses(one, data[:1])
    scores = run(one, Work(kind="score", step=1), data[1][0])["scores"]
    assert scores.shape == (4, 3)
    assert losses(one, data[1:], 1) == losses(trainer(changed(SMALL, network="resnet18")), data)[1:]


def test_a_checkpoint_of_another_structure_or_step_is_refused() -> None:
    """A checkpoint goes on in a job of its structure and its step only."""
    one = trainer(SMALL)
    losses(one, batches(1))
    content = run(one, Work(kind="checkpoint", step=1))["checkpoint"].tobytes()
    weights = CheckedWeights(content, hashlib.sha256(content).digest(), (), ())
    for fields, why in (
        ({"step": 2}, "the job says 2"),
        ({"step": 1, "classes": 4}, "another network"),
        ({"step": 1, "optimiser": ADAM}, "another network or optimiser"),
    ):
        with pytest.raises(WorkRefused, match=why) as caught:
            trainer(changed(SMALL, checkpoint=(weights.sha256,), **fields), weights)
        assert caught.value.code is Refusal.MODEL_REFUSED


def test_a_checkpoint_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a checkpoint that is larger than one answer add up to it."""
    from sectum.hetee.worker.accelerators.pytorch import trainer as module

    one = trainer(SMALL)
    whole = run(one, Work(kind="checkpoint", step=0))["checkpoint"].tobytes()
    monkeypatch.setattr(module, "PART_BYTES", 1 << 20)
    parts = b""
    while len(parts) < len(whole):
        answer = run(one, Work(kind="checkpoint", step=0, begin=len(parts)))
        assert int(answer["size"]) == len(whole)
        parts += answer["checkpoint"].tobytes()
    assert parts == whole
