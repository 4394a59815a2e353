"""Workers that train one job together: the numbers of one worker with the whole batch, and one state everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hetee_training import ADAM, SGD, SMALL, batches, changed, checked, losses
from sectum.hetee.data_plane.messages import Work
from sectum.hetee.errors import WorkRefused
from sectum.hetee.training.exchange import BLOCKS, MEMBERSHIP, Membership, shares_of
from sectum.hetee.training.job import LABELS, TrainingJob
from sectum.hetee.training.tensor_file import read_tensors
from sectum.hetee.wire.messages import encode
from sectum.hetee.worker.accelerators.protocol import Stop

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="PyTorch is an extra")

LOSS_RTOL = 1e-5  # docs/service.md states it
KEY = b"k" * 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch as a worker uses it."""
    from sectum.hetee.worker.accelerators.pytorch.trainer import settle

    threads = torch.get_num_threads()
    settle(1)
    yield
    torch.set_num_threads(threads)
    torch._C._set_deterministic_algorithms(False, warn_only=False)
    torch.backends.mkldnn.enabled = True


def do(one: object, work: Work, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Let a trainer do something."""
    return one.run(work, arrays, Stop(), lambda: None)  # type: ignore[attr-defined]


class Workers:
    """Workers that have joined each other."""

    def __init__(self, job: TrainingJob, count: int, done: int = 0) -> None:
        from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer

        self.jobs = [checked(job) for _ in range(count)]
        self.trainers = [Trainer(each, lambda _trainer: None) for each in self.jobs]
        self.round, self.done = 0, done
        for rank, one in enumerate(self.trainers):
            told = encode(Membership(key=KEY, rank=rank, count=count))
            do(one, Work(kind="join", step=done), {MEMBERSHIP: np.frombuffer(told, np.uint8)})

    def gradients(self, pictures: np.ndarray, labels: np.ndarray) -> tuple[dict, list[np.ndarray]]:
        """What each has sealed of a step."""
        self.round += 1
        shares, begin, sealed = shares_of(len(labels), len(self.trainers)), 0, []
        about = {"step": self.done + 1, "round": self.round, "shares": shares}
        for one, share in zip(self.trainers, shares, strict=True):
            part = slice(begin, begin + share)
            begin += share
            answer = do(one, Work(kind="gradients", **about), {"input": pictures[part], LABELS: labels[part]})
            sealed.append(answer["gradients"])
        return about, sealed

    def step(self, pictures: np.ndarray, labels: np.ndarray) -> list[tuple[float, bytes]]:
        """The loss and the state of each after a step."""
        about, sealed = self.gradients(pictures, labels)
        found = []
        for rank, one in enumerate(self.trainers):
            others = np.concatenate([blocks for other, blocks in enumerate(sealed) if other != rank])
            answer = do(one, Work(kind="apply", **about), {BLOCKS: others})
            found.append((float(answer["loss"]), answer["state"].tobytes()))
        self.done += 1
        return found

    def checkpoint(self, rank: int = 0) -> bytes:
        """The state of one."""
        return do(self.trainers[rank], Work(kind="checkpoint", step=self.done), {})["checkpoint"].tobytes()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("optimiser", [SGD, ADAM], ids=["sgd", "adam"])
def test_they_train_as_one_with_the_whole_batch(optimiser: object, count: int) -> None:
    """Losses are those of one worker to the stated tolerance; loss and state are equal in all workers."""
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer

    job = changed(SMALL, optimiser=optimiser, state_every=1)
    workers, data = Workers(job, count), batches(4)
    found = [workers.step(*batch) for batch in data]
    assert all(len(set(each)) == 1 for each in found)
    alone = losses(Trainer(checked(job), lambda _trainer: None), data)
    np.testing.assert_allclose([each[0][0] for each in found], alone, rtol=1e-3)
    assert found[0][0][0] == pytest.approx(alone[0], rel=LOSS_RTOL)


def test_statistics_of_normalisation_are_averaged() -> None:
    """With batch normalisation all workers have one state, which is not that of the whole batch, and counts go on."""
    job = changed(SMALL, network="resnet18", state_every=1)
    workers, data = Workers(job, 2), batches(2)
    found = [workers.step(*batch) for batch in data]
    assert all(len(set(each)) == 1 for each in found)
    stored = read_tensors(workers.checkpoint()).tensors
    counts = {bytes(one.data) for name, one in stored.items() if name.endswith("num_batches_tracked")}
    assert counts in ({np.int64(2).tobytes()}, set())
    assert workers.checkpoint(0) == workers.checkpoint(1)


@pytest.mark.parametrize("at", [0, 100, -1])
def test_a_changed_block_leaves_the_state_as_it_was(at: int) -> None:
    """A step whose blocks were changed is refused and changes nothing; tried again, it is what it would have been."""
    job, data = changed(SMALL, network="resnet18", state_every=1), batches(2)
    expected = Workers(job, 2)
    workers = Workers(job, 2)
    assert workers.step(*data[0]) == expected.step(*data[0])
    before = workers.checkpoint()
    about, sealed = workers.gradients(*data[1])
    sealed[1] = sealed[1].copy()
    sealed[1][at] ^= 1
    with pytest.raises(WorkRefused, match="not authentic"):
        do(workers.trainers[0], Work(kind="apply", **about), {BLOCKS: sealed[1]})
    assert workers.checkpoint() == before
    assert workers.step(*data[1]) == expected.step(*data[1])


def test_a_worker_that_moves_between_accelerators_keeps_its_gradients() -> None:
    """When a job leaves its accelerator in the middle of a step, the step goes on where the job goes on."""
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer

    job, data = changed(SMALL, state_every=1), batches(1)
    expected, workers = Workers(job, 2).step(*data[0]), Workers(job, 2)
    about, sealed = workers.gradients(*data[0])
    workers.trainers[0].park()
    moved = Trainer(workers.jobs[0], lambda _trainer: None)
    answer = do(moved, Work(kind="apply", **about), {BLOCKS: sealed[1]})
    assert (float(answer["loss"]), answer["state"].tobytes()) == expected[0]


def test_without_others_there_is_no_exchange() -> None:
    """A job that has joined no other workers neither gives gradients nor takes any."""
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer

    one = Trainer(checked(SMALL), lambda _trainer: None)
    pictures, labels = batches(1)[0]
    with pytest.raises(WorkRefused, match="join"):
        do(one, Work(kind="gradients", step=1, round=1, shares=(4, 4)), {"input": pictures, LABELS: labels})
    with pytest.raises(WorkRefused, match="join"):
        do(one, Work(kind="apply", step=1, round=1, shares=(4, 4)), {BLOCKS: np.zeros(0, np.uint8)})
