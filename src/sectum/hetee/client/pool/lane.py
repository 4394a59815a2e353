"""One rack of a pool: a session with it, and a thread that sends it the batches that it has room for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from sectum.hetee.client.pool.board import Board, RackResult, Task, another_may_answer, is_final, named
from sectum.hetee.client.pool.connector import Connector
from sectum.hetee.client.results import LoadedModel, ReceiptParts, Result
from sectum.hetee.client.session import Session
from sectum.hetee.client.trust import Trust
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal, WorkRefused, refusal

State = Literal["connecting", "serving", "lost", "refused"]
_FIRST_RETRY_S, _SLOWEST_RETRY_S = 0.2, 2.0
_JOIN_S = 5.0


@dataclass(frozen=True)
class RackReport:
    """What a client knows of a rack of its pool.

    Attributes:
        url: its address.
        state: ``connecting``; ``serving``; ``lost``, it is tried again; ``refused``, it is not trusted any more.
        answered: batches that it answered.
        unproven: enclaves whose end it has not confirmed by a signed record.
        trust: what its evidence said; None if none was accepted.
        error: why it is lost or refused.
    """

    url: str
    state: State
    answered: int
    unproven: int
    trust: Trust | None
    error: HeteeError | None


class Lane:
    """A rack, and what was sent to it.

    Args:
        url: its address.
        board: the batches that wait.
        connector: makes sessions.
        claim: is asked with the device of the accepted evidence whether this lane may use it.
        ended: called, without a lock, when the rack was lost or refused.
        room: number of batches that the rack may have at a time.

    Attributes:
        device: the machine, while this lane uses it.
        loaded: the models that the rack has, by SHA-256.
        bad_models: the models that it refused, with the reason.
    """

    def __init__(
        self,
        url: str,
        board: Board,
        connector: Connector,
        claim: Callable[[Lane, bytes], bool],
        ended: Callable[[HeteeError], None],
        room: int,
    ) -> None:
        self.url, self.room = url, room
        self.state: State = "connecting"
        self.error: HeteeError | None = None
        self.device = b""
        self.session: Session | None = None
        self.loaded: dict[bytes, LoadedModel] = {}
        self.bad_models: dict[bytes, HeteeError] = {}
        self._board, self._connector, self._claim, self._ended = board, connector, claim, ended
        self._trust: Trust | None = None
        self._index: int | None = None
        self._in_flight = self._answered = self._unproven = 0
        self._left = False
        self._retry_s, self._pause_s = 0.0, _FIRST_RETRY_S
        self._thread = threading.Thread(target=self._run, name=f"sectum-rack-{url}", daemon=True)
        self._thread.start()

    def report(self) -> RackReport:
        """What is known of the rack now."""
        with self._board.changed:
            return RackReport(self.url, self.state, self._answered, self._unproven, self._trust, self.error)

    def close(self, deadline_ms: int) -> None:
        """End the session, once the board is closed.

        Raises:
            HeteeError: as `Session.close`; `RackReport.unproven` counts records that are missing.
        """
        self._thread.join(_JOIN_S)
        self._left = self._thread.is_alive()  # it waits for an enclave, and ends that session by itself
        self._drop(deadline_ms)

    def _run(self) -> None:
        while self._due():
            try:
                session = self._ready()
            except HeteeError as error:
                if self._lost(error):
                    return
                continue
            if (task := self._take()) is not None:
                self._send(session, task)
        if self._left:
            with suppress(HeteeError):  # nobody is there to be told
                self._drop(0)

    def _due(self) -> bool:
        """Wait until there is something to do; False if the pool's session has ended."""
        board = self._board
        with board.changed:
            while not board.closed:
                pause_s = self._retry_s - time.monotonic()
                if pause_s <= 0 and self._needed():
                    return True
                board.changed.wait(max(pause_s, 0.01) if pause_s > 0 else None)
            return False

    def _needed(self) -> bool:
        session, models = self.session, self._board.models
        if session is None or session.failed is not None or session.index != self._index:
            return bool(models)
        if any(digest not in self.loaded and digest not in self.bad_models for digest in models):
            return True
        return bool(len(self._board)) and self._in_flight < self.room

    def _ready(self) -> Session:
        """Connect if necessary, and load the models that the enclave does not have.

        Raises:
            HeteeError: the rack is lost, or not trusted.
        """
        if self.session is not None and self.session.failed is not None:
            raise self.session.failed
        if self.session is None:
            session = self._connector.verify(self.url)
            assert session.trust.controller is not None
            if not self._claim(self, session.trust.controller.device):
                session.close()
                raise refusal(Refusal.NOT_GENUINE, f"{self.url} is a rack that this pool has under another address")
            self._connector.configure(session)
            with self._board.changed:
                self.session, self._trust, self._index = session, session.trust, None
        session = self.session
        if session.index != self._index:
            self.loaded.clear()
        for digest, content in list(self._board.models.items()):
            if digest not in self.loaded and digest not in self.bad_models:
                self._load(session, digest, content)
        with self._board.changed:
            if self.state != "serving":
                self._board.served_s = time.monotonic()
            self.state, self.error, self._index, self._pause_s = "serving", None, session.index, _FIRST_RETRY_S
            self._board.changed.notify_all()
        return session

    def _load(self, session: Session, digest: bytes, content: bytes) -> None:
        try:
            self.loaded[digest] = session.load(content)
        except WorkRefused as error:
            self.bad_models[digest] = error

    def _lost(self, error: HeteeError) -> bool:
        """Note that the rack failed; returns whether it is not to be asked again."""
        final = is_final(error)
        with suppress(HeteeError):  # the first error matters more
            self._drop(0)
        with self._board.changed:
            self.state, self.error, self.device = "refused" if final else "lost", error, b""
            self._retry_s = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _SLOWEST_RETRY_S)
            self._board.changed.notify_all()
        self._ended(error)
        return final

    def _drop(self, deadline_ms: int) -> None:
        with self._board.changed:
            session, self.session = self.session, None
            self.loaded.clear()
        if session is None:
            return
        try:
            session.close(deadline_ms)
        except CleaningUnproven:
            self._unproven += 1
            raise

    # --- batches ---

    def _take(self) -> Task | None:
        with self._board.changed:
            if self._in_flight >= self.room or (task := self._board.take()) is None:
                return None
            self._in_flight += 1
            return task

    def _send(self, session: Session, task: Task) -> None:
        model = self.loaded.get(task.model)
        if model is None:  # it came meanwhile, or this rack refused it
            self._failed(task, self.bad_models.get(task.model) or _no_model(), begun=False)
            return
        try:
            future = session.submit(task.inputs, model=model, **task.options)
        except HeteeError as error:
            self._failed(task, error, begun=False)
        else:
            future.add_done_callback(partial(self._came, session, task))

    def _came(self, session: Session, task: Task, answer: Future[Result]) -> None:
        # A session's threads call this and what follows, so it must not use the session or wait.
        if (error := answer.exception()) is not None:
            assert isinstance(error, HeteeError)
            self._failed(task, error)
            return
        result = answer.result()
        result.signed.add_done_callback(partial(self._signed, session, task, result))

    def _signed(self, session: Session, task: Task, result: Result, receipt: Future[ReceiptParts]) -> None:
        if (error := receipt.exception()) is not None:  # lost between the outputs and the receipt
            assert isinstance(error, HeteeError)
            self._failed(task, error)
            return
        answer: RackResult = named(result, self.url, session)
        with self._board.changed:
            self._in_flight -= 1
            self._answered += 1
            self._board.served_s = time.monotonic()
            self._board.changed.notify_all()
        task.answer.set_result(answer)

    def _failed(self, task: Task, error: HeteeError, *, begun: bool = True) -> None:
        with self._board.changed:
            self._in_flight -= 1
            if error.code is Refusal.NO_MODEL:
                self._index = None  # a new enclave: load the models again
            self._retry_s = time.monotonic() + _FIRST_RETRY_S
            self._board.changed.notify_all()
        if another_may_answer(error):
            self._board.move(task, error, lost=begun)
        else:
            task.answer.set_exception(error)


def _no_model() -> HeteeError:
    return refusal(Refusal.NO_MODEL, "the rack does not have the model yet")
