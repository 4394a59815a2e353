"""What comes from the client: one thread opens records, and starts on an item when its last byte is there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sectum.hetee.errors import HeteeError, Refusal, Scope, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import TAG_BYTES, Kind
from sectum.hetee.wire.messages import decode
from sectum.hetee.wire.streams import Assembly, Ledger
from sectum.hetee.wire.tensors import layout
from sectum.hetee.worker.batch import Batch
from sectum.hetee.worker.buffers import anonymous
from sectum.hetee.worker.engine import Load
from sectum.hetee.worker.pacing import Pacing
from sectum.hetee.worker.preparation import Preparation, Task

if TYPE_CHECKING:
    from sectum.hetee.worker.enclave import Enclave


_KNOWN = 16  # messages that are kept decoded, of 64 KiB at most
_UNREAD = 1024  # small messages that may wait for a client that does not read
_NO_MEMORY = refusal(Refusal.INPUT_REFUSED, "the batch needs more memory than there is when it is converted")


class _Model:
    """A CODE whose chunks arrive."""

    def __init__(self, header: Header, message: messages.Code) -> None:
        self.stream, self.message = header.stream, message
        self.data = memoryview(anonymous(header.total))[: header.total]
        self._digest = hashlib.sha256()

    def take(self, chunk: memoryview) -> None:
        self._digest.update(chunk)

    def whole(self) -> Load:
        """What is to be loaded.

        Raises:
            WorkRefused: ``DIGEST_DIFFERS``.
        """
        if self._digest.digest() != self.message.sha256:
            raise refusal(
                Refusal.DIGEST_DIFFERS, f"a model of {len(self.data)} bytes with another SHA-256 than announced"
            )
        return Load(self.stream, bytes(self.data), self.message.sha256, time.perf_counter_ns())


class Intake:
    """Opens what the client sends, and gives it to those who work on it.

    Args:
        enclave: whose intake it is.
        prepare: runs a task in a thread that prepares batches.
    """

    def __init__(self, enclave: Enclave, prepare: Callable[[Task], None]) -> None:
        self._enclave, self._prepare_later = enclave, prepare
        self._inlet = enclave.inlet
        self._ledger: Ledger = enclave.ledger
        self._assembly = Assembly()
        self._receiving: Batch | _Model | None = None
        self._finishing = False
        self._known: dict[bytes, messages.Batch] = {}
        self._last: tuple[Header, messages.Batch] | None = None
        self.opened_bytes = 0

    def run(self) -> None:
        """Take records until there are no more.

        Raises:
            HeteeError: of scope connection; nothing more can be taken.
        """
        while header := self._inlet.next():
            if header.kind is Kind.CHUNK:
                self._chunk(header)
                continue
            try:
                self._message(header, self._inlet.message(header))
            except MemoryError:
                raise refusal(Refusal.INTERNAL, f"no memory for a {header.kind.name} of {header.total} bytes") from None

    def _message(self, header: Header, payload: bytearray) -> None:
        match header.kind:
            case Kind.BATCH:
                self._open(header, payload)
                self._batch(header, self._read(bytes(payload)))
            case Kind.CODE:
                self._open(header, payload)
                self._code(header, decode(payload, messages.Code))
            case Kind.PING_WORKER:
                if self._enclave.answers.unread > _UNREAD:
                    raise refusal(Refusal.UNEXPECTED, f"another PING while {_UNREAD} answers to PINGs are unread")
                self._enclave.answers.now(Kind.PONG_WORKER, decode(payload, messages.Ping))
            case Kind.CANCEL:
                decode(payload, messages.Empty)
                self._enclave.cancel(header.stream)
            case Kind.WAKE:
                decode(payload, messages.Empty)
                self._rehearse()
            case Kind.FINISH:
                decode(payload, messages.Empty)
                self._finishing = True
                self._enclave.finish()
            case other:
                raise refusal(Refusal.UNEXPECTED, f"{other.name}, for which this worker did not ask")

    def _read(self, payload: bytes) -> messages.Batch:
        """Decode a BATCH. Those of one client are few and come again and again, so they are kept."""
        message = self._known.get(payload)
        if message is None:
            message = decode(payload, messages.Batch)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[payload] = message
        return message

    def _open(self, header: Header, payload: bytearray) -> None:
        if self._finishing:
            raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} after FINISH")
        # CODE and its chunks exclude everything else that has chunks; `begin` refuses that.
        self._assembly.begin(header, payload)
        with self._enclave.lock:
            self._ledger.open(header)

    def _code(self, header: Header, message: messages.Code) -> None:
        self._receiving = _Model(header, message)
        self._enclave.opened_model(header.stream)
        if self._assembly.complete:
            self._complete()

    def _batch(self, header: Header, message: messages.Batch) -> None:
        batch = Batch(header, message, self._enclave.buffers.take(header.total))
        self._receiving = batch
        self._last = header, message
        self._enclave.opened(batch)
        try:
            self._prepare(batch)
        except HeteeError as error:
            if error.code.scope is not Scope.STREAM:
                raise
            # Its chunks come all the same: they are opened, and looked at no more.
            self._enclave.refuse(batch, error)
        except MemoryError:
            self._enclave.refuse(batch, _NO_MEMORY)
        if self._assembly.complete:
            self._complete()

    def _rehearse(self) -> None:
        """Plan for the last batch again, as the next one is coming: code that just ran is fast."""
        enclave = self._enclave
        if self._last is None or not enclave.idle:
            return
        with suppress(HeteeError, MemoryError):
            header, message = self._last
            batch = Batch(header, message, enclave.buffers.take(header.total))
            try:
                self._prepare(batch)
            finally:
                enclave.forget(batch)

    def _prepare(self, batch: Batch) -> None:
        enclave, message = self._enclave, batch.message
        if enclave.draining:
            raise refusal(Refusal.CANCELLED, "the enclave is being closed and takes no new batch")
        places = layout(message.tensors, batch.header.total)
        model = enclave.engine.model(message.model)
        if model is None:
            raise refusal(Refusal.NO_MODEL, f"no model {message.model.hex()[:16]}... is loaded")
        known = {slot.name for slot in model.outputs}
        wanted = message.outputs
        if not set(wanted) <= known or len(set(wanted)) != len(wanted):
            raise refusal(Refusal.INPUT_REFUSED, "an output that the model does not have, or one asked for twice")
        batch.model = model
        paced = bool(batch.pace and batch.pace.preprocess_us)
        batch.preparation = Preparation(places, model, batch.data, enclave.buffers.take, paced=paced)
        batch.items = batch.preparation.items
        if paced and batch.pace is not None:
            batch.pacing = Pacing(batch.pace.preprocess_us / 1e6, batch.items, batch.header.total, batch.stop)

    def _chunk(self, header: Header) -> None:
        receiving, inlet = self._receiving, self._inlet
        n_bytes = header.length - TAG_BYTES
        try:
            begin = self._assembly.place(header, n_bytes)
        except HeteeError:
            # Only an authentic chunk is the client's fault; any other is refused as what somebody made of it.
            inlet.chunk(header, memoryview(bytearray(n_bytes)), self._assembly.context)
            raise
        assert receiving is not None
        part = receiving.data[begin : begin + n_bytes]
        before = inlet.encryption_ns
        inlet.chunk(header, part, self._assembly.context)
        complete = self._assembly.take(header, n_bytes)
        self.opened_bytes += n_bytes
        if isinstance(receiving, _Model):
            receiving.take(part)
        else:
            receiving.times_ns["encryption"] += inlet.encryption_ns - before
            receiving.times_ns["transfer"] += inlet.transfer_ns
            self._start(receiving, begin + n_bytes)
        if complete:
            self._complete()

    def _start(self, batch: Batch, opened_bytes: int) -> None:
        if batch.preparation is None or batch.answered:
            return
        for task in batch.preparation.due(opened_bytes):
            batch.hold()
            self._prepare_later(partial(self._do, batch, task, None))
        if batch.pacing is not None:
            # The time that is waited for runs from here on, whenever a thread begins to wait for its end.
            begun_ns = time.perf_counter_ns()
            for task in batch.pacing.due(opened_bytes):
                batch.hold()
                self._prepare_later(partial(self._do, batch, task, begun_ns))

    def _complete(self) -> None:
        receiving, self._receiving = self._receiving, None
        if isinstance(receiving, _Model):
            try:
                self._enclave.engine.submit(receiving.whole())
            except HeteeError as error:
                self._enclave.refuse_model(receiving.stream, error)
            return
        assert receiving is not None
        batch = receiving
        self._start(batch, batch.header.total)
        if not batch.answered:
            late = refusal(Refusal.DEADLINE, f"not computed within {batch.message.deadline_ms} ms")
            self._enclave.deadlines.add(
                batch.stream, batch.message.deadline_ms / 1e3, partial(self._enclave.refuse, batch, late)
            )
        if batch.let_go():
            self._enclave.ready(batch)

    def _do(self, batch: Batch, task: Task, begun_ns: int | None) -> None:
        """In a thread of the pool: one part of preparing a batch."""
        try:
            if not batch.answered:
                batch.prepare(task, begun_ns)
        except HeteeError as error:
            self._enclave.refuse(batch, error)
        except MemoryError:
            self._enclave.refuse(batch, _NO_MEMORY)
        if batch.let_go():
            self._enclave.ready(batch, here=True)
