"""The protocol between a worker and an accelerator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Pace, Work
from sectum.hetee.worker.models import CheckedModel
from sectum.hetee.worker.team import Helper

if TYPE_CHECKING:
    from sectum.hetee.worker.training.checked_job import CheckedJob

Arrays = Mapping[str, NDArray[Any]]


def _never() -> bool:
    return False


class Stop:
    """Tells a computation to stop, because nobody wants its result any more, or wants it from here.

    Attributes:
        late: also asks to stop, from some time on; looked at only by those who look at the truth of this object.
    """

    def __init__(self) -> None:
        self.late: Callable[[], bool] = _never
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._hook: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return self._event.is_set() or self.late()

    @property
    def unwanted(self) -> bool:
        """Whether nobody wants the result any more."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask to stop. Further calls have no effect."""
        with self._lock:
            self._event.set()
            if self._hook is not None:
                self._hook()

    def wait(self, seconds: float) -> bool:
        """Sleep for ``seconds`` or until asked to stop; returns whether it was asked."""
        return self._event.wait(seconds)

    @contextmanager
    def calling(self, hook: Callable[[], None]) -> Iterator[None]:
        """Call ``hook`` if a stop is asked for inside the ``with`` block, or was asked for before."""
        with self._lock:
            self._hook = hook
            if self._event.is_set():
                hook()
        try:
            yield
        finally:
            with self._lock:
                self._hook = None


class RunnableModel(Protocol):
    """A model on an accelerator."""

    def run(self, inputs: Arrays, outputs: tuple[str, ...], stop: Stop, pace: Pace | None = None) -> list[NDArray[Any]]:
        """Compute one batch.

        Args:
            inputs: an array for each input of the model.
            outputs: names of the wanted outputs; results come in this order.
            stop: when it is set, the call ends early, with an error or with any result.
            pace: published times to wait for; only for a paced accelerator.

        Raises:
            WorkRefused: ``INPUT_REFUSED`` or ``COMPUTE_FAILED``.
        """

    def unload(self) -> None:
        """Drop the model; `run` is refused afterwards."""


class RunnableJob(Protocol):
    """A training job on an accelerator."""

    def run(
        self,
        work: Work,
        arrays: Arrays,
        stop: Stop,
        commit: Callable[[], None],
        pace: Pace | None = None,
        helpers: Sequence[Helper] = (),
    ) -> dict[str, NDArray[Any]]:
        """Train with one batch, score one, or give a part of a checkpoint.

        Args:
            work: what to do, and the step that it is for.
            arrays: the batch's inputs by name.
            stop: when it is true before ``commit`` was called, the call ends early and changes nothing.
            commit: called once before the state changes; raises if the batch has an answer already.
            pace: published times to wait for; only for a paced accelerator.
            helpers: accelerators of the same kind that compute a part of the batch; fewer than the batch has items.

        Returns:
            The outputs by name, in the order in which they are sent.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, it is not the next step; ``COMPUTE_FAILED``; ``CANCELLED``, it was stopped.
        """

    def park(self) -> None:
        """Keep the state in the memory of this process, and leave the accelerator."""

    def unload(self) -> None:
        """Drop the state."""


class JobCopy(Protocol):
    """What computes parts of the batches of a training job that is on another accelerator."""

    def unload(self) -> None:
        """Drop the copy."""


def unload_all(models: Collection[RunnableModel | RunnableJob | JobCopy]) -> int:
    """Unload all models, which take themselves out of the collection; returns their number."""
    loaded = list(models)
    for model in loaded:
        model.unload()
    return len(loaded)


@runtime_checkable
class Accelerator(Protocol):
    """One accelerator, owned by this worker. Its methods are called by one thread at a time.

    Attributes:
        name: kind, colon, number.
        kind: ``cpu``, ``cuda``, ``paced``.
        paced: whether it waits for a published time instead of computing.
    """

    name: str
    kind: str
    paced: bool

    def load(self, model: CheckedModel) -> RunnableModel:
        """Load a model.

        Raises:
            WorkRefused: ``MODEL_REFUSED``, it cannot be loaded.
        """

    def train(self, job: CheckedJob) -> RunnableJob:
        """Begin a training job, or go on with one that another accelerator had.

        Raises:
            WorkRefused: ``MODEL_REFUSED``, it cannot be trained.
        """

    def join(self, job: CheckedJob) -> JobCopy:
        """Get ready to compute parts of the batches of a job that another accelerator of this kind has.

        Raises:
            WorkRefused: ``MODEL_REFUSED``, it cannot be trained.
        """

    def reset(self) -> str:
        """Drop every model and all memory of this tenant; returns what was done, in words."""
