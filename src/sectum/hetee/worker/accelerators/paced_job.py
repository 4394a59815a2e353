"""A training job on an accelerator that computes nothing: it waits for the published time of each step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Pace, Work
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.training.job import LOSS, STATE
from sectum.hetee.training.tensor_file import TensorFile
from sectum.hetee.worker.accelerators.protocol import Arrays, Stop
from sectum.hetee.worker.models import batch_refused
from sectum.hetee.worker.team import Helper
from sectum.hetee.worker.training.checked_job import CheckedJob, begins

_ANSWER: dict[str, NDArray[Any]] = {LOSS: np.zeros((), np.float32), STATE: np.zeros(0, np.uint8)}


def wait_until(stop: Stop, end_s: float) -> None:
    """Wait until a time on the monotonic clock, or until asked to stop."""
    stop.wait(max(0.0, end_s - time.monotonic()))


class PacedCopy:
    """Waits beside another paced accelerator."""

    def __init__(self, forget: Callable[[PacedCopy], None]) -> None:
        self._forget = forget

    def wait(self, stop: Stop, end_s: float) -> None:
        """Wait until a time on the monotonic clock, or until asked to stop."""
        wait_until(stop, end_s)

    def unload(self) -> None:
        """Forget the job."""
        self._forget(self)


class PacedJob:
    """Counts steps, and answers each with a loss of 0. It has no state, so it gives no checkpoint."""

    def __init__(self, job: CheckedJob, forget: Callable[[PacedJob], None]) -> None:
        if job.job.checkpoint or job.job.weights:
            raise refusal(Refusal.MODEL_REFUSED, "a paced accelerator computes nothing: it takes no weights")
        self._job, self._forget = job, forget
        self._step = int(job.parked.pop().about["step"]) if job.parked else 0

    def run(
        self,
        work: Work,
        arrays: Arrays,
        stop: Stop,
        commit: Callable[[], None],
        pace: Pace | None = None,
        helpers: Sequence[Helper] = (),
    ) -> dict[str, NDArray[Any]]:
        """Wait for the time of a step; with helpers, for the share of it that the largest part of the batch has."""
        begun_s = time.monotonic()
        if pace is None or work.kind != "train":
            raise batch_refused("a paced accelerator computes nothing: it takes only steps, each with a pace")
        begins(work, self._step)
        share = 1.0
        if helpers:
            items = len(next(iter(arrays.values())))
            share = -(-items // (1 + len(helpers))) / items
        end_s = begun_s + share * pace.compute_us / 1e6
        waits = [helper.submit(lambda copy: copy.wait(stop, end_s)) for helper in helpers]
        wait_until(stop, end_s)
        for wait in waits:
            wait.result()
        commit()
        self._step = work.step
        return dict(_ANSWER)

    def park(self) -> None:
        """Keep the number of steps."""
        self._job.parked[:] = [TensorFile({"step": str(self._step)}, {})]
        self.unload()

    def unload(self) -> None:
        """Forget the job."""
        self._forget(self)
