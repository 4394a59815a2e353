"""An accelerator that computes nothing: it waits for the published time of another accelerator, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import SectumError
from sectum.graph.reader import read
from sectum.hetee.data_plane.messages import Pace
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.worker.accelerators.paced_job import PacedCopy, PacedJob
from sectum.hetee.worker.accelerators.protocol import Arrays, Stop, unload_all
from sectum.hetee.worker.models import CheckedModel
from sectum.hetee.worker.training.checked_job import CheckedJob

_SHAPES_KEPT = 64
_ZEROS_KEPT = 4


class PacedAccelerator:
    """Returns zeros of the right shape after the time that the batch gives.

    It separates the cost of the service from the cost of computing: with the published times of the paper's GPU, the
    service is compared with HETEE. Every result and receipt says that it is paced.
    """

    kind, paced = "paced", True

    def __init__(self, name: str) -> None:
        self.name = name
        self._models: set[_Paced | PacedJob | PacedCopy] = set()

    def load(self, model: CheckedModel) -> _Paced:
        """Keep the model, to derive the shapes of its outputs."""
        loaded = _Paced(model, self._models.discard)
        self._models.add(loaded)
        return loaded

    def train(self, job: CheckedJob) -> PacedJob:
        """Keep the number of steps, and nothing else."""
        paced = PacedJob(job, self._models.discard)
        self._models.add(paced)
        return paced

    def join(self, job: CheckedJob) -> PacedCopy:  # noqa: ARG002  # nothing of it is needed
        """Keep nothing."""
        copy = PacedCopy(self._models.discard)
        self._models.add(copy)
        return copy

    def reset(self) -> str:
        """Drop all models."""
        n_models = unload_all(self._models)
        return f"{n_models} models unloaded; no data was on it"


class _Paced:
    def __init__(self, model: CheckedModel, forget: Callable[[_Paced], None]) -> None:
        self._model: CheckedModel | None = model
        self._forget = forget
        self._shapes: dict[tuple[tuple[str, tuple[int, ...]], ...], dict[str, tuple[tuple[int, ...], str]]] = {}
        self._zeros: dict[tuple[tuple[int, ...], str], NDArray[Any]] = {}

    def unload(self) -> None:
        self._model = None
        self._shapes.clear()
        self._zeros.clear()
        self._forget(self)

    def run(self, inputs: Arrays, outputs: tuple[str, ...], stop: Stop, pace: Pace | None = None) -> list[NDArray[Any]]:
        begun_s = time.monotonic()
        if pace is None:
            raise refusal(Refusal.INPUT_REFUSED, "a paced accelerator computes nothing: send the batch with a pace")
        shapes = self._outputs(inputs)
        unknown = [name for name in outputs if name not in shapes]
        if unknown:
            raise refusal(Refusal.INPUT_REFUSED, f"the model has no output '{unknown[0][:80]}'")
        results = [self._zero(*shapes[name]) for name in outputs]
        left_s = begun_s + pace.compute_us / 1e6 - time.monotonic()
        if left_s > 0:
            stop.wait(left_s)
        return results

    def _zero(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Read-only zeros, kept for later batches."""
        zeros = self._zeros.get((shape, dtype))
        if zeros is None:
            if len(self._zeros) >= _ZEROS_KEPT:
                self._zeros.clear()
            zeros = self._zeros[shape, dtype] = np.zeros(shape, object if dtype == "string" else dtype)
            zeros.flags.writeable = False
        return zeros

    def _outputs(self, inputs: Arrays) -> dict[str, tuple[tuple[int, ...], str]]:
        if self._model is None:
            raise refusal(Refusal.COMPUTE_FAILED, "the accelerator was reset and no longer has the model")
        key = tuple((name, array.shape) for name, array in inputs.items())
        if key not in self._shapes:
            try:
                graph = read(self._model.content, inputs=dict(key)).graph
            except SectumError as error:
                raise refusal(
                    Refusal.INPUT_REFUSED, f"the shapes of the outputs cannot be derived from the batch: {error}"[:500]
                ) from None
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            tensors = graph.tensors
            self._shapes[key] = {name: (tensors[name].shape, tensors[name].dtype) for name in graph.outputs}
        return self._shapes[key]
