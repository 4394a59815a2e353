"""The other accelerators of an enclave, which compute parts of one step of training."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event
from typing import Any, TypeVar

T = TypeVar("T")


class Helper:
    """An accelerator that computes parts of a step for the accelerator that has the job, in its own thread.

    Args:
        name: name of the accelerator.
        copy: its copy of the job's network, made by the first call.

    Attributes:
        free: set when the accelerator may be given something else to do.
    """

    def __init__(self, name: str, copy: Callable[[], Any]) -> None:
        self.name, self._copy, self.free = name, copy, Event()
        self._parts: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, part: Callable[[Any], T]) -> Future[T]:
        """Call ``part`` with the copy, in the accelerator's thread."""
        future: Future[T] = Future()

        def compute() -> None:
            try:
                future.set_result(part(self._copy()))
            except BaseException as error:  # noqa: BLE001  # whoever reads the future gets it
                future.set_exception(error)

        self._parts.put(compute)
        return future

    def serve(self) -> None:
        """Compute parts until `dismiss` is called; the accelerator's thread calls this."""
        while (compute := self._parts.get()) is not None:
            compute()

    def dismiss(self) -> None:
        """End `serve`, and wait until the accelerator is free, so that the next step finds it."""
        self._parts.put(None)
        self.free.wait()
