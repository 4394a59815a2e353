"""A queue of models and batches, and the accelerators that work on it, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

from sectum.hetee.errors import HeteeError
from sectum.hetee.worker.accelerators.protocol import Accelerator, RunnableJob
from sectum.hetee.worker.batch_computer import BatchComputer
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.engine_state import EngineCallbacks, EngineState
from sectum.hetee.worker.load_job import LoadJob
from sectum.hetee.worker.model_loader import ModelLoader
from sectum.hetee.worker.models import DEFAULT_LIMITS, CheckedModel, ModelLimits
from sectum.hetee.worker.owned_accelerator import OwnedAccelerator


class ComputeEngine:
    """Computes batches in their order, on the accelerators that it owns at the moment.

    A model is loaded on each of them before it is said to be loaded, and on one that comes later before that computes
    batches of it. If none has it any more, because all were given back, the first batch loads it.

    Args:
        outcomes: functions that the accelerators' threads call.
        limits: how many models may be loaded.
        longest_step_s: time that a step of training may still take on an accelerator that is to be given back. One that
            takes longer is left, and done from its beginning where the job goes on.
    """

    def __init__(
        self, outcomes: EngineCallbacks, limits: ModelLimits = DEFAULT_LIMITS, longest_step_s: float = 30.0
    ) -> None:
        self._longest_step_s = longest_step_s
        self._state = EngineState()
        self._loader = ModelLoader(self._state, outcomes, limits)
        self._computer = BatchComputer(self._state, outcomes)

    @property
    def batches(self) -> int:
        """Number of batches that were computed."""
        return self._computer.batches

    @property
    def images(self) -> int:
        """Number of items of these batches."""
        return self._computer.images

    @property
    def busy_ns(self) -> int:
        """Time that accelerators worked on batches."""
        return self._computer.busy_ns

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Names of the accelerators that it owns."""
        return tuple(self._state.owned)

    def model(self, sha256: bytes) -> CheckedModel | None:
        """The loaded model with this SHA-256; None if there is none."""
        return self._state.models.get(sha256)

    def refuse_model(self, sha256: bytes, n_bytes: int) -> HeteeError | None:
        """Why a model of this size may not be loaded beside those that are; None if it may."""
        return self._loader.refusal(sha256, n_bytes)

    def unload(self, sha256: bytes) -> None:
        """Drop a model, if there is one. Batches of it that wait are refused."""
        state = self._state
        with state.changed:
            state.models.pop(sha256, None)
            state.homes.pop(sha256, None)
            for owner in state.owned.values():
                if not owner.busy:  # a thread that computes drops it when it has finished
                    owner.keep(state.models)
        self._loader.end()

    def submit(self, work: BatchJob | LoadJob, *, here: bool = False) -> None:
        """Add a job at the end of the queue.

        With ``here`` and an idle accelerator, the calling thread computes and answers the batch itself, because waking
        another thread takes longer.
        """
        state = self._state
        with state.changed:
            owner = None
            if here and not state.work:
                owner = next((one for one in state.owned.values() if not one.busy and self._may(one, work)), None)
            if owner is None:
                state.work.append(work)
                state.changed.notify_all()
                return
            owner.busy = True
        assert isinstance(work, BatchJob)
        self._computer.compute(owner, work)
        self._rest(owner)

    def discard(self, batch: BatchJob) -> bool:
        """Remove a batch from the queue; returns False if it is not there. The caller releases its memory."""
        state = self._state
        with state.changed:
            if batch not in state.work:
                return False
            state.work.remove(batch)
            return True

    def at_once(self) -> AbstractContextManager[Any]:
        """In a ``with`` statement: no batch begins between the first and the last that is granted or revoked."""
        return self._state.changed

    def grant(self, accelerator: Accelerator) -> None:
        """Own one more accelerator."""
        owner = OwnedAccelerator(accelerator)
        with self._state.changed:
            self._state.owned[accelerator.name] = owner
        owner.thread = threading.Thread(target=self._serve, args=(owner,), name=accelerator.name, daemon=True)
        owner.thread.start()

    def revoke(self, name: str, returned: Callable[[str, str], None]) -> None:
        """Give an accelerator back once its current batch is computed.

        Args:
            name: name of the accelerator; one that is not owned is returned at once.
            returned: called with the name, and with how it was cleaned.
        """
        with self._state.changed:
            owner = self._state.owned.pop(name, None)
            if owner is not None:
                owner.returned, owner.leaves_s = returned, time.monotonic() + self._longest_step_s
                self._state.changed.notify_all()
        self._loader.end()
        if owner is None:
            returned(name, "not owned")

    def close(self, seconds: float, returned: Callable[[str, str], None]) -> None:
        """Give all accelerators back, and wait for at most ``seconds`` until that is done."""
        end_s = time.monotonic() + seconds
        owners = list(self._state.owned.values())
        for owner in owners:
            self.revoke(owner.accelerator.name, returned)
        for owner in owners:
            owner.thread.join(max(0.0, end_s - time.monotonic()))

    def _serve(self, owner: OwnedAccelerator) -> None:
        while True:
            with self._state.changed:
                work = None
                while owner.helper is None and (
                    owner.busy or (owner.returned is None and (work := self._next(owner)) is None)
                ):
                    self._state.changed.wait()
                if work is None and owner.helper is None:
                    break
                owner.busy = True
                helper, owner.helper = owner.helper, None
            if helper is not None:
                helper.serve()
                self._rest(owner)
                helper.free.set()
                continue
            assert work is not None
            if isinstance(work, LoadJob):
                self._loader.load(owner, work)
            elif isinstance(work, CheckedModel):
                self._loader.load_too(owner, work)
            else:
                self._computer.compute(owner, work)
            del work  # do not keep the batch's memory until the next job comes
            self._rest(owner)
        self._leave(owner)
        assert owner.returned is not None
        owner.returned(owner.accelerator.name, owner.accelerator.reset())

    def _next(self, owner: OwnedAccelerator) -> BatchJob | LoadJob | CheckedModel | None:
        """What this accelerator is to do next: load what is being loaded, a job of the queue, load what others have."""
        state = self._state
        if loading := self._loader.due(owner):
            return loading
        found = next((work for work in state.work if self._may(owner, work)), None)
        if found is not None:
            state.work.remove(found)
            return found
        return next((model for model in state.models.values() if owner.lacks(model) and state.has(model)), None)

    def _may(self, owner: OwnedAccelerator, work: BatchJob | LoadJob) -> bool:
        """Whether this accelerator may do it.

        The first that asks for a training job gets it and its batches; other batches are for those that have the model.
        """
        homes = self._state.homes
        if isinstance(work, LoadJob):
            return work.format != "training" or homes.setdefault(work.sha256, owner) is owner
        if work.message.work:
            return homes.setdefault(work.message.model, owner) is owner
        return work.model is None or work.message.model in owner.loaded or not self._state.has(work.model)

    def _leave(self, owner: OwnedAccelerator) -> None:
        """Take training jobs off an accelerator that is given back; their state stays with this worker."""
        state = self._state
        for sha256, home in list(state.homes.items()):
            if home is owner and sha256 in owner.loaded:
                cast(RunnableJob, owner.loaded.pop(sha256)).park()
        owner.loaded.clear()
        owner.copies.clear()
        with state.changed:
            state.homes = {sha256: home for sha256, home in state.homes.items() if home is not owner}
            state.changed.notify_all()

    def _rest(self, owner: OwnedAccelerator) -> None:
        with self._state.changed:
            owner.busy = False
            owner.keep(self._state.models)
            if self._state.work or owner.returned is not None:
                self._state.changed.notify_all()
