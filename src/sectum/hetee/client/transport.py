"""The transport of a session: sends and receives records, and watches both peers, in threads of its own."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from typing import Any

from blake3 import blake3

from sectum.hetee.attest.evidence import NONCE_BYTES
from sectum.hetee.attest.records import Cleaning
from sectum.hetee.client.connection import Connection
from sectum.hetee.client.enclave_channel import EnclaveChannel, Pending
from sectum.hetee.client.liveness import CHECKED_EVERY_S, LOST_AFTER_S, PING_EVERY_S, LivenessMonitor
from sectum.hetee.client.plaintext import Plaintext
from sectum.hetee.client.trust import Trust
from sectum.hetee.errors import HeteeError, Refusal, Scope, refusal
from sectum.hetee.verification.records import open_cleaning
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.header import HEADER_BYTES
from sectum.hetee.wire.kinds import CHUNK_BYTES, MESSAGE_BYTES, TAG_BYTES, Kind, Plane
from sectum.hetee.wire.messages import Message, decode, encode
from sectum.hetee.wire.schemas import read

# No thread waits for these: waking threads for each chunk would cost more than opening it.
_UNAWAITED = frozenset({Kind.RESULT, Kind.CHUNK, Kind.PONG, Kind.PONG_WORKER})
_PONGS = frozenset({Kind.READY, Kind.PONG_WORKER})
# The opening of a smaller batch, if no other is pending, is sent ahead of its chunks, so that host and worker wake up
# while the first chunk is sealed. Otherwise opening and first chunk are sent with one call.
_MUCH_BYTES = 1 << 20
ATTEST_EVERY_S = 3600.0
_ATTEST_S = 10.0
_STARVED_S = 0.3


@lru_cache(maxsize=64)
def _written(opening: Message) -> tuple[bytes, bytes]:
    """The payload of an opening and its SHA-256, cached because one client's batches have equal openings.

    Raises:
        WorkRefused: ``INPUT_REFUSED``, a worker would end the session because of it.
    """
    try:
        payload = encode(opening)
        decode(payload, type(opening))
    except (HeteeError, OverflowError):
        payload = b""
    if not payload or len(payload) > MESSAGE_BYTES - TAG_BYTES:
        raise refusal(
            Refusal.INPUT_REFUSED,
            "the batch exceeds a limit: 64 tensors, 8 dimensions of up to 2^31, 16,384 images or strings in a tensor, "
            "names of 256 characters, a deadline of 600,000 ms, and 64 KiB for the whole description",
        )
    return payload, hashlib.sha256(payload).digest()


def _hashed(chunks: Iterator[list[memoryview]], whole: blake3) -> Iterator[list[memoryview]]:
    """The same chunks, each hashed when the next one is asked for: the worker opens it meanwhile."""
    for parts in chunks:
        yield parts
        for part in parts:
            whole.update(part)


class Transport:
    """One connection and the enclave behind it.

    Args:
        connection: a connection to a controller whose evidence was accepted.
        trust: verifies and validates the evidence of workers.
        attest_every_s: the controller has to attest itself again after this time.

    Attributes:
        changed: guards the attributes below, and is notified when one of them changes.
        enclave: channel to the current worker; None while there is none.
        accept: ACCEPT of the controller; None until it comes.
        failed: why the session has ended; None while it is open.
        refused: a refused request, until `Session` raises it.
        draining: whether the service takes no new stream.
        enclaves: number of enclaves so far.
        queued: number of sessions before this one in the queue.
        cleanings: verified records of the ends of enclaves, by their index.
        resized: the answer to the last RESIZE; None until it comes.
        resizing: whether the client waits for it.
        finishing: whether the client waits for FINISHED.
        ending: whether the client waits for the end of the session.
    """

    def __init__(self, connection: Connection, trust: Trust, attest_every_s: float = ATTEST_EVERY_S) -> None:
        self.connection, self._trust = connection, trust
        self._attest_every_s, self._attested_s = attest_every_s, time.monotonic()
        self._challenge = b""  # the one that the controller has not answered yet
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self.enclave: EnclaveChannel | None = None
        self.accept: messages.Accept | None = None
        self.failed: HeteeError | None = None
        self.refused: HeteeError | None = None
        self.resized: messages.Resized | None = None
        self.draining = self.resizing = self.finishing = self.ending = False
        self.enclaves = self.queued = 0
        self.cleanings: dict[int, Cleaning] = {}
        self._waiting = True
        self._over = threading.Event()
        self._one_stream = threading.Lock()
        self._frames = memoryview(bytearray(2 * (HEADER_BYTES + TAG_BYTES) + MESSAGE_BYTES + CHUNK_BYTES))
        self._controller, self._worker = LivenessMonitor(), LivenessMonitor()
        self._threads = [
            threading.Thread(target=self._receive, name="sectum-receive", daemon=True),
            threading.Thread(target=self._watch, name="sectum-watch", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # --- sending ---

    def control(self, kind: Kind, message: Message) -> None:
        """Send a message to the controller.

        Raises:
            HeteeError: the connection has ended, or its keys are wiped.
        """
        sealer = self.connection.session.sealer
        self.connection.send(lambda: sealer.seal(kind, encode(message)))

    def to_worker(self, enclave: EnclaveChannel, kind: Kind, message: Message, *, stream: int = 0) -> None:
        """Send a message to the worker.

        Raises:
            HeteeError: as `control`.
        """
        self.connection.send(lambda: enclave.sealer.seal(kind, encode(message), stream=stream))

    def cancel(self, future: Future[Any]) -> None:
        """Tell the worker that the answer that this future gets is no longer wanted."""
        with self.changed:
            enclave = self.enclave
            waiting = enclave.pending.items() if enclave is not None else ()
            stream = next((n for n, pending in waiting if pending.future is future and not future.done()), None)
        if enclave is not None and stream is not None:
            with suppress(HeteeError):  # lost meanwhile
                self.to_worker(enclave, Kind.CANCEL, messages.Empty(), stream=stream)

    def send_stream(
        self,
        enclave: EnclaveChannel,
        kind: Kind,
        opening: Message,
        digest: bytes,
        plaintext: Plaintext,
        timeout_s: float,
    ) -> Pending:
        """Open a stream and send all of it. Later errors are raised by the future.

        Raises:
            HeteeError: the stream cannot be opened.
        """
        payload, context = _written(opening)
        total, chunks = plaintext.total, plaintext.chunks
        together = bool(chunks) and (total >= _MUCH_BYTES or not plaintext.alone)
        with self._one_stream:
            stream, pending = self._open(enclave, kind, digest, total, timeout_s)
            pending.request, pending.asked = context, payload
            try:
                cut, inputs = plaintext.cut(), blake3()
                if kind is Kind.BATCH:
                    cut = _hashed(cut, inputs)

                def begin() -> memoryview:
                    frames, sealer = self._frames, enclave.sealer
                    at = sealer.seal_into(kind, payload, frames, stream=stream, chunks=chunks, total=total)
                    if together:
                        at += self._seal(enclave, pending, next(cut), context, (stream, 0, chunks, total), frames[at:])
                    return frames[:at]

                self.connection.send(begin)
                for chunk, parts in enumerate(cut, int(together)):
                    numbers = stream, chunk, chunks, total
                    self.connection.send(
                        lambda parts=parts, numbers=numbers: self._frames[  # type: ignore[misc]
                            : self._seal(enclave, pending, parts, context, numbers, self._frames)
                        ]
                    )
                pending.inputs.set_result(inputs.digest())
            except HeteeError as error:
                # The sealer of a lost worker is wiped; `EnclaveChannel.fail` has already failed its streams.
                if not pending.future.done():
                    self.fail(error)
        return pending

    def _open(
        self, enclave: EnclaveChannel, kind: Kind, digest: bytes, total: int, timeout_s: float
    ) -> tuple[int, Pending]:
        def room() -> bool:
            if self.enclave is not enclave:
                raise refusal(Refusal.WORKER_LOST, "the enclave was lost before the batch was sent")
            return enclave.room(kind, total)

        with self.changed:
            self.until(
                room, timeout_s, Refusal.DEADLINE, "the worker granted no credit for the batch within its deadline"
            )
            if self.draining:
                raise refusal(Refusal.DRAINING, "the service is being stopped and takes no more batches")
            return enclave.open(kind, digest, total)

    @staticmethod
    def _seal(
        enclave: EnclaveChannel,
        pending: Pending,
        parts: list[memoryview],
        context: bytes,
        numbers: tuple[int, int, int, int],
        out: memoryview,
    ) -> int:
        """Seal a chunk into ``out``; ``numbers`` are stream, index, count and total. Returns the frame's length."""
        begun_ns = time.perf_counter_ns()
        if len(parts) == 1:
            plaintext = parts[0]
        else:  # join the parts where the chunk is sealed
            end = HEADER_BYTES
            for part in parts:
                out[end : end + len(part)] = part
                end += len(part)
            plaintext = out[HEADER_BYTES:end]
        stream, chunk, chunks, total = numbers
        n_bytes = enclave.sealer.seal_into(
            Kind.CHUNK, plaintext, out, stream=stream, chunk=chunk, chunks=chunks, total=total, context=context
        )
        pending.encryption_ns += time.perf_counter_ns() - begun_ns
        return n_bytes

    # --- waiting, ending ---

    def until(self, true: Callable[[], bool], timeout_s: float, code: Refusal, otherwise: str) -> None:
        """Wait until ``true()`` returns True.

        Raises:
            HeteeError: the session ended first, with its reason; or the time ran out, with ``code`` and ``otherwise``.
        """
        with self.changed:
            done = self.changed.wait_for(lambda: self.failed is not None or true(), timeout_s)
            if self.failed is not None:
                raise self.failed
        if not done:
            raise refusal(code, otherwise)

    def fail(self, error: HeteeError) -> None:
        """End the session with an error. Only the first call has an effect."""
        with self.changed:
            if self.failed is not None:
                return
            # A service that refuses a request and then ends the connection has said why.
            ended = error.code is Refusal.HOST_LOST and self.refused is not None
            self.failed = error = self.refused if ended and self.refused is not None else error
            enclave, self.enclave = self.enclave, None
            if enclave is not None:
                enclave.fail(error)
            self.changed.notify_all()
        self._over.set()
        self.connection.shutdown()

    def close(self) -> None:
        """End the session if it is open, and wait for the threads."""
        self.fail(refusal(Refusal.WIPED, "the session was closed"))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self.connection.close()

    # --- receiving ---

    def _receive(self) -> None:
        self.fail(self.connection.frames(self._handle_frame))

    def _handle_frame(self, frame: Frame) -> None:
        kind = frame.header.kind
        with self._lock:
            if kind.plane is Plane.DATA:
                self._worker.moved()
                if self.enclave is not None:
                    self.enclave.receive(frame)
                    if kind in _PONGS:
                        self._worker.pong(self.enclave.pong)
            else:
                self._controller.moved()
                self._handle_control(frame)
            if kind not in _UNAWAITED:
                self.changed.notify_all()

    def _handle_control(self, frame: Frame) -> None:
        kind = frame.header.kind
        payload = self.connection.session.opener.open(frame.header, frame.payload)
        message = read(kind, payload)
        match message:
            case messages.Accept():
                self.accept = message
            case messages.Queued():
                self.queued = message.ahead
            case messages.Vouch():
                self._vouched(message, payload)
            case messages.Resized():
                if not self.resizing or self.resized is not None:
                    raise refusal(Refusal.UNEXPECTED, "RESIZED without its RESIZE")
                self.resized = message
            case messages.Lost():
                self._lost(message)
            case messages.Cleaned():
                self._cleaned(message.record, self.enclaves - 1)
            case messages.Deadline():
                self.draining = True
            case messages.Failure():
                error = refusal(message.code, message.detail)
                if message.code.scope is Scope.CONNECTION:
                    raise error
                self.refused, self._waiting = error, False
            case messages.FreshEvidence():
                self._attested(message.evidence)
            case messages.Ping() if kind is Kind.PING:
                self.control(Kind.PONG, message)
            case messages.Ping():
                self._controller.pong(message.number)

    def _vouched(self, vouch: messages.Vouch, payload: bytearray) -> None:
        if self.enclave is not None or vouch.index != self.enclaves:
            raise refusal(Refusal.UNEXPECTED, f"VOUCH of enclave {vouch.index}, expected {self.enclaves}")
        session = self.connection.session
        claims = self._trust.check_worker(vouch, session)
        self.enclaves, self._waiting, self._worker = vouch.index + 1, False, LivenessMonitor()
        self._worker.ping(0)  # READY answers the VOUCH as PONG answers a PING
        self.enclave = EnclaveChannel(session, vouch, payload, claims)

    def _lost(self, lost: messages.Lost) -> None:
        enclave, self.enclave = self.enclave, None
        self._waiting = True
        if enclave is None or enclave.index != lost.index:
            raise refusal(Refusal.UNEXPECTED, f"LOST of enclave {lost.index}, which does not exist")
        enclave.fail(refusal(Refusal.WORKER_LOST, lost.detail))
        self._cleaned(lost.record, lost.index)

    def _cleaned(self, record: bytes, index: int) -> None:
        assert self._trust.controller is not None
        session_id, signer = self.connection.session.session_id, self._trust.controller.signer
        self.cleanings[index] = open_cleaning(record, signer, session_id, index)

    def _attested(self, evidence: bytes) -> None:
        if not self._challenge:
            raise refusal(Refusal.UNEXPECTED, "EVIDENCE without its CHALLENGE")
        self._trust.check_again(evidence, self.connection.session.renewal_nonce(self._challenge))
        self._attested_s, self._challenge = time.monotonic(), b""  # in this order: see `_challenge_if_due`

    # --- watching ---

    def _challenge_if_due(self) -> None:
        """In a long session, have the controller attest itself again."""
        late_s = time.monotonic() - self._attested_s - self._attest_every_s
        if self._challenge and late_s > _ATTEST_S:
            raise refusal(Refusal.STALE, f"the controller did not attest itself again within {_ATTEST_S:g} s")
        if not self._challenge and late_s >= 0 and self.accept is not None and not self.ending:
            self._challenge = secrets.token_bytes(NONCE_BYTES)
            self.control(Kind.CHALLENGE, messages.Challenge(nonce=self._challenge))

    def _watch(self) -> None:
        while True:
            begun_s = time.monotonic()
            if self._over.wait(CHECKED_EVERY_S):
                return
            # If this thread itself was not scheduled in time, silence says nothing about the peers.
            starved = time.monotonic() > begun_s + _STARVED_S
            received_bytes = self.connection.received_bytes()
            for monitor in (self._controller, self._worker):
                monitor.received(received_bytes)
                if starved:
                    monitor.moved()
            try:
                self._check_liveness()
                self._challenge_if_due()
            except HeteeError as error:
                self.fail(error)
                return

    def _check_liveness(self) -> None:
        enclave = self.enclave
        ready = enclave is not None and enclave.ready is not None
        busy = enclave is not None and (not ready or self.finishing or bool(enclave.pending))
        idle_s = self.accept.idle_ms / 4e3 if self.accept is not None else PING_EVERY_S
        if self._controller.lost:
            raise refusal(Refusal.CONTROLLER_LOST, f"the controller did not answer a PING within {LOST_AFTER_S:g} s")
        if busy and self._worker.lost:
            what = "answer a PING" if ready else "prove that it has the keys"
            raise refusal(Refusal.WORKER_LOST, f"the worker did not {what} within {LOST_AFTER_S:g} s")
        waiting = self._waiting or self.resizing or self.ending
        if self._controller.due(PING_EVERY_S if busy or waiting else idle_s):
            self.control(Kind.PING, messages.Ping(number=self._controller.ping(self.connection.sent_bytes)))
        if enclave is not None and ready and busy and self._worker.due(PING_EVERY_S):
            with suppress(HeteeError):  # lost meanwhile: LOST follows
                self.to_worker(
                    enclave, Kind.PING_WORKER, messages.Ping(number=self._worker.ping(self.connection.sent_bytes))
                )
