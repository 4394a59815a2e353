"""Training on one rack of a pool, which goes on from the last checkpoint on another when that rack is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.pool.board import MOST_MOVES, another_may_answer, is_final, named
from sectum.hetee.client.pool.connector import Connector
from sectum.hetee.client.pool.lane import RackReport
from sectum.hetee.client.results import ReceiptParts
from sectum.hetee.client.session import Session
from sectum.hetee.client.training import Checkpoint, Step, Training
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal, ServiceRefused, refusal
from sectum.hetee.training.job import TrainingJob

T = TypeVar("T")
_PAUSE_S = 0.5


@dataclass(frozen=True)
class Move:
    """One move to another rack.

    Attributes:
        lost: address of the rack that was lost.
        rack: address of the one that went on.
        step: number of steps of the checkpoint that it went on from.
        why: what happened to the first rack.
    """

    lost: str
    rack: str
    step: int
    why: HeteeError


@dataclass(eq=False)
class _Entry:
    """A step since the last checkpoint, with its batch."""

    inputs: Inputs
    labels: NDArray[Any]
    options: dict[str, Any]
    answer: Future[Step] = field(default_factory=Future)
    answered: bool = False
    losses: int = 0  # times that a rack was lost before it answered this step


class PoolTraining:
    """A job on one rack at a time. `PoolSession.train` makes it. Thread-safe.

    Steps since the last checkpoint are kept with their batches. When the rack is lost, another one gets the checkpoint
    and repeats them; a step that was answered before is not answered again.

    Attributes:
        rack: address of the rack that trains now.
        session: the session with it; None while there is none.
        moves: the moves so far.
        differing: numbers of steps that were repeated with another loss than the one that was answered. Racks with
            equal software and processors give equal losses.
    """

    def __init__(
        self,
        connector: Connector,
        urls: Callable[[], Sequence[str]],
        job: TrainingJob,
        sources: dict[str, Any],
        checkpoint: Checkpoint | None,
        checkpoint_every: int,
    ) -> None:
        self.rack = ""
        self.session: Session | None = None
        self.moves: list[Move] = []
        self.differing: list[int] = []
        self._connector, self._urls, self._job, self._sources = connector, urls, job, sources
        self._checkpoint, self._every = checkpoint, checkpoint_every
        self._reports: dict[str, RackReport] = {}
        self._using = threading.RLock()  # held while the rack is used or exchanged
        self._changed = threading.Condition()  # guards the entries; never held while a session is used
        self._entries: list[_Entry] = []
        self._generation = 0
        self._ended: HeteeError | None = None
        self._training = self._begin(None)

    @property
    def job(self) -> TrainingJob:
        """What is trained, and how."""
        return self._training.job

    @property
    def done(self) -> int:
        """Number of steps that were answered."""
        return self._training.done

    @property
    def racks(self) -> tuple[RackReport, ...]:
        """The racks that were used so far."""
        return tuple(self._reports.values())

    # --- racks ---

    def _begin(self, lost: HeteeError | None) -> Training:
        """Go on from the last checkpoint on the first rack that serves; the one that was lost comes last.

        Raises:
            WorkRefused: the job cannot be trained.
            HeteeError: no rack serves, with the reason of each.
        """
        until_s, before, reasons = time.monotonic() + self._connector.wait_s, self.rack, dict[str, HeteeError]()
        while self._ended is None:
            for url in sorted(self._urls(), key=lambda url: url == before):
                if url in reasons and is_final(reasons[url]):
                    continue
                try:
                    return self._begin_on(url, before, lost)
                except HeteeError as error:
                    if not another_may_answer(error):
                        raise
                    reasons[url] = error
                    self._drop(url, error)
            if time.monotonic() > until_s or lost is None or all(map(is_final, reasons.values())):
                last = list(reasons.values())[-1]
                why = "; ".join(f"{url}: {error.detail}" for url, error in reasons.items())
                raise refusal(last.code, f"no rack of the pool trains: {why}")
            time.sleep(_PAUSE_S)
        raise self._ended

    def _begin_on(self, url: str, before: str, lost: HeteeError | None) -> Training:
        self.session, self.rack = self._connector.connect(url), url
        known = self._reports.get(url, RackReport(url, "serving", 0, 0, None, None))
        self._reports[url] = replace(known, state="serving", trust=self.session.trust, error=None)
        sources = self._sources | ({"weights": None} if self._checkpoint is not None else {})
        training = self.session.train(self._job, checkpoint=self._checkpoint, **sources)
        if lost is not None:
            self.moves.append(Move(before, url, training.done, lost))
        return training

    def _drop(self, url: str, error: HeteeError | None, deadline_ms: int = 0) -> None:
        session, self.session = self.session, None
        known = self._reports.get(url, RackReport(url, "lost", 0, 0, None, None))
        state = known.state if error is None else "refused" if is_final(error) else "lost"
        unproven = 0
        try:
            if session is not None:
                session.close(deadline_ms)
        except CleaningUnproven:
            unproven = 1
            if error is None:
                raise
        except HeteeError:
            if error is None:
                raise
        finally:
            self._reports[url] = replace(known, state=state, error=error, unproven=known.unproven + unproven)

    def _recover(self, generation: int, error: HeteeError) -> None:
        """Exchange the rack, unless that was done already, and repeat the steps since the checkpoint.

        Raises:
            HeteeError: no rack is left.
        """
        with self._using:
            if generation != self._generation:
                return
            self._generation += 1
            self._drop(self.rack, error)
            try:
                self._training = self._begin(error)
            except HeteeError as none_left:
                self._ended = none_left  # answered steps since the checkpoint are lost with it
                self._refuse_all(none_left)
                raise
            with self._changed:
                entries = list(self._entries)
            for entry in entries:
                self._send(entry)

    def _recover_later(self, generation: int, error: HeteeError) -> None:
        """As `_recover`, for the threads of a session, which must not wait."""

        def recover() -> None:
            with suppress(HeteeError):  # the steps that wait have it
                self._recover(generation, error)

        threading.Thread(target=recover, name="sectum-recover", daemon=True).start()

    def _refuse_all(self, error: HeteeError) -> None:
        with self._changed:
            entries, self._entries = self._entries, []
            self._changed.notify_all()
        for entry in entries:
            if not entry.answer.done():
                entry.answer.set_exception(error)

    def _using_rack(self, use: Callable[[Training], T]) -> T:
        """Use the rack; when it is lost, use the next one.

        Raises:
            HeteeError: from ``use``, or no rack is left.
        """
        with self._using:
            while True:
                generation = self._generation
                try:
                    return use(self._training)
                except HeteeError as error:
                    if self._ended is not None or not another_may_answer(error):
                        raise
                    self._recover(generation, error)

    # --- steps ---

    def submit(self, inputs: Inputs, labels: NDArray[Any], **options: Any) -> Future[Step]:
        """Send the batch of the next step without waiting for its loss; arguments are those of `Training.submit`.

        Every ``checkpoint_every`` steps it waits for a checkpoint first.

        Raises:
            WorkRefused: the inputs do not fit.
            HeteeError: no rack is left. Later errors are raised by the future.
        """
        with self._using:
            if self._ended is not None:
                raise self._ended
            if len(self._entries) >= self._every:
                self.checkpoint()
            entry = _Entry(inputs, labels, options)
            entry.answer.set_running_or_notify_cancel()
            with self._changed:
                self._entries.append(entry)
            self._send(entry)
            return entry.answer

    def step(self, inputs: Inputs, labels: NDArray[Any], **options: Any) -> Step:
        """Send the batch of the next step, and wait for its loss."""
        return self.submit(inputs, labels, **options).result()

    def _send(self, entry: _Entry) -> None:
        generation = self._generation
        try:
            answer = self._training.submit(entry.inputs, entry.labels, **entry.options)
        except HeteeError as error:
            self._failed(entry, generation, error, begun=False)
        else:
            answer.add_done_callback(partial(self._came, entry, generation))

    def _came(self, entry: _Entry, generation: int, answer: Future[Step]) -> None:
        # A session's threads call this and what follows, so it must not use the session or wait.
        if (error := answer.exception()) is not None:
            self._failed(entry, generation, error)
            return
        step = answer.result()
        step.result.signed.add_done_callback(partial(self._signed, entry, generation, step))

    def _signed(self, entry: _Entry, generation: int, step: Step, receipt: Future[ReceiptParts]) -> None:
        if (error := receipt.exception()) is not None:
            self._failed(entry, generation, error)
            return
        with self._changed:
            session, repeated = self.session, entry.answered
            if not repeated and (session is None or generation != self._generation):
                return  # the rack was exchanged meanwhile, and the step is repeated
            entry.answered = True
            if not repeated:
                known = self._reports[self.rack]
                self._reports[self.rack] = replace(known, answered=known.answered + 1)
        if not repeated:
            assert session is not None
            entry.answer.set_result(replace(step, result=named(step.result, self.rack, session)))
        elif entry.answer.exception() is None and entry.answer.result().loss != step.loss:
            self.differing.append(step.number)
        with self._changed:
            self._changed.notify_all()

    def _failed(self, entry: _Entry, generation: int, error: BaseException, *, begun: bool = True) -> None:
        assert isinstance(error, HeteeError)
        entry.losses += begun and not entry.answered
        if another_may_answer(error) and entry.losses <= MOST_MOVES and self._ended is None:
            self._recover_later(generation, error)
            return
        if entry.answered:  # the steps after it would begin from another state than the owner knows
            self._ended = error
            self._refuse_all(error)
            return
        with self._changed:
            if entry in self._entries:
                self._entries.remove(entry)
        if not entry.answer.done():
            entry.answer.set_exception(error)
        with self._changed:
            self._changed.notify_all()

    # --- state ---

    def scores(self, inputs: Inputs, **options: Any) -> NDArray[np.float32]:
        """The scores of a batch after the last step, as `Training.scores`."""
        return self._using_rack(lambda training: training.scores(inputs, **options))

    def checkpoint(self, **options: Any) -> Checkpoint:
        """The state after the last step, as `Training.checkpoint`. A rack that is lost later is replaced from here."""
        with self._using:
            while True:
                found = self._using_rack(lambda training: training.checkpoint(**options))
                with self._changed:
                    self._changed.wait_for(self._all_answered, _PAUSE_S)
                    if self._all_answered():
                        self._entries.clear()
                        self._checkpoint = found
                        return found
                session = self.session
                if session is not None and session.failed is not None:  # lost before the last receipts came
                    self._recover(self._generation, session.failed)

    def _all_answered(self) -> bool:
        return all(entry.answer.done() for entry in self._entries)

    def end(self) -> None:
        """Have the enclave drop the job."""
        with self._using, suppress(ServiceRefused):  # it is dropped with its enclave
            self._training.end()

    def close(self, deadline_ms: int = 5000) -> None:
        """End the enclave and the session; `PoolSession.close` calls this.

        Raises:
            HeteeError: as `Session.close`.
        """
        self._ended = refusal(Refusal.WIPED, "the session was closed before the step was answered")
        with self._using:
            self._refuse_all(self._ended)
            self._drop(self.rack, None, deadline_ms)
