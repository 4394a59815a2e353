"""Computes one batch on an accelerator, alone or with others that have nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.worker.accelerators.protocol import RunnableModel
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.engine_state import EngineCallbacks, EngineState
from sectum.hetee.worker.models import CheckedModel
from sectum.hetee.worker.owned_accelerator import OwnedAccelerator
from sectum.hetee.worker.split_batch import SplitRule, run_parts
from sectum.hetee.worker.team import Helper
from sectum.hetee.worker.training.checked_job import CheckedJob


class BatchComputer:
    """Computes batches, and tells what came of each. The accelerators' threads call it.

    Args:
        state: what the engine's threads share.
        callbacks: whom to tell.

    Attributes:
        batches: number of batches that were computed.
        images: number of their items.
        busy_ns: time that accelerators worked on batches.
    """

    def __init__(self, state: EngineState, callbacks: EngineCallbacks) -> None:
        self._state, self._callbacks = state, callbacks
        self._rule = SplitRule()
        self.batches = self.images = self.busy_ns = 0

    def compute(self, owner: OwnedAccelerator, batch: BatchJob) -> None:
        """Compute a batch on an accelerator, unless it has an answer already."""
        begun_ns = time.perf_counter_ns()
        try:
            if not batch.answered:
                outputs = self._run(owner, batch)
                self.batches += 1
                self.images += batch.items
                batch.times_ns["compute"] = time.perf_counter_ns() - begun_ns
                self._callbacks.computed(batch, outputs)
        except HeteeError as error:
            batch.withdraw()
            if error.code is Refusal.CANCELLED and self._left(owner, batch):
                return
            self._callbacks.refused(batch, error)
        except MemoryError:
            batch.withdraw()
            self._callbacks.refused(
                batch, refusal(Refusal.COMPUTE_FAILED, "computing the batch needs more memory than the worker may use")
            )
        self.busy_ns += time.perf_counter_ns() - begun_ns
        self._callbacks.released(batch)

    def _run(self, owner: OwnedAccelerator, batch: BatchJob) -> dict[str, NDArray[Any]]:
        model, preparation = batch.model, batch.preparation
        assert model is not None
        assert preparation is not None
        if model.sha256 not in self._state.models:
            raise refusal(Refusal.NO_MODEL, "the model was unloaded before the batch was computed")
        if batch.pace is not None and not owner.accelerator.paced:
            raise refusal(Refusal.INPUT_REFUSED, f"{owner.accelerator.name} computes: send the batch without a pace")
        batch.accelerator = owner.accelerator.name
        if isinstance(model, CheckedJob):
            return self._train(owner, batch, model, preparation.arrays)
        return self._infer(owner, batch, model, preparation.arrays)

    def _infer(
        self, owner: OwnedAccelerator, batch: BatchJob, model: CheckedModel, arrays: dict[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Run a model. If the client asked for it, accelerators that do nothing compute a part of the batch each."""
        if model.sha256 not in owner.loaded:
            owner.load(model)
            with self._state.changed:
                self._state.changed.notify_all()  # others load it, too
        runnable, helpers = owner.load(model), list[Helper]()
        if batch.message.split:
            self._rule.check(model, arrays)

            def loaded(one: OwnedAccelerator) -> Callable[[], RunnableModel] | None:
                return partial(one.load, model) if model.sha256 in one.loaded else None

            helpers = self._enlist(owner, batch, batch.items - 1, loaded)
        try:
            if helpers:
                outputs = run_parts(runnable, helpers, arrays, batch.outputs, batch.stop, batch.pace)
            else:
                outputs = runnable.run(arrays, batch.outputs, batch.stop, batch.pace)
        finally:
            _dismiss(helpers)
        return dict(zip(batch.outputs, outputs, strict=True))

    def _train(
        self, owner: OwnedAccelerator, batch: BatchJob, job: CheckedJob, arrays: dict[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Do a step of a job, or what else its batch asks for. The accelerators that do nothing share a step."""
        runnable, work = owner.train(job), batch.message.work[0]
        batch.stop.late = lambda: time.monotonic() > owner.leaves_s
        most = batch.items - 1 if work.kind in ("train", "gradients") and job.splits else 0
        helpers = self._enlist(owner, batch, most, lambda one: partial(one.join, job))
        try:
            return runnable.run(work, arrays, batch.stop, batch.commit, batch.pace, helpers)
        finally:
            _dismiss(helpers)

    def _enlist(
        self,
        owner: OwnedAccelerator,
        batch: BatchJob,
        most: int,
        copy: Callable[[OwnedAccelerator], Callable[[], Any] | None],
    ) -> list[Helper]:
        """Let other accelerators help with a batch, whose receipt names all of them."""
        helpers = self._state.enlist(owner, most, copy)
        batch.accelerator = ",".join(sorted([owner.accelerator.name, *(helper.name for helper in helpers)]))
        return helpers

    def _left(self, owner: OwnedAccelerator, batch: BatchJob) -> bool:
        """Put a step that was stopped because its accelerator is given back before all others, to be done elsewhere."""
        with self._state.changed:
            if owner.returned is None or batch.stop.unwanted:
                return False
            self._state.work.appendleft(batch)
            return True


def _dismiss(helpers: Sequence[Helper]) -> None:
    for helper in helpers:
        helper.dismiss()
