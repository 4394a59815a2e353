"""The owner's side of training: numbers of steps, and checkpoints."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from hetee_training import SGD, SMALL
from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.client.training import begin
from sectum.hetee.data_plane.messages import Slot, Work
from sectum.hetee.errors import HeteeError, Refusal, WorkRefused, refusal
from sectum.hetee.training.job import TrainingJob, read_job
from sectum.hetee.training.tensor_file import StoredTensor, write_tensors

EMPTY = np.zeros(0, np.uint8)
X, Y = np.zeros((2, 3, 4, 4), np.float32), np.array([0, 1])
SLOTS = (Slot(name="input", dtype="float32", shape=("N",)), Slot(name="labels", dtype="int64", shape=("N",)))


class Service:
    """Keeps what is sent; a test answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.dropped: list[bytes] = []
        self.work: list[tuple[Work, dict[str, Any], Future[Result]]] = []

    def send_code(self, kind: str, content: bytes, timeout_s: float) -> LoadedModel:
        self.sent.append((kind, bytes(content)))
        return LoadedModel(hashlib.sha256(content).digest(), SLOTS, (), 0.0)

    def submit_work(self, model: LoadedModel, work: Work, inputs: Any, **_options: Any) -> Future[Result]:
        self.work.append((work, dict(inputs), Future()))
        return self.work[-1][2]

    def unload(self, model: LoadedModel) -> None:
        self.dropped.append(model.digest)

    def answer(self, at: int, **outputs: Any) -> None:
        arrays = {name: np.asarray(value) for name, value in outputs.items()}
        self.work[at][2].set_result(Result(arrays, False, 0.0, 0.0, Future()))

    def refuse(self, at: int) -> None:
        error: HeteeError = refusal(Refusal.INPUT_REFUSED, "no")
        self.work[at][2].set_exception(error)


def test_steps_are_numbered_in_the_order_of_the_calls() -> None:
    """Several steps are in flight with numbers in a row, and each future gets the loss of its step."""
    service = Service()
    training = begin(service, SMALL)
    steps = [training.submit(X, Y, rate=rate) for rate in (None, 0.5)]
    assert [(work.step, work.rate) for work, _, _ in service.work] == [(1, ()), (2, (0.5,))]
    service.answer(0, loss=np.float32(3), state=np.zeros(0, np.uint8))
    service.answer(1, loss=np.float32(2), state=np.full(32, 7, np.uint8))
    assert [(step.result().number, step.result().loss) for step in steps] == [(1, 3.0), (2, 2.0)]
    assert [step.result().state for step in steps] == [None, b"\7" * 32]
    assert training.done == 2


def test_after_a_refused_step_the_next_call_sends_its_number_again() -> None:
    """A refused step and those behind it were not done; the numbers go on after the last that was."""
    service = Service()
    training = begin(service, SMALL)
    steps = [training.submit(X, Y) for _ in range(3)]
    service.answer(0, loss=1.0, state=np.zeros(0, np.uint8))
    service.refuse(1)
    service.refuse(2)
    for step in steps[1:]:
        with pytest.raises(WorkRefused):
            step.result()
    training.submit(X, Y)
    assert service.work[-1][0].step == 2


def test_what_a_job_names_is_sent_before_it_and_dropped_after_it() -> None:
    """Model and weights are sent first, the job names their digests, and the weights are then dropped."""
    service = Service()
    begin(service, TrainingJob(optimiser=SGD, onnx=(bytes(32),)), onnx=b"model", weights=b"weights")
    kinds = [kind for kind, _ in service.sent]
    assert kinds == ["onnx", "safetensors", "training"]
    job = read_job(service.sent[-1][1])
    assert job.onnx == (hashlib.sha256(b"model").digest(),)
    assert job.weights == (hashlib.sha256(b"weights").digest(),)
    assert service.dropped == [hashlib.sha256(b"weights").digest()]


