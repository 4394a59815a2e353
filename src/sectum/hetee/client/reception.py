"""Who receives: a thread in the background, or the one that waits for an answer."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from sectum.hetee.client.connection import Connection
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.frames import Frame


class Reception:
    """Receives the frames of a connection, one thread at a time.

    It is a thread in the background, until another one waits for an answer: then that one receives. It is awake when
    the answer is there; waking it then would take longer than opening a small answer does.

    Args:
        connection: attested.
        take: is given each frame; what it raises ends the connection.
        ended: is told why the connection has ended, by the thread that notices.
    """

    def __init__(
        self, connection: Connection, take: Callable[[Frame], None], ended: Callable[[HeteeError], None]
    ) -> None:
        self._connection, self._take, self._ended = connection, take, ended
        self._receiving, self._waiting = threading.Lock(), threading.Lock()
        self._waiter: threading.Thread | None = None
        self._nobody_waits = threading.Event()
        self._nobody_waits.set()
        self._over = False
        self._let_go, self._call = socket.socketpair()  # whatever comes asks the thread in the background to let go
        self._let_go.setblocking(False)
        self._call.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="sectum-receive", daemon=True)
        self._thread.start()

    def until(self, done: Callable[[], bool], timeout_s: float) -> None:
        """Receive in this thread until something is true, the connection has ended, or the time is over.

        Returns at once where another thread waits already: it receives for both. An exception that a signal brings,
        such as `KeyboardInterrupt`, is raised; between two frames it does no harm, within one it ends the connection.
        """
        if not self._waiting.acquire(blocking=False):
            return
        try:
            self._waiter = threading.current_thread()
            self._nobody_waits.clear()
            if not self._over:
                with suppress(BlockingIOError):  # it was asked to often enough
                    self._call.send(b"\0")
                with self._receiving:
                    self._receive(done, time.monotonic() + timeout_s)
        finally:
            self._waiter = None
            self._nobody_waits.set()
            self._waiting.release()

    def close(self) -> None:
        """Wait until nobody receives any more. The connection has been shut down."""
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

    def _receive(self, done: Callable[[], bool], end_s: float | None) -> None:
        """Take frames; without ``end_s`` this is the thread in the background."""
        ready = select.poll()
        ready.register(self._connection, select.POLLIN)
        if end_s is None:
            ready.register(self._let_go, select.POLLIN)
        while not (done() or self._over):
            if not self._connection.frame_begun:
                found = ready.poll(None if end_s is None else max(0.0, end_s - time.monotonic()) * 1e3)
                if not found:
                    return
                if found[0][0] == self._let_go.fileno():
                    with suppress(BlockingIOError):
                        self._let_go.recv(64)
                    continue
            try:
                why = self._connection.receive(self._take)
            except BaseException:
                self._end(refusal(Refusal.HOST_LOST, "receiving was interrupted within a frame"))
                raise
            if why is not None:
                self._end(why)

    def _end(self, why: HeteeError) -> None:
        self._over = True
        self._ended(why)
