"""Several racks that train one job together: the client divides each batch, and passes sealed gradients on.

The racks' workers seal their gradients for each other under a key that the client made. The client could read
them, as it could ask for a checkpoint; what carries them between racks could not.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.pool.board import another_may_answer
from sectum.hetee.client.results import Result
from sectum.hetee.client.training import STEP_MS, Step, Training, output
from sectum.hetee.data_plane.messages import Pace, Pixels, Work
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.training.exchange import BLOCKS, GRADIENTS, MEMBERSHIP, Membership, blocks_of_part, shares_of
from sectum.hetee.training.job import LOSS, SIZE, STATE
from sectum.hetee.wire.messages import encode


@dataclass(eq=False)
class _Waiting:
    """A step that waits for its turn, or is being done."""

    inputs: Any
    labels: NDArray[Any]
    rate: tuple[float, ...]
    pixels: Pixels | None
    deadline_ms: int
    answer: Future[Step] = field(default_factory=Future)


class Team:
    """One job on several racks, with the methods of a `Training`. Thread-safe; steps are done one after the other.

    Making it gives each worker the key under which they exchange gradients, in that worker's own channel. So all
    racks have been verified before.

    Args:
        trainings: the same job on each rack, at the same step.

    Attributes:
        job: what is trained, and how.
        done: number of steps that were answered.
        blamed: rank of the rack that the last error came from.
        diverged: why the racks may have different states, so that the job has to go on from a checkpoint; None if they
            have not.

    Raises:
        WorkRefused: ``DIGEST_DIFFERS``, the racks begin with different states.
        HeteeError: a rack was lost.
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        self._trainings = tuple(trainings)
        self.job, self.done, self.blamed = trainings[0].job, trainings[0].done, 0
        self.diverged: HeteeError | None = None
        self._round = 0
        self._changed = threading.Condition()  # never held while a session is used
        self._waiting: deque[_Waiting] = deque()
        self._closed = False
        self._state = self._join()
        threading.Thread(target=self._run, name="sectum-team", daemon=True).start()

    def _join(self) -> bytes:
        key, count = secrets.token_bytes(32), len(self._trainings)
        results = self._all(
            [
                self._send(rank, Work(kind="join", step=self.done), {MEMBERSHIP: _bytes(encode(told))})
                for rank, told in enumerate(Membership(key=key, rank=rank, count=count) for rank in range(count))
            ]
        )
        states = {output(result, STATE).tobytes() for result in results}
        if len(states) > 1:
            raise _differs("the racks begin with different states: their software or their processors differ")
        return states.pop()

    # --- steps ---

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
        """Add a step, as `Training.submit`. If one is refused, those that wait behind it are refused as well.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, the batch cannot be divided among the racks.
            HeteeError: the racks may have different states.
        """
        labels = np.ascontiguousarray(labels, np.int64)
        many = not isinstance(inputs, str | bytes | Mapping) and hasattr(inputs, "__len__")
        items = len(inputs) if many else 1  # type: ignore[arg-type]  # it has a length
        if pace is not None or labels.shape != (items,) or items < len(self._trainings):
            detail = (
                f"a batch of {items} items and labels of shape {list(labels.shape)} for {len(self._trainings)} racks"
            )
            raise refusal(
                Refusal.INPUT_REFUSED, f"{detail}; expected an item for each rack, a label for each item, no pace"
            )
        step = _Waiting(inputs, labels, () if rate is None else (float(rate),), pixels, deadline_ms)
        step.answer.set_running_or_notify_cancel()
        with self._changed:
            if self.diverged is not None:
                raise self.diverged
            if self._closed:
                raise refusal(Refusal.WIPED, "the training was closed")
            self._waiting.append(step)
            self._changed.notify_all()
        return step.answer

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    left, error = list(self._waiting), refusal(Refusal.WIPED, "the training was closed")
                    self._waiting.clear()
                    break
                step = self._waiting[0]
            try:
                done = self._do(step)
            except HeteeError as failed:
                with self._changed:
                    left = list(self._waiting)
                    self._waiting.clear()
                    self._changed.notify_all()
                for each in left:
                    each.answer.set_exception(failed)
            else:
                with self._changed:
                    self._waiting.popleft()
                    self._changed.notify_all()
                step.answer.set_result(done)
        for each in left:
            each.answer.set_exception(error)

    def _do(self, step: _Waiting) -> Step:
        """Do one step on all racks.

        Raises:
            HeteeError: it was not done; if ``diverged`` is set, not on all racks.
        """
        self._round += 1
        count, number = len(self._trainings), self.done + 1
        shares = shares_of(len(step.labels), count)
        ends = list(accumulate(shares, initial=0))
        about: dict[str, Any] = {"step": number, "round": self._round, "shares": shares}
        options = {"pixels": step.pixels, "deadline_ms": step.deadline_ms}
        computed = []
        applied: list[list[Future[Result]]] = []
        begin, blocks = 0, 1
        try:
            for rank, training in enumerate(self._trainings):
                part = slice(ends[rank], ends[rank + 1])
                batch = training.batch(step.inputs[part], step.labels[part])
                computed.append(self._send(rank, Work(kind="gradients", **about), batch, **options))
            while begin < blocks:
                results = self._all(computed)
                sealed = [output(result, GRADIENTS) for result in results]
                blocks = int(output(results[0], SIZE))
                following = begin + blocks_of_part(count)
                if following < blocks:
                    work = Work(kind="gradients", begin=following, **about)
                    computed = [self._send(rank, work, {}, **options) for rank in range(count)]
                work = Work(kind="apply", begin=begin, rate=step.rate, **about)
                applied.append([self._send(rank, work, {BLOCKS: _others(sealed, rank)}) for rank in range(count)])
                begin = following
            for answers in applied:
                results = self._all(answers)
            return self._agreed(number, results)
        except HeteeError as error:
            if begin >= blocks:  # a rack may have done the step
                self.diverged = error
            raise
        except Exception as error:  # without an answer, callers that wait for this step would hang
            failed = refusal(Refusal.INPUT_REFUSED, f"the step could not be divided among the racks: {error!r}"[:500])
            if applied:
                self.diverged = failed
            raise failed from error

    def _agreed(self, number: int, results: list[Result]) -> Step:
        """The step, if all racks have signed the same loss and state."""
        for rank, result in enumerate(results):
            error = result.signed.exception()
            if error is not None:
                self.blamed = rank
                raise error
        told = {(output(result, LOSS).tobytes(), output(result, STATE).tobytes()) for result in results}
        if len(told) > 1:
            raise _differs(f"after step {number} the racks have different losses or states")
        self._state = output(results[0], STATE).tobytes()
        for training in self._trainings:
            training.advance(number)
        self.done = number
        return Step(number, float(output(results[0], LOSS)), self._state or None, results[0], tuple(results[1:]))

    def _send(self, rank: int, work: Work, inputs: Mapping[str, Any], **options: Any) -> Future[Result]:
        try:
            return self._trainings[rank].send(work, inputs, **options)
        except HeteeError as error:
            failed: Future[Result] = Future()
            failed.set_exception(error)
            return failed

    def _all(self, answers: Sequence[Future[Result]]) -> list[Result]:
        """The answers of all racks.

        Raises:
            HeteeError: a rack refused or was lost; the loss of one comes before what others say.
        """
        errors = [(rank, error) for rank, one in enumerate(answers) if isinstance(error := one.exception(), HeteeError)]
        if errors:
            self.blamed, error = next((pair for pair in errors if another_may_answer(pair[1])), errors[0])
            raise error
        return [one.result() for one in answers]

    # --- state ---

    def _settled(self) -> Training:
        """The first rack's training, once no step waits."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)
            if self.diverged is not None:
                raise self.diverged
        self.blamed = 0
        return self._trainings[0]

    def scores(self, inputs: Inputs, **options: Any) -> NDArray[np.float32]:
        """The scores of a batch after the last step, from the first rack."""
        return self._settled().scores(inputs, **options)

    def checkpoint(self, **options: Any) -> Checkpoint:
        """The state after the last step, from the first rack.

        Raises:
            WorkRefused: ``DIGEST_DIFFERS``, it is not the state that all racks had.
            HeteeError: as `Training.checkpoint`.
        """
        found = self._settled().checkpoint(**options)
        if self._state and found.sha256 != self._state:
            raise _differs("the checkpoint is not the state that all racks had after the last step")
        return found

    def end(self) -> None:
        """Have all enclaves drop the job."""
        self._settled()
        for training in self._trainings:
            training.end()

    def close(self) -> None:
        """End its thread; steps that wait are refused. The sessions are ended by others."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _others(sealed: Sequence[NDArray[Any]], rank: int) -> NDArray[Any]:
    return np.concatenate([blocks for other, blocks in enumerate(sealed) if other != rank])


def _bytes(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)


def _differs(why: str) -> HeteeError:
    return refusal(Refusal.DIGEST_DIFFERS, why, "go on from the last checkpoint, on racks of one kind")
