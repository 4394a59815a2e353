"""What a worker asks of an accelerator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from sectum.hetee.wire.messages import Pace
from sectum.hetee.worker.models import Model

Arrays = Mapping[str, NDArray[Any]]


class Stop:
    """Tells a computation that nobody wants its result any more."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._hook: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """Ask to stop; asking twice is asking once."""
        with self._lock:
            self._event.set()
            if self._hook is not None:
                self._hook()

    def wait(self, seconds: float) -> bool:
        """Sleep for so long, or until asked to stop; True if asked."""
        return self._event.wait(seconds)

    @contextmanager
    def calling(self, hook: Callable[[], None]) -> Iterator[None]:
        """Call ``hook`` if asked to stop meanwhile, or if that was asked before."""
        with self._lock:
            self._hook = hook
            if self._event.is_set():
                hook()
        try:
            yield
        finally:
            with self._lock:
                self._hook = None


class Loaded(Protocol):
    """A model on an accelerator."""

    def run(self, inputs: Arrays, outputs: tuple[str, ...], stop: Stop, pace: Pace | None = None) -> list[NDArray[Any]]:
        """Compute one batch.

        Args:
            inputs: an array for each input of the model.
            outputs: names of the outputs that are wanted, in their order.
            stop: when it is set, the call ends early, with an error or with whatever it has.
            pace: published times to wait for; only a paced accelerator is given any.

        Raises:
            WorkRefused: ``INPUT_REFUSED`` or ``COMPUTE_FAILED``.
        """


@runtime_checkable
class Accelerator(Protocol):
    """One accelerator, owned by this worker. Its methods are called by one thread at a time.

    Attributes:
        name: kind, colon, number.
        kind: ``cpu``, ``cuda``, ``paced``.
        paced: whether results are not computed, but waited for.
    """

    name: str
    kind: str
    paced: bool

    def load(self, model: Model) -> Loaded:
        """Put a model on it.

        Raises:
            WorkRefused: ``MODEL_REFUSED``, it cannot be loaded.
        """

    def reset(self) -> str:
        """Let go of every model and of all memory of this tenant; gives what was done, in words."""
