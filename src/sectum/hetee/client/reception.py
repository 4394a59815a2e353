"""Who receives: a thread in the background, or the one that waits for an answer."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from sectum.hetee.errors import HeteeError, Refusal, refusal

T = TypeVar("T")

_SOON_S = 0.002  # an answer that takes no longer is not worth that another thread receives it


class Source(Protocol):
    """What frames come from."""

    @property
    def frame_begun(self) -> bool:
        """Whether something of the next frame was received already."""

    def fileno(self) -> int:
        """Of the socket, to be waited for."""

    def receive(self, take: Callable[[Any], None]) -> HeteeError | None:
        """Receive one frame and have it taken; why all has ended, if it has or ``take`` refused the frame."""


class Reception:
    """Receives frames, one thread at a time.

    It is a thread in the background, until another one waits for an `Answer`: then that one receives. It is awake when
    the answer is there; waking it then would take longer than opening a small answer does.

    Args:
        source: of the frames.
        take: is given each.
        ended: is told why all has ended, by the thread that notices.
    """

    def __init__(self, source: Source, take: Callable[[Any], None], ended: Callable[[HeteeError], None]) -> None:
        self._source, self._take, self._ended = source, take, ended
        self._receiving, self._waiting = threading.Lock(), threading.Lock()
        self._waiter: threading.Thread | None = None
        self._nobody_waits = threading.Event()
        self._nobody_waits.set()
        self._over = False
        self._let_go, self._call = socket.socketpair()  # whatever comes asks the thread in the background to let go
        self._let_go.setblocking(False)
        self._call.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="sectum-receive", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def answer(self) -> Answer[Any]:
        """Something that will come."""
        return Answer(self)

    def until(self, done: Callable[[], bool], timeout_s: float | None) -> None:
        """Receive in this thread until something is true, all has ended, or the time is over, if there is any.

        Returns at once where another thread waits already: it receives for both. An exception that a signal brings,
        such as `KeyboardInterrupt`, is raised; between two frames it does no harm, within one it ends all.
        """
        if threading.current_thread() is self._thread or not self._waiting.acquire(blocking=False):
            return
        try:
            self._waiter = threading.current_thread()
            self._nobody_waits.clear()
            if not self._over:
                with suppress(BlockingIOError):  # it was asked to often enough
                    self._call.send(b"\0")
                with self._receiving:
                    self._receive(done, timeout_s)
        finally:
            self._waiter = None
            self._nobody_waits.set()
            self._waiting.release()

    def close(self) -> None:
        """Wait until nobody receives any more. The socket has been shut down."""
        if threading.current_thread() not in (self._thread, self._waiter):
            self._thread.join()
            with self._waiting:
                self._let_go.close()
                self._call.close()

    def _serve(self) -> None:
        while not self._over:
            self._nobody_waits.wait()
            with self._receiving:
                self._receive(lambda: not self._nobody_waits.is_set(), None)

    def _receive(self, done: Callable[[], bool], timeout_s: float | None) -> None:
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        ready = select.poll()
        ready.register(self._source, select.POLLIN)
        if threading.current_thread() is self._thread:
            ready.register(self._let_go, select.POLLIN)
        while not (done() or self._over):
            if not self._source.frame_begun:
                found = ready.poll(None if end_s is None else max(0.0, end_s - time.monotonic()) * 1e3)
                if not found:
                    return
                if found[0][0] == self._let_go.fileno():
                    with suppress(BlockingIOError):
                        self._let_go.recv(64)
                    continue
            try:
                why = self._source.receive(self._take)
            except BaseException:
                self._end(refusal(Refusal.HOST_LOST, "receiving was interrupted within a frame"))
                raise
            if why is not None:
                self._end(why)

    def _end(self, why: HeteeError) -> None:
        self._over = True
        self._ended(why)


class Answer(Future[T]):
    """A future: the thread that waits for its result receives, unless it comes soon."""

    def __init__(self, reception: Reception) -> None:
        super().__init__()
        self._reception = reception

    def result(self, timeout: float | None = None) -> T:
        """Wait for what comes.

        Raises:
            TimeoutError: nothing has come within ``timeout`` seconds.
            HeteeError: what became of it instead.
        """
        begun_s = time.monotonic()

        def left_s() -> float | None:
            return None if timeout is None else max(0.0, begun_s + timeout - time.monotonic())

        with suppress(TimeoutError):
            return super().result(_SOON_S if timeout is None else min(timeout, _SOON_S))
        self._reception.until(self.done, left_s())
        return super().result(left_s())
