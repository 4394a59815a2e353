"""One accelerator that a worker owns: what is loaded on it, and what it does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from math import inf
from typing import cast

from sectum.hetee.worker.accelerators.protocol import Accelerator, JobCopy, RunnableJob, RunnableModel
from sectum.hetee.worker.models import CheckedModel
from sectum.hetee.worker.team import Helper
from sectum.hetee.worker.training.checked_job import CheckedJob, CheckedWeights


class OwnedAccelerator:
    """An accelerator, the models on it, and its thread.

    Attributes:
        accelerator: what computes.
        loaded: models and training jobs that are on it, by SHA-256.
        unable: models that others have and that it could not load.
        copies: networks of training jobs that are on another accelerator.
        busy: whether a thread computes on it; this and what follows are guarded by the engine's lock.
        helper: what it is to do for another accelerator.
        returned: called when it has left; None while it is owned.
        leaves_s: when a step of training is stopped, on the monotonic clock.
        thread: its thread.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.loaded: dict[bytes, RunnableModel | RunnableJob] = {}
        self.unable: set[bytes] = set()
        self.copies: dict[bytes, JobCopy] = {}
        self.busy = False
        self.helper: Helper | None = None
        self.returned: Callable[[str, str], None] | None = None
        self.leaves_s = inf
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
        """The model on this accelerator, loaded now if it was not before."""
        found = self.loaded.get(model.sha256)
        if found is None:
            found = self.loaded[model.sha256] = self.accelerator.load(model)
        return cast(RunnableModel, found)

    def train(self, job: CheckedJob) -> RunnableJob:
        """The training job on this accelerator, begun or taken over now if it was not before."""
        found = self.loaded.get(job.sha256)
        if found is None:
            found = self.loaded[job.sha256] = self.accelerator.train(job)
        return cast(RunnableJob, found)

    def join(self, job: CheckedJob) -> JobCopy:
        """A copy of a training job that is on another accelerator."""
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
