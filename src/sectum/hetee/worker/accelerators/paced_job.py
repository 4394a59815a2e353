"""A training job on an accelerator that computes nothing: it waits for the published time of each step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Pace, Work
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.training.job import LOSS, STATE
from sectum.hetee.worker.accelerators.protocol import Arrays, Stop
from sectum.hetee.worker.models import batch_refused
from sectum.hetee.worker.training.checked_job import CheckedJob, begins


class PacedJob:
    """Counts steps, and answers each with a loss of 0. It has no state, so it gives no checkpoint."""

    def __init__(self, job: CheckedJob, forget: Callable[[PacedJob], None]) -> None:
        if job.job.checkpoint or job.job.weights:
            raise refusal(Refusal.MODEL_REFUSED, "a paced accelerator computes nothing: it takes no weights")
        self._job, self._forget = job, forget
        self._step = int(bytes(job.parked.pop())) if job.parked else 0

    def run(
        self,
        work: Work,
        arrays: Arrays,  # noqa: ARG002  # the protocol's
        stop: Stop,
        commit: Callable[[], None],
        pace: Pace | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Wait for the time of a step."""
        begun_s = time.monotonic()
        if pace is None or work.kind != "train":
            raise batch_refused("a paced accelerator computes nothing: it takes only steps, each with a pace")
        begins(work, self._step)
        stop.wait(max(0.0, begun_s + pace.compute_us / 1e6 - time.monotonic()))
        commit()
        self._step = work.step
        return {LOSS: np.zeros((), np.float32), STATE: np.zeros(0, np.uint8)}

    def park(self) -> None:
        """Keep the number of steps."""
        self._job.parked[:] = [str(self._step).encode()]
        self.unload()

    def unload(self) -> None:
        """Forget the job."""
        self._forget(self)
