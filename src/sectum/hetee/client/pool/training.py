"""Training on racks of a pool, which goes on from the last checkpoint on others when one is lost."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.pool.board import MOST_MOVES, another_may_answer, named
from sectum.hetee.client.pool.connector import Connector
from sectum.hetee.client.pool.kept_step import KeptStep
from sectum.hetee.client.pool.lane import RackReport
from sectum.hetee.client.pool.team import Team
from sectum.hetee.client.pool.training_racks import Move, TrainingRacks
from sectum.hetee.client.results import ReceiptParts
from sectum.hetee.client.session import Session
from sectum.hetee.client.training import Step, Training
from sectum.hetee.errors import HeteeError, Refusal, ServiceRefused, refusal
from sectum.hetee.training.exchange import MOST_MEMBERS
from sectum.hetee.training.job import TrainingJob

T = TypeVar("T")
_RECEIPTS_S = 0.5


class PoolTraining:
    """A job on one rack of a pool, or on several together. `PoolSession.train` makes it. Thread-safe.

    Steps since the last checkpoint are kept with their batches. When a rack is lost, others get the checkpoint
    and repeat them; a step that was answered before is not answered again.

    Attributes:
        differing: numbers of steps that were repeated with another loss than the one that was answered. Equally many
            racks with equal software and processors give equal losses.
    """

    def __init__(
        self,
        connector: Connector,
        urls: Callable[[], Sequence[str]],
        job: TrainingJob,
        sources: dict[str, Any],
        checkpoint: Checkpoint | None,
        checkpoint_every: int,
        racks: int = 1,
    ) -> None:
        if not 1 <= racks <= MOST_MEMBERS:
            detail = f"{racks} racks for one job, expected 1 to {MOST_MEMBERS}"
            raise refusal(Refusal.NO_ACCELERATOR, detail)
        if racks > 1:  # all racks have the same job, and say after each step which state they have
            changes = {"name": job.name or secrets.token_hex(8), "state_every": job.state_every or 1}
            job = msgspec.structs.replace(job, **changes)
        self.differing: list[int] = []
        self._job, self._sources = job, sources
        self._checkpoint, self._every = checkpoint, checkpoint_every
        self._racks = TrainingRacks(connector, urls, racks)
        self._using = threading.RLock()  # held while racks are used or exchanged
        self._changed = threading.Condition()  # guards the entries; never held while a session is used
        self._entries: list[KeptStep] = []
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
        return tuple(self._racks.reports.values())

    @property
    def moves(self) -> list[Move]:
        """The moves so far."""
        return self._racks.moves

    @property
    def members(self) -> tuple[tuple[str, Session], ...]:
        """Address of, and session with, each rack that trains now."""
        return tuple(self._racks.members.items())

    @property
    def rack(self) -> str:
        """Address of the rack that trains now; of the first one if there are several; empty if there is none."""
        return next((url for url, _ in self.members), "")

    # --- racks ---

    def _begin(self, why: HeteeError | None) -> Training | Team:
        """Go on from the last checkpoint; errors are those of `TrainingRacks.begin`."""
        return self._racks.begin(self._begin_on, self._together, why, lambda: self._ended)

    def _begin_on(self, session: Session) -> Training:
        sources = self._sources | ({"weights": None} if self._checkpoint is not None else {})
        return session.train(self._job, checkpoint=self._checkpoint, **sources)

    @staticmethod
    def _together(trainings: list[Training]) -> Training | Team:
        return trainings[0] if len(trainings) == 1 else Team(trainings)

    def _recover(self, generation: int, error: HeteeError) -> None:
        """Exchange the racks, unless that was done already, and repeat the steps since the checkpoint.

        Raises:
            HeteeError: no rack is left.
        """
        with self._using:
            if generation != self._generation:
                return
            self._generation += 1
            blamed = 0
            if isinstance(self._training, Team):
                blamed = self._training.blamed
                self._training.close()
            self._racks.lose(blamed, error)
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

    def _using_racks(self, use: Callable[[Training | Team], T]) -> T:
        """Use the racks; when one is lost, use the next ones.

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
            entry = KeptStep(inputs, labels, options)
            entry.answer.set_running_or_notify_cancel()
            with self._changed:
                self._entries.append(entry)
            self._send(entry)
            return entry.answer

    def step(self, inputs: Inputs, labels: NDArray[Any], **options: Any) -> Step:
        """Send the batch of the next step, and wait for its loss."""
        return self.submit(inputs, labels, **options).result()

    def _send(self, entry: KeptStep) -> None:
        generation = self._generation
        try:
            answer = self._training.submit(entry.inputs, entry.labels, **entry.options)
        except HeteeError as error:
            self._failed(entry, generation, error, begun=False)
        else:
            answer.add_done_callback(partial(self._came, entry, generation))

    def _came(self, entry: KeptStep, generation: int, answer: Future[Step]) -> None:
        # A session's threads call this and what follows, so it must not use the session or wait.
        if (error := answer.exception()) is not None:
            self._failed(entry, generation, error)
            return
        step = answer.result()
        step.result.signed.add_done_callback(partial(self._signed, entry, generation, step))

    def _signed(self, entry: KeptStep, generation: int, step: Step, receipt: Future[ReceiptParts]) -> None:
        if (error := receipt.exception()) is not None:
            self._failed(entry, generation, error)
            return
        with self._changed:
            members, repeated = self.members, entry.answered
            if not repeated and (not members or generation != self._generation):
                return  # the racks were exchanged meanwhile, and the step is repeated
            entry.answered = True
            if not repeated:
                self._racks.answered()
        if not repeated:
            parts = [named(part, *member) for part, member in zip((step.result, *step.others), members, strict=True)]
            entry.answer.set_result(replace(step, result=parts[0], others=tuple(parts[1:])))
        elif entry.answer.exception() is None and entry.answer.result().loss != step.loss:
            self.differing.append(step.number)
        with self._changed:
            self._changed.notify_all()

    def _failed(self, entry: KeptStep, generation: int, error: BaseException, *, begun: bool = True) -> None:
        assert isinstance(error, HeteeError)
        entry.losses += begun and not entry.answered
        if another_may_answer(error) and entry.losses <= MOST_MOVES and self._ended is None:
            self._recover_later(generation, error)
            return
        diverged = isinstance(self._training, Team) and self._training.diverged is not None
        if entry.answered or diverged:  # the steps after it would begin from another state than the owner knows
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
        return self._using_racks(lambda training: training.scores(inputs, **options))

    def checkpoint(self, **options: Any) -> Checkpoint:
        """The state after the last step, as `Training.checkpoint`. A rack that is lost later is replaced from here."""
        with self._using:
            while True:
                found = self._using_racks(lambda training: training.checkpoint(**options))
                with self._changed:
                    self._changed.wait_for(self._all_answered, _RECEIPTS_S)
                    if self._all_answered():
                        self._entries.clear()
                        self._checkpoint = found
                        return found
                failed = [session.failed for _, session in self.members if session.failed is not None]
                if failed:  # lost before the last receipts came
                    self._recover(self._generation, failed[0])

    def _all_answered(self) -> bool:
        return all(entry.answer.done() for entry in self._entries)

    def end(self) -> None:
        """Have the enclaves drop the job."""
        with self._using, suppress(ServiceRefused):  # it is dropped with its enclave
            self._training.end()

    def close(self, deadline_ms: int = 5000) -> None:
        """End the enclaves and the sessions; `PoolSession.close` calls this.

        Raises:
            HeteeError: as `Session.close`.
        """
        self._ended = refusal(Refusal.WIPED, "the session was closed before the step was answered")
        with self._using:
            self._refuse_all(self._ended)
            if isinstance(self._training, Team):
                self._training.close()
            self._racks.close(deadline_ms)
