"""The models and batches of a session that have no answer yet: their memory, their credit and their deadlines."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.chunk_sizes import cut_for_company
from sectum.hetee.data_plane.streams import Ledger
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import STREAM_BYTES, Kind
from sectum.hetee.worker.answer_sender import AnswerSender, BatchOutputs, Sign
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.buffers import Buffers
from sectum.hetee.worker.deadlines import Deadlines
from sectum.hetee.worker.engine import ComputeEngine
from sectum.hetee.worker.engine_state import EngineCallbacks
from sectum.hetee.worker.load_job import LoadJob
from sectum.hetee.worker.models import CheckedModel, ModelLimits
from sectum.hetee.worker.records import RecordWriter

_BUFFERS_PER_CREDIT = 5  # a batch as received, and again as float32 where it holds one byte for each number
_CREDIT_DELAY_S = 0.1  # small amounts of credit are returned together after this time
_FLUSH_S = 0.4  # to send the last answers when the session ends


@dataclass(frozen=True)
class SessionLimits:
    """What a session may use.

    Attributes:
        index: index of the enclave in its session.
        credit_bytes: largest total of the batches that are received and whose memory is not free yet.
        open_streams: largest number of streams without an answer.
        models: largest number of models that are loaded.
        model_bytes: largest total size of the files of these models.
        preparers: number of threads that decode and convert, for one accelerator. One of them also computes if an
            accelerator is idle.
        longest_step_s: time that a step of training may still take on an accelerator that is to be given back.
    """

    index: int
    credit_bytes: int
    open_streams: int
    models: int = 32
    model_bytes: int = STREAM_BYTES
    preparers: int = 5
    longest_step_s: float = 30.0


class OpenStreams:
    """Follows each stream from its opening to its answer. Called by the receiver and by the accelerators' threads.

    Args:
        writer: sends records to the client.
        limits: limits of the session.
        sign: makes the receipt of a batch.

    Attributes:
        lock: guards ``ledger``.
        draining: whether new batches are refused.
        opened_bytes: plaintext bytes received so far.
    """

    def __init__(self, writer: RecordWriter, limits: SessionLimits, sign: Sign) -> None:
        self._credit_bytes = limits.credit_bytes
        self.lock = threading.Lock()
        self.ledger = Ledger(limits.credit_bytes, limits.open_streams)
        self.buffers = Buffers(_BUFFERS_PER_CREDIT * limits.credit_bytes)
        self.deadlines = Deadlines()
        self.draining = False
        self.opened_bytes = 0
        self._open: dict[int, BatchJob] = {}
        self._owed_bytes = 0  # credit of batches whose memory is free, not returned yet
        self._loading = 0  # stream of the CODE that has no answer yet; there is at most one
        self.engine = ComputeEngine(
            EngineCallbacks(
                loaded=self._loaded,
                load_refused=self._load_refused,
                computed=self._computed,
                refused=self.refuse,
                released=self._released,
            ),
            ModelLimits(limits.models, limits.model_bytes),
            limits.longest_step_s,
        )
        self.answers = AnswerSender(writer, self.ledger, self.lock, sign, self.connection_ended)

    def heartbeat(self) -> messages.Heartbeat:
        """What was done so far."""
        with self.lock:
            open_streams = len(self.ledger.open_streams)
        return messages.Heartbeat(
            open_streams=open_streams,
            batches=self.engine.batches,
            images=self.engine.images,
            bytes=self.opened_bytes + self.answers.sealed_bytes,
            busy_us=self.engine.busy_ns // 1000,
        )

    # --- called by the receiver ---

    def add_batch(self, batch: BatchJob) -> None:
        """Add a batch that is being received."""
        with self.lock:
            self._open[batch.stream] = batch

    def add_model(self, stream: int) -> None:
        """Add a model that is being received."""
        with self.lock:
            self._loading = stream

    def ready(self, batch: BatchJob, *, here: bool = False) -> None:
        """Compute a batch that is prepared, or release it if it was refused. ``here``: see `ComputeEngine.submit`."""
        if batch.lane is not None:
            batch.lane.ready(batch, partial(self._in_turn, here=here))
        else:
            self._in_turn(batch, here=here)

    def _in_turn(self, batch: BatchJob, *, here: bool = False) -> None:
        if batch.answered:
            self._released(batch)
        else:
            # With several open batches this thread is needed to prepare them: the accelerator's own thread computes.
            self.engine.submit(batch, here=here and self._alone)

    def refuse(self, batch: BatchJob, error: HeteeError) -> None:
        """Answer a batch with a refusal, unless it has an answer."""
        if not batch.claim():
            return
        self.answers.refuse(batch.stream, error)
        batch.stop.set()
        if self.engine.discard(batch):
            self._released(batch)

    def refuse_model(self, stream: int, error: HeteeError) -> None:
        """Answer a CODE with a refusal, unless it has an answer."""
        if self._claim_model(stream):
            self.answers.refuse(stream, error)

    def cancel(self, stream: int) -> None:
        """Handle CANCEL: the client no longer wants this answer.

        Raises:
            StreamRefused: there was never such a stream.
        """
        with self.lock:
            waiting = self.ledger.cancel(stream)
            batch = self._open.get(stream)
        error = refusal(Refusal.CANCELLED, "the client cancelled it")
        if waiting and batch is not None:
            self.refuse(batch, error)
        elif waiting:
            self.refuse_model(stream, error)

    def finish(self) -> None:
        """Handle FINISH: the client opens no further stream."""
        self.draining = True
        self.answers.finish(self._finished)

    # --- called by the engine ---

    def _loaded(self, load: LoadJob, model: CheckedModel, load_ns: int) -> None:
        message = data_messages.Loaded(
            sha256=model.sha256, inputs=model.inputs, outputs=model.outputs, load_us=load_ns // 1000
        )
        if self._claim_model(load.stream):
            self.answers.loaded(load.stream, message)

    def _load_refused(self, load: LoadJob, error: HeteeError) -> None:
        self.refuse_model(load.stream, error)

    def _claim_model(self, stream: int) -> bool:
        with self.lock:
            claimed = stream == self._loading
            if claimed:
                self._loading = 0
            return claimed

    @property
    def _alone(self) -> bool:
        """Whether at most one batch is open."""
        return len(self._open) <= 1

    def _computed(self, batch: BatchJob, outputs: dict[str, NDArray[Any]]) -> None:
        # It is not if a part of another answer is still to be sent, or if the client cut the batch like one of several.
        with self.lock:
            alone = len(self.ledger.open_streams) <= 1 and not cut_for_company(batch.header.total, batch.header.chunks)
        computed = BatchOutputs(batch, outputs, paced=batch.pace is not None, alone=alone)
        if batch.claim_result():
            batch.computed = True
            # While this thread answers, its accelerator computes nothing.
            self.answers.computed(computed, here=alone)

    def _released(self, batch: BatchJob) -> None:
        self.deadlines.remove(batch.stream)
        with self.lock:
            del self._open[batch.stream]
        self.buffers.give_back(batch.data)
        if batch.preparation is not None and batch.preparation.taken is not None:
            self.buffers.give_back(batch.preparation.taken)
        batch.preparation = None
        self._owe_credit(batch.header.total)

    def _owe_credit(self, n_bytes: int) -> None:
        """Return credit: at once if much is owed, else after a delay, as each message of its own delays the answers."""
        if not n_bytes:
            return
        with self.lock:
            first = not self._owed_bytes
            self._owed_bytes += n_bytes
            much = self._owed_bytes >= self._credit_bytes // 4
        if much:
            self._return_credit()
        elif first:  # otherwise the delay is running already
            self.deadlines.add("credit", _CREDIT_DELAY_S, self._return_credit)

    def _return_credit(self) -> None:
        self.deadlines.remove("credit")  # first: credit owed from now on gets a delay of its own
        with self.lock:
            n_bytes, self._owed_bytes = self._owed_bytes, 0
            self.ledger.release(n_bytes)
        if n_bytes:  # another thread may have returned it meanwhile
            self.answers.now(Kind.CREDIT, data_messages.Credit(credit_bytes=n_bytes))

    def _finished(self) -> data_messages.Finished:
        answers = self.answers
        return data_messages.Finished(
            answered=answers.answered,
            refused=answers.refused,
            opened_bytes=self.opened_bytes,
            sealed_bytes=answers.sealed_bytes,
        )

    # --- the end of the session ---

    def connection_ended(self) -> None:
        """Refuse all that is open: the client can send and receive nothing more."""
        self.refuse_all(refusal(Refusal.HOST_LOST, "the connection ended"))

    def refuse_all(self, error: HeteeError) -> None:
        """Refuse all that is open, and try to send these answers."""
        self.draining = True
        with self.lock:
            batches, loading = list(self._open.values()), self._loading
        for batch in batches:
            self.refuse(batch, error)
        if loading:
            self.refuse_model(loading, error)
        self.answers.flush(_FLUSH_S)
