"""A queue of models and batches, and the accelerators that work on it, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Container
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, cast

from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import CodeFormat
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.worker.accelerators.protocol import Accelerator, JobCopy, RunnableJob, RunnableModel
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.models import DEFAULT_LIMITS, CheckedModel, ModelLimits, inspect
from sectum.hetee.worker.team import Helper
from sectum.hetee.worker.training.checked_job import CheckedJob, CheckedWeights, inspect_job, inspect_weights


@dataclass(eq=False)
class LoadJob:
    """A model that was received and is to be loaded.

    Attributes:
        stream: stream of its CODE.
        content: the ONNX file.
        sha256: SHA-256 of ``content``, as the client named it.
        begun_ns: when its last byte arrived, on the clock of `time.perf_counter_ns`.
        format: what it is, as its CODE says.
    """

    stream: int
    content: bytes
    sha256: bytes
    begun_ns: int
    format: CodeFormat = "onnx"


@dataclass(frozen=True)
class EngineCallbacks:
    """Functions that the accelerators' threads call.

    Attributes:
        loaded: a model is loaded, after this number of nanoseconds.
        load_refused: a model cannot be loaded.
        computed: a batch has these outputs.
        refused: a batch cannot be computed.
        released: nothing needs the batch's memory any more; called once for each batch, after the others.
    """

    loaded: Callable[[LoadJob, CheckedModel, int], None]
    load_refused: Callable[[LoadJob, HeteeError], None]
    computed: Callable[[BatchJob, dict[str, NDArray[Any]]], None]
    refused: Callable[[BatchJob, HeteeError], None]
    released: Callable[[BatchJob], None]


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
        self._callbacks, self._limits, self._longest_step_s = outcomes, limits, longest_step_s
        self._changed = threading.Condition()
        self._work: deque[BatchJob | LoadJob] = deque()
        self._owned: dict[str, _OwnedAccelerator] = {}
        self._models: dict[bytes, CheckedModel] = {}
        self._homes: dict[bytes, _OwnedAccelerator] = {}  # where each training job is
        self._loading: tuple[LoadJob, CheckedModel] | None = None  # what is loaded on one, and not yet on all
        self.batches = self.images = self.busy_ns = 0

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Names of the accelerators that it owns."""
        return tuple(self._owned)

    def model(self, sha256: bytes) -> CheckedModel | None:
        """The loaded model with this SHA-256; None if there is none."""
        return self._models.get(sha256)

    def refuse_model(self, sha256: bytes, n_bytes: int) -> HeteeError | None:
        """Why a model of this size may not be loaded beside those that are; None if it may."""
        others = {digest: model for digest, model in dict(self._models).items() if digest != sha256}
        return self._limits.refusal(len(others), sum(len(model.content) for model in others.values()), n_bytes)

    def unload(self, sha256: bytes) -> None:
        """Drop a model, if there is one. Batches of it that wait are refused."""
        with self._changed:
            self._models.pop(sha256, None)
            self._homes.pop(sha256, None)
            for owner in self._owned.values():
                if not owner.busy:  # a thread that computes drops it when it has finished
                    owner.keep(self._models)
        self._end_loading()

    def submit(self, work: BatchJob | LoadJob, *, here: bool = False) -> None:
        """Add a job at the end of the queue.

        With ``here`` and an idle accelerator, the calling thread computes and answers the batch itself, because waking
        another thread takes longer.
        """
        with self._changed:
            owner = None
            if here and not self._work:
                owner = next((one for one in self._owned.values() if not one.busy and self._may(one, work)), None)
            if owner is None:
                self._work.append(work)
                self._changed.notify_all()
                return
            owner.busy = True
        assert isinstance(work, BatchJob)
        self._compute(owner, work)
        self._rest(owner)

    def discard(self, batch: BatchJob) -> bool:
        """Remove a batch from the queue; returns False if it is not there. The caller releases its memory."""
        with self._changed:
            if batch not in self._work:
                return False
            self._work.remove(batch)
            return True

    def at_once(self) -> AbstractContextManager[Any]:
        """In a ``with`` statement: no batch begins between the first and the last that is granted or revoked."""
        return self._changed

    def grant(self, accelerator: Accelerator) -> None:
        """Own one more accelerator."""
        owner = _OwnedAccelerator(accelerator)
        with self._changed:
            self._owned[accelerator.name] = owner
        owner.thread = threading.Thread(target=self._serve, args=(owner,), name=accelerator.name, daemon=True)
        owner.thread.start()

    def revoke(self, name: str, returned: Callable[[str, str], None]) -> None:
        """Give an accelerator back once its current batch is computed.

        Args:
            name: name of the accelerator; one that is not owned is returned at once.
            returned: called with the name, and with how it was cleaned.
        """
        with self._changed:
            owner = self._owned.pop(name, None)
            if owner is not None:
                owner.returned, owner.leaves_s = returned, time.monotonic() + self._longest_step_s
                self._changed.notify_all()
        self._end_loading()
        if owner is None:
            returned(name, "not owned")

    def close(self, seconds: float, returned: Callable[[str, str], None]) -> None:
        """Give all accelerators back, and wait for at most ``seconds`` until that is done."""
        end_s = time.monotonic() + seconds
        owners = list(self._owned.values())
        for owner in owners:
            self.revoke(owner.accelerator.name, returned)
        for owner in owners:
            owner.thread.join(max(0.0, end_s - time.monotonic()))

    def _serve(self, owner: _OwnedAccelerator) -> None:
        while True:
            with self._changed:
                work = None
                while owner.helper is None and (
                    owner.busy or (owner.returned is None and (work := self._next(owner)) is None)
                ):
                    self._changed.wait()
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
                self._load(owner, work)
            elif isinstance(work, CheckedModel):
                self._load_too(owner, work)
            else:
                self._compute(owner, work)
            del work  # do not keep the batch's memory until the next job comes
            self._rest(owner)
        self._leave(owner)
        assert owner.returned is not None
        owner.returned(owner.accelerator.name, owner.accelerator.reset())

    def _next(self, owner: _OwnedAccelerator) -> BatchJob | LoadJob | CheckedModel | None:
        """What this accelerator is to do next: load what is being loaded, a job of the queue, load what others have."""
        if self._loading is not None and owner.lacks(self._loading[1]):
            return self._loading[1]
        found = next((work for work in self._work if self._may(owner, work)), None)
        if found is not None:
            self._work.remove(found)
            return found
        return next((model for model in self._models.values() if owner.lacks(model) and self._on_others(model)), None)

    def _may(self, owner: _OwnedAccelerator, work: BatchJob | LoadJob) -> bool:
        """Whether this accelerator may do it.

        The first that asks for a training job gets it and its batches; other batches are for those that have the model.
        """
        if isinstance(work, LoadJob):
            return work.format != "training" or self._homes.setdefault(work.sha256, owner) is owner
        if work.message.work:
            return self._homes.setdefault(work.message.model, owner) is owner
        return work.model is None or work.message.model in owner.loaded or not self._on_others(work.model)

    def _on_others(self, model: CheckedModel) -> bool:
        return any(model.sha256 in one.loaded for one in self._owned.values())

    def _leave(self, owner: _OwnedAccelerator) -> None:
        """Take training jobs off an accelerator that is given back; their state stays with this worker."""
        for sha256, home in list(self._homes.items()):
            if home is owner and sha256 in owner.loaded:
                cast(RunnableJob, owner.loaded.pop(sha256)).park()
        owner.loaded.clear()
        owner.copies.clear()
        with self._changed:
            self._homes = {sha256: home for sha256, home in self._homes.items() if home is not owner}
            self._changed.notify_all()

    def _rest(self, owner: _OwnedAccelerator) -> None:
        with self._changed:
            owner.busy = False
            owner.keep(self._models)
            if self._work or owner.returned is not None:
                self._changed.notify_all()

    def _load(self, owner: _OwnedAccelerator, load: LoadJob) -> None:
        if known := self._models.get(load.sha256):  # it was sent again
            self._callbacks.loaded(load, known, time.perf_counter_ns() - load.begun_ns)
            return
        try:
            if error := self.refuse_model(load.sha256, len(load.content)):
                raise error
            model = self._inspect(load)
            owner.put(model)
        except HeteeError as error:
            self._callbacks.load_refused(load, error)
        except MemoryError:
            self._callbacks.load_refused(
                load, refusal(Refusal.MODEL_REFUSED, "loading the model needs more memory than the worker may use")
            )
        else:
            with self._changed:
                self._models[load.sha256], self._loading = model, (load, model)
                self._changed.notify_all()
            self._end_loading()

    def _load_too(self, owner: _OwnedAccelerator, model: CheckedModel) -> None:
        """Load a model that another accelerator has; without it, this one gets no batches of it."""
        try:
            owner.put(model)
        except (HeteeError, MemoryError):
            owner.unable.add(model.sha256)
        self._end_loading()

    def _end_loading(self) -> None:
        """Answer a CODE when its model is on every accelerator, or when one of them cannot have it."""
        with self._changed:
            if self._loading is None:
                return
            load, model = self._loading
            if model.sha256 in self._models and any(one.lacks(model) for one in self._owned.values()):
                return
            self._loading = None
            unable = [one.accelerator.name for one in self._owned.values() if model.sha256 in one.unable]
            if unable:
                self._models.pop(model.sha256, None)
        if unable:
            why = f"{unable[0]} cannot load it beside the others: send a smaller model, or ask for fewer accelerators"
            self._callbacks.load_refused(load, refusal(Refusal.MODEL_REFUSED, why))
        else:
            self._callbacks.loaded(load, model, time.perf_counter_ns() - load.begun_ns)

    def _inspect(self, load: LoadJob) -> CheckedModel:
        match load.format:
            case "training":
                return inspect_job(load.content, load.sha256, self._models)
            case "safetensors":
                return inspect_weights(load.content, load.sha256)
        return inspect(load.content)

    def _compute(self, owner: _OwnedAccelerator, batch: BatchJob) -> None:
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

    def _run(self, owner: _OwnedAccelerator, batch: BatchJob) -> dict[str, NDArray[Any]]:
        model, preparation = batch.model, batch.preparation
        assert model is not None
        assert preparation is not None
        if model.sha256 not in self._models:
            raise refusal(Refusal.NO_MODEL, "the model was unloaded before the batch was computed")
        if batch.pace is not None and not owner.accelerator.paced:
            raise refusal(Refusal.INPUT_REFUSED, f"{owner.accelerator.name} computes: send the batch without a pace")
        batch.accelerator = owner.accelerator.name
        if isinstance(model, CheckedJob):
            return self._train(owner, batch, model, preparation.arrays)
        if model.sha256 not in owner.loaded:
            owner.load(model)
            with self._changed:
                self._changed.notify_all()  # others load it, too
        outputs = owner.load(model).run(preparation.arrays, batch.outputs, batch.stop, batch.pace)
        return dict(zip(batch.outputs, outputs, strict=True))

    def _train(
        self, owner: _OwnedAccelerator, batch: BatchJob, job: CheckedJob, arrays: dict[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Do a step of a job, or what else its batch asks for. The accelerators that do nothing share a step."""
        runnable, work = owner.train(job), batch.message.work[0]
        batch.stop.late = lambda: time.monotonic() > owner.leaves_s
        helpers = self._enlist(owner, job, batch.items - 1) if work.kind == "train" and job.splits else []
        batch.accelerator = ",".join(sorted([owner.accelerator.name, *(helper.name for helper in helpers)]))
        try:
            return runnable.run(work, arrays, batch.stop, batch.commit, batch.pace, helpers)
        finally:
            for helper in helpers:
                helper.dismiss()

    def _enlist(self, owner: _OwnedAccelerator, job: CheckedJob, most: int) -> list[Helper]:
        """Let up to ``most`` other accelerators compute parts of a step: those of the same kind that do nothing."""
        with self._changed:
            idle = [
                one for one in self._owned.values() if not one.busy and one.accelerator.kind == owner.accelerator.kind
            ]
            helpers = []
            for one in idle[: max(most, 0)]:
                one.busy, one.helper = True, Helper(one.accelerator.name, partial(one.join, job))
                helpers.append(one.helper)
            if helpers:
                self._changed.notify_all()
            return helpers

    def _left(self, owner: _OwnedAccelerator, batch: BatchJob) -> bool:
        """Put a step that was stopped because its accelerator is given back before all others, to be done elsewhere."""
        with self._changed:
            if owner.returned is None or batch.stop.unwanted:
                return False
            self._work.appendleft(batch)
            return True


class _OwnedAccelerator:
    """An accelerator, the models on it, and its thread."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.loaded: dict[bytes, RunnableModel | RunnableJob] = {}
        self.unable: set[bytes] = set()  # models that others have and that it could not load
        self.copies: dict[bytes, JobCopy] = {}  # of jobs that are on another accelerator
        self.busy = False  # whether a thread computes on it; this and what follows are guarded by the engine's lock
        self.helper: Helper | None = None  # what it is to do for another accelerator
        self.returned: Callable[[str, str], None] | None = None
        self.leaves_s = inf  # when a step of training is stopped
        self.thread: threading.Thread

    def put(self, model: CheckedModel) -> None:
        """Load a model, begin a training job, or go on with it; weights are loaded with the job that names them."""
        if isinstance(model, CheckedJob):
            self.train(model)
        elif not isinstance(model, CheckedWeights):
            self.load(model)

    def lacks(self, model: CheckedModel) -> bool:
        """Whether it is yet to load a model that each accelerator loads."""
        everywhere = not isinstance(model, CheckedJob | CheckedWeights)
        return everywhere and model.sha256 not in self.loaded and model.sha256 not in self.unable

    def load(self, model: CheckedModel) -> RunnableModel:
        found = self.loaded.get(model.sha256)
        if found is None:
            found = self.loaded[model.sha256] = self.accelerator.load(model)
        return cast(RunnableModel, found)

    def train(self, job: CheckedJob) -> RunnableJob:
        found = self.loaded.get(job.sha256)
        if found is None:
            found = self.loaded[job.sha256] = self.accelerator.train(job)
        return cast(RunnableJob, found)

    def join(self, job: CheckedJob) -> JobCopy:
        found = self.copies.get(job.sha256)
        if found is None:
            found = self.copies[job.sha256] = self.accelerator.join(job)
        return found

    def keep(self, models: Container[bytes]) -> None:
        """Drop all models but these."""
        self.unable = {sha256 for sha256 in self.unable if sha256 in models}
        for kept in (self.loaded, self.copies):
            for sha256 in [sha256 for sha256 in kept if sha256 not in models]:
                kept.pop(sha256).unload()
