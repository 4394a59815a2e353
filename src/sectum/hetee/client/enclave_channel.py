"""The client's end of the data channel to one worker: opens streams, and opens and checks the answers."""

from __future__ import annotations

import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3

from sectum.hetee.channel.handshake import EstablishedSession
from sectum.hetee.client.results import LoadedModel, ReceiptParts, Result, arrays
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.channel import data_channel
from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.data_plane.streams import ChunkReassembly, Ledger
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.verification.evidence import Claims
from sectum.hetee.verification.records import open_receipt
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import TAG_BYTES, Kind, Role
from sectum.hetee.wire.messages import Vouch

_HASHED_S = 2.0  # the client hashes its inputs while the worker computes


@dataclass(eq=False)
class Pending:
    """A stream that waits for its answer.

    Attributes:
        digest: SHA-256 of its model.
        request: SHA-256 of the payload of its opening.
        inputs: gets the BLAKE3 of its plaintext.
        future: gets a `LoadedModel` or a `Result`, or an error.
        signed: gets the verified receipt of a result with what belongs to it, or an error.
        sent_s: when the stream was opened.
        asked: payload of its opening.
        opening: payload of its RESULT.
        described: SHA-256 of the payload of its RESULT.
        tensors: tensors of its result.
        data: memory into which its result is opened.
        outputs: hashes the result, chunk by chunk.
        paced: whether RESULT says that the accelerator is paced.
        encryption_ns: time that this client spent sealing and opening its chunks.
    """

    digest: bytes
    future: Future[Any]
    request: bytes = b""
    inputs: Future[bytes] = field(default_factory=Future)
    signed: Future[ReceiptParts] = field(default_factory=Future)
    sent_s: float = field(default_factory=time.monotonic)
    asked: bytes = b""
    opening: bytes = b""
    described: bytes = b""
    tensors: tuple[Tensor, ...] = ()
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    outputs: blake3 = field(default_factory=blake3)
    paced: bool = False
    encryption_ns: int = 0


def _hashed(pending: Pending) -> bytes:
    try:
        return pending.inputs.result(_HASHED_S)
    except FutureTimeout:
        raise refusal(Refusal.NOT_GENUINE, "a receipt came before its batch was sent") from None


