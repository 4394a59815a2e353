"""Receives what the client sends. One thread opens records, and an item is prepared as soon as it is complete."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.streams import ChunkReassembly
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.errors import HeteeError, Refusal, Scope, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import CHUNK_BYTES, TAG_BYTES, Kind
from sectum.hetee.wire.messages import decode
from sectum.hetee.worker.batch_job import BatchJob, Hasher
from sectum.hetee.worker.buffers import anonymous
from sectum.hetee.worker.load_job import LoadJob
from sectum.hetee.worker.open_streams import OpenStreams
from sectum.hetee.worker.pacing import Pacing
from sectum.hetee.worker.preparation import Preparation, Task
from sectum.hetee.worker.records import RecordReader
from sectum.hetee.worker.training.checked_job import CheckedJob

_KNOWN = 16  # decoded messages that are kept, of at most 64 KiB each
_UNREAD = 1024  # small messages that may wait for a client that does not read
_NO_MEMORY = refusal(Refusal.INPUT_REFUSED, "converting the batch needs more memory than the worker may use")


def _too_large(n_bytes: int) -> HeteeError:
    return refusal(Refusal.MODEL_REFUSED, f"there is no memory for a model of {n_bytes} bytes")


class _IncomingModel:
    """A CODE whose chunks are arriving. ``refused`` says why it is refused already; then they are ignored."""

    def __init__(self, header: Header, message: data_messages.CodeOpening, refused: HeteeError | None) -> None:
        self.stream, self.message, self.refused = header.stream, message, refused
        try:
            self.data = memoryview(anonymous(0 if refused else header.total))[: header.total]
        except MemoryError:
            self.refused = _too_large(header.total)
        if self.refused is not None:
            self.data = memoryview(bytearray(CHUNK_BYTES))  # its chunks are opened one over the other
        self._digest = hashlib.sha256()

    def take(self, chunk: memoryview) -> None:
        self._digest.update(chunk)

    def job(self) -> LoadJob:
        """The complete model, to be loaded.

        Raises:
            WorkRefused: ``DIGEST_DIFFERS``; or ``MODEL_REFUSED``.
        """
        if self.refused is not None:
            raise self.refused
        if self._digest.digest() != self.message.sha256:
            raise refusal(
                Refusal.DIGEST_DIFFERS, f"the SHA-256 of the model ({len(self.data)} bytes) is not the announced one"
            )
        try:
            content = bytes(self.data)
        except MemoryError:
            raise _too_large(len(self.data)) from None
        return LoadJob(self.stream, content, self.message.sha256, time.perf_counter_ns(), self.message.format)


class Receiver:
    """Opens what the client sends, and passes it on to those who work on it.

    Args:
        reader: receives records.
        streams: the open streams of the session.
        prepare: runs a task in one of the threads that prepare batches.
        hasher: hashes the plaintext of batches.
    """

    def __init__(
        self, reader: RecordReader, streams: OpenStreams, prepare: Callable[[Task], None], hasher: Hasher
    ) -> None:
        self._reader, self._streams, self._prepare_later, self._hasher = reader, streams, prepare, hasher
        self._reassembly = ChunkReassembly()
        self._receiving: BatchJob | _IncomingModel | None = None
        self._finishing = False
        self._known: dict[bytes, data_messages.BatchOpening] = {}

    def run(self) -> None:
        """Receive records until there are no more.

        Raises:
            HeteeError: a refusal of scope connection; nothing more can be received.
        """
        while header := self._reader.next():
            try:
                if header.kind is Kind.CHUNK:
                    self._chunk(header)
                else:
                    self._message(header, self._reader.message(header))
            except MemoryError:
                raise refusal(Refusal.INTERNAL, f"no memory for a {header.kind.name} of {header.total} bytes") from None

    def _message(self, header: Header, payload: bytearray) -> None:
        streams = self._streams
        match header.kind:
            case Kind.BATCH:
                self._open(header, payload)
                self._batch(header, self._decode_batch(bytes(payload)))
            case Kind.CODE:
                self._open(header, payload)
                self._code(header, decode(payload, data_messages.CodeOpening))
            case Kind.PING_WORKER:
                if streams.answers.unread > _UNREAD:
                    raise refusal(Refusal.UNEXPECTED, f"another PING while {_UNREAD} messages wait to be read")
                streams.answers.now(Kind.PONG_WORKER, decode(payload, messages.Ping))
            case Kind.UNLOAD:
                streams.engine.unload(decode(payload, data_messages.CodeOpening).sha256)
            case Kind.CANCEL:
                decode(payload, messages.Empty)
                streams.cancel(header.stream)
            case Kind.FINISH:
                decode(payload, messages.Empty)
                self._finishing = True
                streams.finish()
            case other:
                raise refusal(Refusal.UNEXPECTED, f"{other.name}, for which this worker did not ask")

    def _decode_batch(self, payload: bytes) -> data_messages.BatchOpening:
        """Decode a BATCH. One client sends the same few again and again, so they are kept."""
        message = self._known.get(payload)
        if message is None:
            message = decode(payload, data_messages.BatchOpening)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[payload] = message
        return message

    def _open(self, header: Header, payload: bytearray) -> None:
        if self._finishing:
            raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} after FINISH")
        # `begin` refuses an opening while chunks of another stream are missing.
        self._reassembly.begin(header, payload)
        with self._streams.lock:
            self._streams.ledger.open(header)

    def _code(self, header: Header, message: data_messages.CodeOpening) -> None:
        streams = self._streams
        streams.add_model(header.stream)
        refused = streams.engine.refuse_model(message.sha256, header.total)
        self._receiving = incoming = _IncomingModel(header, message, refused)
        if incoming.refused is not None:  # the client knows at once, and still sends its chunks
            streams.refuse_model(header.stream, incoming.refused)
        if self._reassembly.complete:
            self._complete()

    def _batch(self, header: Header, message: data_messages.BatchOpening) -> None:
        data = self._streams.buffers.take(header.total)
        batch = BatchJob(header, message, data, self._reassembly.context, self._hasher)
        self._receiving = batch
        self._streams.add_batch(batch)
        try:
            self._prepare(batch)
        except HeteeError as error:
            if error.code.scope is not Scope.STREAM:
                raise
            # The client still sends its chunks. They are opened and ignored.
            self._streams.refuse(batch, error)
        except MemoryError:
            self._streams.refuse(batch, _NO_MEMORY)
        if self._reassembly.complete:
            self._complete()

    def _prepare(self, batch: BatchJob) -> None:
        streams, message = self._streams, batch.message
        if streams.draining:
            raise refusal(Refusal.CANCELLED, "the enclave is being closed and takes no new batch")
        places = layout(message.tensors, batch.header.total)
        model = streams.engine.model(message.model)
        if model is None:
            raise refusal(Refusal.NO_MODEL, f"no model {message.model.hex()[:16]}... is loaded")
        inputs, batch.outputs = model.takes(message)
        batch.model = model
        paced = bool(batch.pace and batch.pace.preprocess_us)
        batch.preparation = Preparation(places, inputs, batch.data, streams.buffers.take, paced=paced)
        batch.items = batch.preparation.items
        if paced and batch.pace is not None:
            batch.pacing = Pacing(batch.pace.preprocess_us / 1e6, batch.items, batch.header.total, batch.stop)
        if isinstance(model, CheckedJob):
            batch.lane = model.lane
            batch.lane.open(batch)

    def _chunk(self, header: Header) -> None:
        receiving, reader = self._receiving, self._reader
        n_bytes = header.length - TAG_BYTES
        try:
            begin = self._reassembly.place(header, n_bytes)
        except HeteeError:
            # Only an authentic chunk is the client's fault. A forged one is refused as not authentic.
            reader.chunk(header, memoryview(bytearray(n_bytes)), self._reassembly.context)
            raise
        assert receiving is not None
        begin = 0 if isinstance(receiving, _IncomingModel) and receiving.refused is not None else begin
        part = receiving.data[begin : begin + n_bytes]
        before = reader.encryption_ns
        reader.chunk(header, part, self._reassembly.context)
        complete = self._reassembly.take(header, n_bytes)
        self._streams.opened_bytes += n_bytes
        if isinstance(receiving, _IncomingModel):
            receiving.take(part)
        else:
            receiving.times_ns["encryption"] += reader.encryption_ns - before
            receiving.times_ns["transfer"] += reader.transfer_ns
            self._start(receiving, begin + n_bytes)
            receiving.inputs.update(part)  # while other threads prepare it
        if complete:
            self._complete()

    def _start(self, batch: BatchJob, opened_bytes: int) -> None:
        if batch.preparation is None or batch.answered:
            return
        for task in batch.preparation.due(opened_bytes):
            batch.hold()
            self._prepare_later(partial(self._do, batch, task, None))
        if batch.pacing is not None:
            # Paced time runs from now, not from when a thread begins to wait for its end.
            begun_ns = time.perf_counter_ns()
            for task in batch.pacing.due(opened_bytes):
                batch.hold()
                self._prepare_later(partial(self._do, batch, task, begun_ns))

    def _complete(self) -> None:
        streams = self._streams
        receiving, self._receiving = self._receiving, None
        if isinstance(receiving, _IncomingModel):
            try:
                streams.engine.submit(receiving.job())
            except HeteeError as error:
                streams.refuse_model(receiving.stream, error)
            return
        assert receiving is not None
        batch = receiving
        if not batch.header.chunks:
            self._start(batch, 0)
        if not batch.answered:
            streams.deadlines.add(batch.stream, batch.message.deadline_ms / 1e3, partial(self._late, batch))
        if batch.let_go():
            streams.ready(batch)

    def _late(self, batch: BatchJob) -> None:
        detail = f"not computed within {batch.message.deadline_ms} ms"
        self._streams.refuse(batch, refusal(Refusal.DEADLINE, detail))

    def _do(self, batch: BatchJob, task: Task, begun_ns: int | None) -> None:
        """Do one part of preparing a batch, in a thread of the pool."""
        try:
            if not batch.answered:
                batch.prepare(task, begun_ns)
        except HeteeError as error:
            self._streams.refuse(batch, error)
        except MemoryError:
            self._streams.refuse(batch, _NO_MEMORY)
        if batch.let_go():
            self._streams.ready(batch, here=True)
