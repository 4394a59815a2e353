"""One session in the worker: what is received, computed and answered, and how that ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.streams import Ledger
from sectum.hetee.worker.accelerators.protocol import Accelerator
from sectum.hetee.worker.answers import SMALL_BYTES, Answers, Computed, Sign
from sectum.hetee.worker.batch import Batch
from sectum.hetee.worker.buffers import Buffers
from sectum.hetee.worker.deadlines import Deadlines
from sectum.hetee.worker.engine import Engine, Load, Outcomes
from sectum.hetee.worker.intake import Intake
from sectum.hetee.worker.models import Model
from sectum.hetee.worker.preparation import Task
from sectum.hetee.worker.records import Inlet, Outlet

_KEPT = 5  # times the credit: what was received, and as float32 what was a byte
_CREDIT_S = 0.1  # after which what little credit there is to give back is given
_REHEARSAL_S = 0.0015  # before a result is expected
_FLUSH_S = 0.4  # for the last answers, when the session ends


@dataclass(frozen=True)
class Terms:
    """What a session may use.

    Attributes:
        index: of the enclave.
        credit_bytes: of batches that are received and whose memory is not yet free.
        open_streams: that wait for an answer.
        preparers: threads that decode and convert; one of them computes, too, where an accelerator waits for it.
    """

    index: int
    credit_bytes: int
    open_streams: int
    preparers: int = 5


class Enclave:
    """Serves one client until `close`.

    Args:
        inlet: from the client.
        outlet: to the client.
        terms: limits of the session.
        sign: makes the receipt of a batch.
        ended: is called, in some thread, when the client's side has ended; with the reason if that is a refusal.
    """

    def __init__(
        self,
        inlet: Inlet,
        outlet: Outlet,
        terms: Terms,
        sign: Sign,
        ended: Callable[[HeteeError | None], None],
    ) -> None:
        self.inlet, self._outlet, self._terms, self._ended = inlet, outlet, terms, ended
        self.lock = threading.Lock()
        self.ledger = Ledger(terms.credit_bytes, terms.open_streams)
        self.buffers = Buffers(_KEPT * terms.credit_bytes)
        self.deadlines = Deadlines()
        self.draining = False
        self._open: dict[int, Batch] = {}
        self._owed_bytes = 0  # of credit, of batches whose memory is free
        self._like: dict[str, NDArray[Any]] = {}  # the last result, if it was small, with zeros in place of its content
        self._loading = 0  # the stream of a CODE that is not answered; there is one at most
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self.engine = Engine(
            Outcomes(self._loaded, self._load_refused, self._computed, self.refuse, self._begun, self._released)
        )
        self.answers = Answers(outlet, self.ledger, self.lock, sign, self._lost)
        self._intake = Intake(self, self._tasks.put)
        self._threads = [threading.Thread(target=self._take, name="open", daemon=True)]
        self._threads += [
            threading.Thread(target=self._prepare, name=f"prepare:{i}", daemon=True) for i in range(terms.preparers)
        ]

    def start(self) -> None:
        """Greet the client and begin to take what it sends; its accelerators are there."""
        self.answers.now(
            Kind.READY,
            messages.Ready(
                index=self._terms.index,
                credit_bytes=self._terms.credit_bytes,
                open_streams=self._terms.open_streams,
                accelerators=self.engine.accelerators,
            ),
        )
        for thread in self._threads:
            thread.start()

    def grant(self, accelerator: Accelerator) -> None:
        """Compute on one more accelerator."""
        self.engine.grant(accelerator)

    def beat(self) -> messages.Beat:
        """What was done so far."""
        with self.lock:
            n_open = len(self.ledger.open_streams)
        n_bytes = self._intake.opened_bytes + self.answers.sealed_bytes
        engine = self.engine
        busy_us = engine.busy_ns // 1000
        return messages.Beat(
            open_streams=n_open, batches=engine.batches, images=engine.images, bytes=n_bytes, busy_us=busy_us
        )

    # From the intake.

    def opened(self, batch: Batch) -> None:
        """Keep a batch that is being received."""
        with self.lock:
            self._open[batch.stream] = batch

    def opened_model(self, stream: int) -> None:
        """Keep in mind a model that is being received."""
        with self.lock:
            self._loading = stream

    def ready(self, batch: Batch, *, here: bool = False) -> None:
        """A batch has all that it needs to be computed, or was refused before that; ``here`` as `Engine.submit`."""
        if batch.answered:
            self._released(batch)
        else:
            # Of several, the others need the threads that prepare: this one is left to that of the accelerator.
            self.engine.submit(batch, here=here and self._alone)

    def refuse(self, batch: Batch, error: HeteeError) -> None:
        """Answer a batch with a refusal, unless it was answered."""
        if not batch.claim():
            return
        self.answers.refuse(batch.stream, error)
        batch.stop.set()
        if self.engine.discard(batch):
            self._released(batch)

    def cancel(self, stream: int) -> None:
        """The client does not want this answer any more.

        Raises:
            StreamRefused: there never was such a stream.
        """
        with self.lock:
            wanted = self.ledger.cancel(stream)
            batch = self._open.get(stream)
        error = refusal(Refusal.CANCELLED, "the client cancelled it")
        if wanted and batch is not None:
            self.refuse(batch, error)
        elif wanted:
            self.refuse_model(stream, error)

    def finish(self) -> None:
        """The client opens no stream any more."""
        self.draining = True
        self.answers.finish(self._finished)

    # From the engine.

    def _loaded(self, load: Load, model: Model, load_ns: int) -> None:
        message = messages.Loaded(
            sha256=model.sha256, inputs=model.inputs, outputs=model.outputs, load_us=load_ns // 1000
        )
        if self._claim_model(load.stream):
            self.answers.loaded(load.stream, message)

    def _load_refused(self, load: Load, error: HeteeError) -> None:
        self.refuse_model(load.stream, error)

    def refuse_model(self, stream: int, error: HeteeError) -> None:
        """Answer a CODE with a refusal, unless it was answered."""
        if self._claim_model(stream):
            self.answers.refuse(stream, error)

    def _claim_model(self, stream: int) -> bool:
        with self.lock:
            claimed = stream == self._loading
            if claimed:
                self._loading = 0
            return claimed

    @property
    def idle(self) -> bool:
        """Whether no batch is on its way."""
        return not self._open

    @property
    def _alone(self) -> bool:
        """Whether one batch at most is on its way."""
        return len(self._open) <= 1

    def _begun(self, batch: Batch, expected_s: float) -> None:
        if expected_s > _REHEARSAL_S and self._alone:
            self.deadlines.add("rehearsal", expected_s - _REHEARSAL_S, partial(self._rehearse, batch))

    def _rehearse(self, batch: Batch) -> None:
        """Send a CREDIT, be it of nothing, the way of the answer, just before it, and describe a result like the last.

        Code that was not run for some milliseconds is slow, and host and client are awake then, too.
        """
        if not batch.answered and self._alone:
            self._give_credit()
            if self._like:
                Computed(batch, self._like, paced=batch.pace is not None)

    def _computed(self, batch: Batch, outputs: dict[str, NDArray[Any]]) -> None:
        computed = Computed(batch, outputs, paced=batch.pace is not None, alone=self._alone)
        if batch.claim():
            # While this thread answers, its accelerator computes nothing.
            self.answers.computed(computed, here=self._alone)
            small = computed.total <= SMALL_BYTES
            self._like = {name: np.zeros_like(array) for name, array in outputs.items()} if small else {}

    def _released(self, batch: Batch) -> None:
        self.deadlines.remove(batch.stream)
        with self.lock:
            del self._open[batch.stream]
        self.forget(batch)
        self._owe(batch.header.total)

    def forget(self, batch: Batch) -> None:
        """Use the memory of a batch for others; nobody reads it any more."""
        self.buffers.give_back(batch.data)
        if batch.preparation is not None and batch.preparation.taken is not None:
            self.buffers.give_back(batch.preparation.taken)
        batch.preparation = None

    def _owe(self, n_bytes: int) -> None:
        """Give credit back: soon, as a message of its own would delay the answers, or now if it is much."""
        with self.lock:
            nothing = not self._owed_bytes
            self._owed_bytes += n_bytes
            much = self._owed_bytes >= self._terms.credit_bytes // 4
        if much:
            self._give_credit()
        elif n_bytes and nothing:  # else it is due already
            self.deadlines.add("credit", _CREDIT_S, self._give_credit)

    def _give_credit(self) -> None:
        self.deadlines.remove("credit")  # first: what is owed from here on is due anew
        with self.lock:
            n_bytes, self._owed_bytes = self._owed_bytes, 0
            self.ledger.release(n_bytes)
        self.answers.now(Kind.CREDIT, messages.Credit(credit_bytes=n_bytes))

    def _finished(self) -> messages.Finished:
        answers = self.answers
        return messages.Finished(
            answered=answers.answered,
            refused=answers.refused,
            opened_bytes=self._intake.opened_bytes,
            sealed_bytes=answers.sealed_bytes,
        )

    # Threads, and their end.

    def _take(self) -> None:
        try:
            self._intake.run()
        except HeteeError as error:
            self._abandon(error)
            self._ended(error)
        else:
            self._abandon(refusal(Refusal.HOST_LOST, "the connection ended"))
            self._ended(None)

    def _prepare(self) -> None:
        while True:
            self._tasks.get()()

    def _lost(self) -> None:
        self._abandon(refusal(Refusal.HOST_LOST, "the connection ended"))

    def _abandon(self, error: HeteeError) -> None:
        """Refuse all that is open, and try to say so."""
        self.draining = True
        with self.lock:
            batches, loading = list(self._open.values()), self._loading
        for batch in batches:
            self.refuse(batch, error)
        if loading:
            self.refuse_model(loading, error)
        self.answers.flush(_FLUSH_S)

    def drain(self, deadline_s: float) -> None:
        """Take no new batch; answer what is open until the deadline, then refuse it."""
        self.draining = True
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s and self.beat().open_streams and not self.answers.dead:
            time.sleep(0.005)
        self._abandon(refusal(Refusal.CANCELLED, "the enclave is being closed"))

    def wipe(self) -> messages.Wiped:
        """Overwrite keys and buffers: the session is over."""
        self.inlet.wipe()
        self._outlet.wipe()
        return messages.Wiped(
            wiped_bytes=self.buffers.wipe(), answered=self.answers.answered, refused=self.answers.refused
        )