class EnclaveChannel:
    """One worker, for which the controller has vouched. Not thread-safe: `Transport` holds a lock.

    Args:
        session: the established session.
        vouch: the VOUCH, accepted by the policy.
        payload: its opened bytes, from which the keys are derived.
        claims: claims of the worker's evidence.

    Attributes:
        ready: READY of the worker, which proves that it has the keys; None until it comes.
        finished: FINISHED of the worker; None until it comes.
        answered: number of batches that it answered.
        refused: number of models and batches that it refused.
    """

    def __init__(self, session: EstablishedSession, vouch: Vouch, payload: bytes | bytearray, claims: Claims) -> None:
        self.vouch, self.claims = vouch, claims
        self.sealer, self._opener = data_channel(Role.CLIENT, session.worker_secret(payload), session.session_id)
        self._session_id = session.session_id
        self._accepted_s = int(time.time())
        self._assembly = ChunkReassembly()
        self._ledger: Ledger | None = None
        self.pending: dict[int, Pending] = {}
        self.ready: data_messages.Ready | None = None
        self.finished: data_messages.Finished | None = None
        self.answered = self.refused = 0
        self.pong = -1

    @property
    def index(self) -> int:
        """The number of enclaves that the session had before."""
        return self.vouch.index

    # --- opening streams ---

    @property
    def busy(self) -> bool:
        """Whether a stream waits for its answer."""
        return any(not pending.future.done() for pending in tuple(self.pending.values()))

    def room(self, kind: Kind, total: int) -> bool:
        """Whether a stream of ``total`` bytes may be opened now.

        Raises:
            StreamRefused: ``CREDIT_EXCEEDED``, it is larger than the whole credit.
        """
        assert self._ledger is not None
        assert self.ready is not None
        if kind is Kind.BATCH and total > self.ready.credit_bytes:
            detail = f"a batch of {total} bytes, the service takes {self.ready.credit_bytes} at a time"
            raise refusal(Refusal.CREDIT_EXCEEDED, detail)
        return self._ledger.room(kind, total)

    def open(self, kind: Kind, digest: bytes, total: int) -> tuple[int, Pending]:
        """Open a new stream; returns its number and its pending answer."""
        assert self._ledger is not None
        stream = self._ledger.next_stream
        self._ledger.open(Header(kind, 0, stream=stream, total=total))
        pending = self.pending[stream] = Pending(digest, Future())
        for future in (pending.future, pending.signed):  # not cancellable: cancelling a stream takes a CANCEL
            future.set_running_or_notify_cancel()
        return stream, pending

    # --- answers ---

    def receive(self, frame: Frame) -> None:
        """Open and check a frame from the worker.

        Raises:
            HeteeError: the worker may not send this now; nothing of the frame was used.
        """
        header = frame.header
        if header.kind is Kind.CHUNK:
            self._chunk(frame)
            return
        payload = self._opener.open(header, frame.payload)
        message = data_messages.read(header.kind, payload)
        if self.ready is None and not isinstance(message, data_messages.Ready):
            raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} before READY")
        match message:
            case data_messages.Ready():
                self._begin(message)
            case data_messages.Loaded():
                self._loaded(header.stream, message)
            case data_messages.ResultOpening():
                self._result(header, message, bytes(payload))
            case data_messages.SignedReceipt():
                self._receipt(header.stream, message.receipt)
            case messages.Failure():
                self._refused(header.stream, message)
            case data_messages.Credit():
                self._streams().release(message.credit_bytes)
            case data_messages.Finished():
                self.finished = message
            case messages.Ping() if header.kind is Kind.PONG_WORKER:
                self.pong = message.number

    def _streams(self) -> Ledger:
        assert self._ledger is not None
        return self._ledger

    def _begin(self, ready: data_messages.Ready) -> None:
        if self.ready is not None or ready.index != self.index:
            raise refusal(
                Refusal.UNEXPECTED, f"READY of enclave {ready.index}, expected one READY of enclave {self.index}"
            )
        self.ready = ready
        self.pong = 1  # see `Transport`: READY counts as the first PONG
        self._ledger = Ledger(ready.credit_bytes, ready.open_streams)

    def _loaded(self, stream: int, message: data_messages.Loaded) -> None:
        self._streams().answer(stream, Kind.LOADED)
        pending = self.pending.pop(stream)
        if message.sha256 != pending.digest:
            raise refusal(Refusal.DIGEST_DIFFERS, "the worker loaded another model than the one that was sent")
        loaded = LoadedModel(pending.digest, message.inputs, message.outputs, message.load_us / 1e3)
        pending.future.set_result(loaded)

    def _result(self, header: Header, message: data_messages.ResultOpening, payload: bytes) -> None:
        self._streams().answer(header.stream, Kind.RESULT)
        self._assembly.begin(header, payload)
        pending = self.pending[header.stream]
        pending.opening, pending.described = payload, self._assembly.context
        pending.tensors, pending.paced = message.tensors, message.paced
        pending.data = memoryview(np.empty(header.total, np.uint8))  # type: ignore[arg-type]
        if self._assembly.complete:
            self._whole(pending)

    def _chunk(self, frame: Frame) -> None:
        header, n_bytes = frame.header, frame.header.length - TAG_BYTES
        at = self._assembly.place(header, n_bytes)
        pending = self.pending[header.stream]
        begun_ns = time.perf_counter_ns()
        part = pending.data[at : at + n_bytes]
        self._opener.open_into(header, frame.payload, part, context=self._assembly.context)
        pending.encryption_ns += time.perf_counter_ns() - begun_ns
        if self._assembly.take(header, n_bytes):
            self._whole(pending)
        pending.outputs.update(part)  # only the receipt waits for it

    def _whole(self, pending: Pending) -> None:
        """Deliver a complete result. Its records are authentic, so it does not wait for the receipt."""
        # Read-only, because the receipt, which comes later, is compared with them.
        outputs = arrays(pending.tensors, pending.data.toreadonly())
        elapsed_ms = (time.monotonic() - pending.sent_s) * 1e3
        result = Result(outputs, pending.paced, elapsed_ms, pending.encryption_ns / 1e6, pending.signed)
        pending.future.set_result(result)

    def _receipt(self, stream: int, token: bytes) -> None:
        self._streams().answer(stream, Kind.RECEIPT)
        self._assembly.end(stream)
        pending = self.pending[stream]
        receipt = open_receipt(token, self.vouch.receipt_key, self._session_id, self.index, stream)
        said = {
            "model": (receipt.model, pending.digest),
            "measurement": (receipt.measurement, self.claims.measurement),
            "evidence": (receipt.hardware, self.claims.format),
            "confinement": (set(receipt.confinement), set(self.claims.confinement)),
            "pace": (receipt.paced, pending.paced),
            "request": (receipt.request, pending.request),
            "inputs": (receipt.inputs, _hashed(pending)),
            "result": (receipt.result, pending.described),
            "outputs": (receipt.outputs, pending.outputs.digest()),
        }
        wrong = [name for name, (theirs, ours) in said.items() if theirs != ours]
        if wrong:
            raise refusal(Refusal.NOT_GENUINE, f"the receipt does not fit the batch: it names another {wrong[0]}")
        del self.pending[stream]
        self.answered += 1
        pending.signed.set_result(
            ReceiptParts(receipt, token, self.vouch, stream, pending.asked, pending.opening, self._accepted_s)
        )

    def _refused(self, stream: int, message: messages.Failure) -> None:
        self._streams().answer(stream, Kind.REFUSED)
        self.refused += 1
        self.pending.pop(stream).future.set_exception(refusal(message.code, message.detail))

    def fail(self, error: HeteeError) -> None:
        """Fail every stream that waits, and wipe the keys."""
        self.sealer.wipe()
        self._opener.wipe()
        for pending in self.pending.values():
            if not pending.future.done():
                pending.future.set_exception(error)
            pending.signed.set_exception(error)
        self.pending.clear()
