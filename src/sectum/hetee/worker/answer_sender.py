"""Sends answers to the client. One thread seals and sends at a time.

A thread that has a small answer may send it itself; a thread of its own sends everything else. Messages that answer no
stream go before answers and between the chunks of an answer.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from numpy.typing import NDArray

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.chunk_sizes import usual_chunk_bytes
from sectum.hetee.data_plane.streams import Ledger
from sectum.hetee.data_plane.tensors import Place, layout
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import chunks_needed
from sectum.hetee.wire.kinds import MESSAGE_BYTES, TAG_BYTES, Kind
from sectum.hetee.wire.messages import Message, encode
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.preparation import as_tensor
from sectum.hetee.worker.records import RecordWriter

Sign = Callable[[BatchJob, bytes, bytes], bytes]  # with the SHA-256 of RESULT, and the BLAKE3 of the outputs
# An answer of at most this size is sent in one piece, and the thread that has it may send it.
SMALL_BYTES = 64 << 10
# The receipt of a single batch waits this long, so that signing and verifying it does not take the processor from
# those who deliver the result.
_RECEIPT_AFTER_S = 0.001


class _OutputLayout(NamedTuple):
    """What all results with the same tensors share."""

    opening: bytes
    context: bytes
    places: tuple[Place, ...]
    total: int


@lru_cache(maxsize=64)  # results of one model and batch size have the same layout
def _output_layout(tensors: tuple[data_messages.Tensor, ...], paced: bool) -> _OutputLayout:
    opening = encode(data_messages.ResultOpening(tensors=tensors, paced=paced))
    try:
        places = layout(tensors)
        messages.decode(opening, data_messages.ResultOpening)
    except HeteeError as error:
        raise refusal(Refusal.COMPUTE_FAILED, f"the outputs cannot be sent: {error.detail}") from None
    if len(opening) > MESSAGE_BYTES - TAG_BYTES:
        raise refusal(Refusal.COMPUTE_FAILED, "the description of the outputs is over the limit of a message")
    total = places[-1].end if places else 0
    return _OutputLayout(opening, hashlib.sha256(opening).digest(), places, total)


class BatchOutputs:
    """The outputs of a batch, as they are sent.

    Args:
        batch: the batch.
        outputs: arrays by name, in the order in which the client asked for them.
        paced: whether the accelerator waited instead of computing.
        alone: whether no other batch is in flight.

    Raises:
        WorkRefused: ``COMPUTE_FAILED``, they cannot be sent.
    """

    def __init__(
        self, batch: BatchJob, outputs: Mapping[str, NDArray[Any]], *, paced: bool, alone: bool = True
    ) -> None:
        described = [as_tensor(name, array) for name, array in outputs.items()]
        self.batch, self.alone = batch, alone
        self.data = [data for _, data in described]
        form = _output_layout(tuple(tensor for tensor, _ in described), paced)
        self.opening, self.context, self.places, self.total = form
        self._chunk_bytes = usual_chunk_bytes(self.total, alone=alone)
        self.chunks = chunks_needed(self.total, self._chunk_bytes)

    def cut(self) -> Iterator[memoryview]:
        """The plaintext in chunks. A chunk is a view of an output, or a copy if it spans the border between two."""
        for begin in range(0, self.total, self._chunk_bytes):
            end = min(begin + self._chunk_bytes, self.total)
            pairs = zip(self.places, self.data, strict=True)
            inside = [(place, data) for place, data in pairs if place.begin < end and place.end > begin]
            if inside and inside[0][0].begin <= begin and end <= inside[0][0].end:
                place, data = inside[0]
                yield data[begin - place.begin : end - place.begin]
                continue
            gathered = memoryview(bytearray(end - begin))
            for place, data in inside:
                low, high = max(begin, place.begin), min(end, place.end)
                gathered[low - begin : high - begin] = data[low - place.begin : high - place.begin]
            yield gathered


@dataclass(frozen=True)
class _ShortAnswer:
    stream: int
    kind: Kind
    message: Message


class AnswerSender:
    """Sends answers in the order in which they come. Each closes its stream.

    Args:
        writer: sends records to the client.
        ledger: the session's open streams; use it under ``lock``.
        lock: guards ``ledger``.
        sign: makes the receipt of a batch whose result was sent.
        lost: called when nothing can be sent any more.
    """

    def __init__(
        self, writer: RecordWriter, ledger: Ledger, lock: threading.Lock, sign: Sign, lost: Callable[[], None]
    ) -> None:
        self._writer, self._ledger, self._lock, self._sign, self._lost = writer, ledger, lock, sign, lost
        self._changed = threading.Condition()
        self._urgent: deque[tuple[Kind, Message]] = deque()
        self._answers: deque[BatchOutputs | _ShortAnswer] = deque()
        self._finished: Callable[[], data_messages.Finished] | None = None
        self._busy = self.dead = False
        self._flushing = 0  # number of threads in `flush`
        self.answered = self.refused = self.sealed_bytes = 0
        threading.Thread(target=self._serve, name="send", daemon=True).start()

    @property
    def unread(self) -> int:
        """The number of messages that answer no stream and wait to be sent."""
        return len(self._urgent)

    def now(self, kind: Kind, message: Message) -> None:
        """Send a message that answers no stream. It goes before all answers that wait."""
        with self._changed:
            self._urgent.append((kind, message))
            self._changed.notify_all()

    def refuse(self, stream: int, error: HeteeError) -> None:
        """Answer a stream with a refusal."""
        detail = error.detail.encode()[:512].decode(errors="ignore")
        self._put(_ShortAnswer(stream, Kind.REFUSED, messages.Failure(code=error.code, detail=detail)))

    def loaded(self, stream: int, message: data_messages.Loaded) -> None:
        """Answer a CODE."""
        self._put(_ShortAnswer(stream, Kind.LOADED, message))

    def computed(self, computed: BatchOutputs, *, here: bool = False) -> None:
        """Answer a batch with its outputs and a receipt.

        With ``here`` the calling thread sends a small answer itself if nothing else waits and the kernel takes it at
        once, because waking another thread takes longer.
        """
        with self._changed:
            idle = here and not (self._busy or self._answers or self.dead)
            if not (idle and computed.total <= SMALL_BYTES and self._writer.roomy()):
                self._answers.append(computed)
                self._changed.notify_all()
                return
            self._busy = True
        self._send(computed, alone=True)

    def finish(self, finished: Callable[[], data_messages.Finished]) -> None:
        """Send FINISHED as soon as no stream is open."""
        with self._changed:
            self._finished = finished
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until everything has been sent; returns False if that takes longer than ``seconds``."""

        def empty() -> bool:
            return self.dead or not (self._urgent or self._answers or self._busy)

        with self._changed:
            self._flushing += 1
            try:
                return self._changed.wait_for(empty, seconds)
            finally:
                self._flushing -= 1

    def _put(self, answer: BatchOutputs | _ShortAnswer) -> None:
        with self._changed:
            self._answers.append(answer)
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self.dead and (self._busy or not (self._urgent or self._answers or self._may_finish())):
                    self._changed.wait()
                if self.dead:
                    return
                self._busy = True
                answer = self._answers.popleft() if self._answers else None
            self._send(answer)

    def _send(self, answer: BatchOutputs | _ShortAnswer | None, *, alone: bool = False) -> None:
        """Send the urgent messages, then the answer if there is one. The caller has set ``_busy``."""
        try:
            self._send_urgent(more=isinstance(answer, BatchOutputs))
            if isinstance(answer, BatchOutputs):
                self._send_computed(answer, _RECEIPT_AFTER_S if alone else 0.0)
            elif answer is not None:
                self._close(answer.stream, answer.kind)
                self.refused += answer.kind is Kind.REFUSED
                self._writer.message(answer.kind, encode(answer.message), stream=answer.stream)
            elif self._may_finish():
                finished, self._finished = self._finished, None
                assert finished is not None
                self._writer.message(Kind.FINISHED, encode(finished()))
        except (OSError, HeteeError):  # the socket is closed, or the keys are wiped
            self.dead = True
        with self._changed:
            self._busy = False
            if self.dead or self._urgent or self._answers or self._finished is not None or self._flushing:
                self._changed.notify_all()
        if self.dead:
            self._lost()

    def _may_finish(self) -> bool:
        with self._lock:
            return self._finished is not None and not self._ledger.open_streams

    def _send_urgent(self, *, more: bool = False) -> None:
        while self._urgent:
            kind, message = self._urgent.popleft()
            self._writer.message(kind, encode(message), more=more)

    def _close(self, stream: int, kind: Kind) -> None:
        # Before the answer is sent: a client that has the answer may open the next stream, or compare counts, at once.
        with self._lock:
            self._ledger.answer(stream, kind)

    def _send_computed(self, answer: BatchOutputs, receipt_after_s: float) -> None:
        batch, writer = answer.batch, self._writer
        stream, chunks, total = batch.stream, answer.chunks, answer.total
        before = writer.encryption_ns, writer.transfer_ns
        # A single large result is announced first, so that host and client wake up while its first chunk is sealed.
        together = total <= SMALL_BYTES or not answer.alone
        self._close(stream, Kind.RESULT)
        writer.message(Kind.RESULT, answer.opening, stream=stream, chunks=chunks, total=total, more=together)
        outputs = batch.hasher()
        for index, chunk in enumerate(answer.cut()):
            if index:  # never delay the first chunk
                self._send_urgent()
            # If other answers are still to be sent, the last chunk waits for the receipt: one call sends both.
            more = not answer.alone and index == chunks - 1
            writer.chunk(
                chunk, stream=stream, chunk=index, chunks=chunks, total=total, context=answer.context, more=more
            )
            outputs.update(chunk)  # while the host passes it on
        batch.times_ns["encryption"] += writer.encryption_ns - before[0]
        batch.times_ns["transfer"] += writer.transfer_ns - before[1]
        if receipt_after_s:
            time.sleep(receipt_after_s)
        receipt = encode(data_messages.SignedReceipt(receipt=self._sign(batch, answer.context, outputs.digest())))
        self._close(stream, Kind.RECEIPT)
        self.answered += 1
        self.sealed_bytes += total
        writer.message(Kind.RECEIPT, receipt, stream=stream)
