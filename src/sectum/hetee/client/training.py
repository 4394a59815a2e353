"""Training in an enclave, from the owner's side: steps, their losses, scores, and checkpoints."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.data_plane.messages import CodeFormat, Pace, Pixels, Work
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.training.exchange import GIVEN
from sectum.hetee.training.job import CHECKPOINT, LOSS, SCORES, SIZE, STATE, TrainingJob, write_job

STEP_MS = 600_000
UPLOAD_BYTES = 512 << 20
"""Weights and checkpoints are sent in parts of at most this size."""


@dataclass(frozen=True)
class Step:
    """One step of training.

    Attributes:
        number: its number, from 1.
        loss: mean loss of the batch, before the parameters were changed.
        state: SHA-256 of the checkpoint after it, where the job asks for it; else None.
        result: the whole answer, with its receipt.
        others: the answers of the other racks that did the step together with this one, each with its receipt.
    """

    number: int
    loss: float
    state: bytes | None
    result: Result
    others: tuple[Result, ...] = ()


class Sends(Protocol):
    """What a training needs of its session."""

    def send_code(self, kind: CodeFormat, content: bytes | memoryview, timeout_s: float) -> LoadedModel:
        """Send a model, weights or a job, and wait until it is loaded."""

    def submit_work(
        self, model: LoadedModel, work: Work, inputs: Mapping[str, Any], *, pixels: Pixels | None, deadline_ms: int,
        pace: Pace | None,
    ) -> Future[Result]:  # fmt: skip
        """Send a batch of a job."""

    def unload(self, model: LoadedModel) -> None:
        """Drop what was loaded."""


def begin(
    session: Sends,
    job: TrainingJob,
    *,
    onnx: bytes | None = None,
    weights: bytes | None = None,
    checkpoint: Checkpoint | None = None,
    timeout_s: float = 600.0,
) -> Training:
    """Send what a job names, then the job; `Session.train` calls this."""
    sent = []

    def parts(content: bytes) -> tuple[bytes, ...]:
        view, digests = memoryview(content), []
        for at in range(0, max(len(view), 1), UPLOAD_BYTES):
            sent.append(session.send_code("safetensors", view[at : at + UPLOAD_BYTES], timeout_s))
            digests.append(sent[-1].digest)
        return tuple(digests)

    changes: dict[str, Any] = {} if job.name else {"name": secrets.token_hex(8)}
    if onnx is not None:
        changes["onnx"] = (session.send_code("onnx", onnx, timeout_s).digest,)
    if weights is not None:
        changes["weights"] = parts(weights)
    if checkpoint is not None:
        changes |= {"checkpoint": parts(checkpoint.content), "step": checkpoint.step}
    values = {name: getattr(job, name) for name in job.__struct_fields__}
    described = TrainingJob(**(values | changes))
    loaded = session.send_code("training", write_job(described), timeout_s)
    for part in sent:  # the job has taken what it needs of them
        session.unload(part)
    return Training(session, described, loaded)


class Training:
    """A job in an enclave. `Session.train` makes it. Thread-safe; steps are numbered in the order of the calls.

    Attributes:
        job: what is trained, and how.
        done: number of steps that were answered.
    """

    def __init__(self, session: Sends, job: TrainingJob, loaded: LoadedModel) -> None:
        self.job = job
        self._session = session
        self._loaded = replace(loaded, inputs=(*loaded.inputs, *GIVEN))
        self._input, self._labels = (slot.name for slot in loaded.inputs)
        self._sending = threading.Lock()  # held while a step is numbered and sent
        self._changed = threading.Condition()  # never held while anything is sent or waited for
        self.done = self._sent = job.step
        self._in_flight = 0
        self._failed = False

    def submit(
        self,
        inputs: Inputs,
        labels: NDArray[Any],
        *,
        rate: float | None = None,
        pixels: Pixels | None = None,
        deadline_ms: int = STEP_MS,
        pace: Pace | None = None,
    ) -> Future[Step]:
        """Send the batch of the next step without waiting for its loss.

        Several steps may be in flight. If one is refused, those behind it are refused as well, and the next call begins
        again with the refused step's number.

        Args:
            inputs: JPEG images or an array, as for `Session.infer`.
            labels: the class of each item, integers.
            rate: learning rate of this step; None for the job's.
            pixels: how pixels are converted to the network's numbers.
            deadline_ms: time limit from the last byte received until the step is done.
            pace: published times to wait for instead of computing, on a ``paced`` accelerator.

        Raises:
            WorkRefused: the inputs do not fit.
            HeteeError: the service or the connection failed. Later errors are raised by the future.
        """
        given = self.batch(inputs, labels)
        with self._sending:
            number = self._number()
            work = Work(kind="train", step=number, rate=() if rate is None else (float(rate),))
            try:
                answer = self._session.submit_work(
                    self._loaded, work, given, pixels=pixels, deadline_ms=deadline_ms, pace=pace
                )
            except BaseException:
                self._ended(number, done=False)
                raise
        step: Future[Step] = Future()
        step.set_running_or_notify_cancel()
        answer.add_done_callback(lambda answered: self._answered(number, answered, step))
        return step

    def step(self, inputs: Inputs, labels: NDArray[Any], **options: Any) -> Step:
        """Send the batch of the next step, and wait for its loss; options are those of `submit`."""
        return self.submit(inputs, labels, **options).result()

    def _number(self) -> int:
        """The number of the next step, which is in flight from now on."""
        with self._changed:
            if self._failed:
                self._changed.wait_for(lambda: not self._in_flight)
                self._sent, self._failed = self.done, False
            self._sent += 1
            self._in_flight += 1
            return self._sent

    def _ended(self, number: int, *, done: bool) -> None:
        """Register that a step is no longer in flight. Called by the thread that receives, which must not wait long."""
        with self._changed:
            self._in_flight -= 1
            if done:
                self.done = max(self.done, number)
            else:
                self._failed = True
            self._changed.notify_all()

    def _answered(self, number: int, answered: Future[Result], step: Future[Step]) -> None:
        error = answered.exception()
        self._ended(number, done=error is None)
        if error is not None:
            step.set_exception(error)
            return
        result = answered.result()
        try:
            loss, state = float(output(result, LOSS)), output(result, STATE).tobytes() or None
        except (HeteeError, TypeError, ValueError):
            step.set_exception(refusal(Refusal.BAD_TENSOR, "the answer to a step has no loss"))
            return
        step.set_result(Step(number, loss, state, result))

    def batch(self, inputs: Inputs, labels: NDArray[Any]) -> dict[str, Any]:
        """The inputs of a step, by name."""
        return {self._input: inputs, self._labels: np.ascontiguousarray(labels, np.int64)}

    def send(
        self, work: Work, inputs: Mapping[str, Any], *, pixels: Pixels | None = None, deadline_ms: int = STEP_MS
    ) -> Future[Result]:
        """Send a batch of the job as it is. Several racks that train one job together exchange gradients with it.

        Raises:
            HeteeError: as `submit`.
        """
        return self._session.submit_work(self._loaded, work, inputs, pixels=pixels, deadline_ms=deadline_ms, pace=None)

    def advance(self, step: int) -> None:
        """Note that the job has done this number of steps, in batches of `send`."""
        with self._changed:
            self.done = self._sent = step

    def scores(
        self, inputs: Inputs, *, pixels: Pixels | None = None, deadline_ms: int = STEP_MS
    ) -> NDArray[np.float32]:
        """The scores of a batch after the last step, array [items, classes]; nothing is trained.

        Raises:
            HeteeError: as `submit`.
        """
        work = Work(kind="score", step=self._settled())
        answer = self._session.submit_work(
            self._loaded, work, {self._input: inputs}, pixels=pixels, deadline_ms=deadline_ms, pace=None
        )
        found: NDArray[np.float32] = output(answer.result(), SCORES)
        return found

    def checkpoint(self, deadline_ms: int = STEP_MS) -> Checkpoint:
        """The state after the last step. Its digest is checked against the worker's, which the receipts sign.

        Raises:
            WorkRefused: ``DIGEST_DIFFERS``, the parts do not make up the state that the worker names.
            HeteeError: as `submit`.
        """
        step = self._settled()
        parts: list[bytes] = []
        results: list[Result] = []
        begin, size, state = 0, 1, b""
        while begin < size:
            work = Work(kind="checkpoint", step=step, begin=begin)
            result = self._session.submit_work(
                self._loaded, work, {}, pixels=None, deadline_ms=deadline_ms, pace=None
            ).result()
            parts.append(output(result, CHECKPOINT).tobytes())
            told = int(output(result, SIZE)), output(result, STATE).tobytes()
            if not parts[-1] or (results and told != (size, state)):
                raise _differs()
            size, state = told
            begin += len(parts[-1])
            results.append(result)
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(content) != size or hashlib.sha256(content).digest() != state:
            raise _differs()
        return Checkpoint(content, step, tuple(results))

    def _settled(self) -> int:
        """The number of the last step, once no step is in flight."""
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight)
            return self.done

    def end(self) -> None:
        """Have the enclave drop the job.

        Raises:
            HeteeError: the connection has ended.
        """
        self._session.unload(self._loaded)


def output(result: Result, name: str) -> NDArray[Any]:
    """An output of an answer.

    Raises:
        MessageRefused: ``BAD_TENSOR``, it has none of this name.
    """
    if name not in result.outputs:
        raise refusal(Refusal.BAD_TENSOR, f"the answer has no output '{name}'")
    return result.outputs[name]


def _differs() -> HeteeError:
    return refusal(Refusal.DIGEST_DIFFERS, "the parts of the checkpoint are not the state that the worker names")