def test_a_large_file_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of more than one part is named by all its parts, in their order."""
    monkeypatch.setattr("sectum.hetee.client.training.UPLOAD_BYTES", 10)
    service, content = Service(), bytes(range(25))
    training = begin(service, SMALL, checkpoint=Checkpoint(content, 4))
    parts = [content[:10], content[10:20], content[20:]]
    assert [part for kind, part in service.sent if kind == "safetensors"] == parts
    assert read_job(service.sent[-1][1]).checkpoint == tuple(hashlib.sha256(part).digest() for part in parts)
    assert training.done == 4


class Answering(Service):
    """Answers each request for a checkpoint with the next of some parts."""

    def __init__(self, *parts: bytes, size: int, state: bytes) -> None:
        super().__init__()
        self._parts, self._size, self._state = iter(parts), size, state

    def submit_work(self, model: LoadedModel, work: Work, inputs: Any, **options: Any) -> Future[Result]:
        answer = super().submit_work(model, work, inputs, **options)
        part = np.frombuffer(next(self._parts), np.uint8)
        state = np.frombuffer(self._state, np.uint8)
        self.answer(-1, checkpoint=part, size=np.int64(self._size), state=state)
        return answer


CONTENT = write_tensors({"step": "0"}, {"model.w": StoredTensor("F32", (2,), memoryview(bytes(8)))})
DIGEST = hashlib.sha256(CONTENT).digest()


def test_parts_of_a_checkpoint_are_joined_and_checked() -> None:
    """The parts are asked for one after the other, and what they make up has the digest that the worker names."""
    service = Answering(CONTENT[:30], CONTENT[30:], size=len(CONTENT), state=DIGEST)
    checkpoint = begin(service, SMALL).checkpoint()
    assert checkpoint.content == CONTENT
    assert [(work.step, work.begin) for work, _, _ in service.work] == [(0, 0), (0, 30)]
    assert list(checkpoint.weights()) == ["w"]


@pytest.mark.parametrize(
    ("parts", "size", "state"),
    [
        ((CONTENT,), len(CONTENT), bytes(32)),
        ((CONTENT[:-1], b""), len(CONTENT), DIGEST),
        ((CONTENT + b"x",), len(CONTENT), DIGEST),
        ((CONTENT[:-1] + b"x",), len(CONTENT), DIGEST),
    ],
)
def test_a_checkpoint_that_is_not_its_state_is_refused(parts: tuple[bytes, ...], size: int, state: bytes) -> None:
    """Content that has not the digest or the size that the worker names is not given to the owner."""
    with pytest.raises(WorkRefused) as caught:
        begin(Answering(*parts, size=size, state=state), SMALL).checkpoint()
    assert caught.value.code is Refusal.DIGEST_DIFFERS


@pytest.mark.parametrize("content", [b"", CONTENT[:20], write_tensors({"step": "x"}, {})])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes) -> None:
    """A file is a checkpoint if it is a safetensors file that says its step."""
    with pytest.raises(WorkRefused):
        Checkpoint.read(content)


def test_answers_are_taken_while_a_step_is_sent() -> None:
    """Sending may wait until the thread that receives has passed on an answer: neither waits for the other forever."""
    service = Service()
    training = begin(service, SMALL)
    first = training.submit(X, Y)
    send = service.submit_work

    def slow(*args: Any, **options: Any) -> Future[Result]:
        receiving = threading.Thread(target=service.answer, args=(0,), kwargs={"loss": 1.0, "state": EMPTY})
        receiving.start()
        receiving.join(20)
        assert not receiving.is_alive()
        return send(*args, **options)

    service.submit_work = slow  # type: ignore[method-assign]
    training.submit(X, Y)
    assert first.result(0).loss == 1.0


def test_a_step_that_cannot_be_sent_gives_its_number_back() -> None:
    """A step that is refused before it was sent is not counted."""
    service = Service()
    training, send = begin(service, SMALL), service.submit_work

    def refuse(*_args: Any, **_options: Any) -> Future[Result]:
        raise refusal(Refusal.INPUT_REFUSED, "no")

    service.submit_work = refuse  # type: ignore[method-assign]
    with pytest.raises(WorkRefused):
        training.submit(X, Y)
    service.submit_work = send  # type: ignore[method-assign]
    training.submit(X, Y)
    assert service.work[-1][0].step == 1


def test_an_answer_without_a_loss_is_an_error() -> None:
    """A future of a step always ends, whatever the answer holds."""
    service = Service()
    step = begin(service, SMALL).submit(X, Y)
    service.answer(0, state=EMPTY)
    with pytest.raises(HeteeError):
        step.result(0)
