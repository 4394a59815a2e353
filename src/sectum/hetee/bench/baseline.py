"""The client of the plain baseline: the same worker code without sealing, evidence or host."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

from sectum.hetee.client.inputs import Inputs, input_tensors
from sectum.hetee.client.plaintext import Plaintext
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.messages import CodeFormat, Pace, Pixels, Slot
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import ALLOWED, MIB, TAG_BYTES, Kind, Role
from sectum.hetee.wire.messages import Message, decode, encode
from sectum.hetee.worker.plain import PlainRecordReader, PlainRecordWriter

DEADLINE_MS = 600_000
_LOAD_S = 300.0
_START_S = 60.0
_END_S = 10.0


class PlainResult(NamedTuple):
    """The answer to one batch.

    Attributes:
        data: its outputs, one after the other.
        times_ns: gets the times of the worker's steps, which come after the outputs and are not signed.
    """

    data: memoryview
    times_ns: Future[dict[str, int]]


@dataclass(eq=False)
class _Pending:
    future: Future[PlainResult | data_messages.Loaded] = field(default_factory=Future)
    times_ns: Future[dict[str, int]] = field(default_factory=Future)
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    received_bytes: int = 0


class Baseline:
    """A plain worker in a process of its own, and its only client, used in a ``with`` statement.

    Args:
        accelerators: names of its accelerators, such as ``paced:0``.
        threads: number of threads that compute one batch on a CPU.
        credit_bytes: largest total of batches in flight; as granted by the service.
        open_streams: largest number of batches in flight; as granted by the service.
        chunk_bytes: size of the chunks that batches are sent in; None for the usual size.
    """

    def __init__(
        self,
        *accelerators: str,
        threads: int = 1,
        credit_bytes: int = 256 * MIB,
        open_streams: int = 32,
        chunk_bytes: int | None = None,
    ) -> None:
        command = [sys.executable, "-P", "-m", "sectum.hetee.worker.plain", "--threads", str(threads)]
        command += [word for name in accelerators for word in ("--accelerator", name)]
        command += ["--credit-mib", str(credit_bytes // MIB)]
        command += ["--open-streams", str(open_streams)]
        # A session of its own, so that Ctrl-C reaches only the benchmark.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline()
        if not port:
            self._process.wait(_END_S)
            raise refusal(Refusal.HOST_LOST, "the plain worker did not start; its error is above")
        self._socket = socket.create_connection(("127.0.0.1", int(port)), _START_S)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = PlainRecordReader(self._socket, ALLOWED[Role.WORKER, Role.CLIENT])
        self._writer = PlainRecordWriter(self._socket)
        self._chunk_bytes = chunk_bytes
        self._pending: dict[int, _Pending] = {}
        # The worker counts a batch until its receipt, which follows the result. So does this client.
        self._room = threading.Semaphore(open_streams)
        self._stream = 0
        self._digest, self._slots = b"", tuple[Slot, ...]()
        self._receiver = threading.Thread(target=self._receive, name="plain-receive", daemon=True)
        self._receiver.start()

    def __enter__(self) -> Baseline:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the worker may have ended it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._receiver.join()
        self._socket.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def load(self, model: bytes, digest: bytes, kind: CodeFormat = "onnx") -> data_messages.Loaded:
        """Send a model or a training job, whose SHA-256 is ``digest``, and wait until it is loaded.

        Raises:
            HeteeError: the model was refused, or the worker ended.
        """
        code = data_messages.CodeOpening(format=kind, sha256=digest)
        pending = self._send(Kind.CODE, code, Plaintext([memoryview(model)], self._chunk_bytes))
        loaded = pending.future.result(_LOAD_S)
        assert isinstance(loaded, data_messages.Loaded)
        self._digest, self._slots = digest, loaded.inputs
        return loaded

    def submit(
        self, inputs: Inputs, *, pixels: Pixels | None, pace: Pace | None, work: data_messages.Work | None = None
    ) -> Future[PlainResult]:
        """Send a batch, as `sectum.hetee.client.session.Session.submit` does, or ``work`` of a training job.

        Waits while as many batches are in flight as the worker allows.

        Raises:
            HeteeError: the worker ended. Later errors are raised by the future.
        """
        alone = all(pending.future.done() for pending in tuple(self._pending.values()))
        given = input_tensors(inputs, self._slots, pixels)
        batch = data_messages.BatchOpening(
            model=self._digest,
            tensors=tuple(piece.tensor for piece in given),
            deadline_ms=DEADLINE_MS,
            paced=() if pace is None else (pace,),
            work=() if work is None else (work,),
        )
        return self._send(Kind.BATCH, batch, Plaintext.of(given, self._chunk_bytes, alone=alone)).future  # type: ignore[return-value]

    def _send(self, kind: Kind, opening: Message, plaintext: Plaintext) -> _Pending:
        self._room.acquire()
        self._stream += 1
        stream, chunks, total = self._stream, plaintext.chunks, plaintext.total
        pending = self._pending[stream] = _Pending()
        try:
            self._writer.message(kind, encode(opening), stream=stream, chunks=chunks, total=total)
            for index, parts in enumerate(plaintext.cut()):
                part = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
                self._writer.chunk(part, stream=stream, chunk=index, chunks=chunks, total=total, context=b"")
        except OSError as error:
            raise refusal(Refusal.HOST_LOST, f"the plain worker ended: {error}") from None
        return pending

    def _receive(self) -> None:
        ended = refusal(Refusal.HOST_LOST, "the plain worker ended")
        try:
            while (header := self._reader.next()) is not None:
                self._take(header)
        except OSError:
            pass
        except HeteeError as error:
            ended = error
        for pending in list(self._pending.values()):
            if not pending.future.done():
                pending.future.set_exception(ended)
            pending.times_ns.set_exception(ended)
            self._room.release()

    def _take(self, header: Header) -> None:
        if header.kind is Kind.CHUNK:
            pending = self._pending[header.stream]
            begin, end = pending.received_bytes, pending.received_bytes + header.length - TAG_BYTES
            self._reader.chunk(header, pending.data[begin:end], b"")
            pending.received_bytes = end
            if end == len(pending.data):
                pending.future.set_result(PlainResult(pending.data, pending.times_ns))
            return
        payload = self._reader.message(header)
        if header.kind is Kind.RESULT:
            pending = self._pending[header.stream]
            pending.data = memoryview(bytearray(header.total))
            if not header.total:
                pending.future.set_result(PlainResult(pending.data, pending.times_ns))
        elif header.kind is Kind.LOADED:
            self._close(header.stream).future.set_result(decode(payload, data_messages.Loaded))
        elif header.kind is Kind.REFUSED:
            said = decode(payload, messages.Failure)
            self._close(header.stream).future.set_exception(refusal(said.code, said.detail))
        elif header.kind is Kind.RECEIPT:
            times_ns = json.loads(decode(payload, data_messages.SignedReceipt).receipt)["times_ns"]
            self._close(header.stream).times_ns.set_result(times_ns)

    def _close(self, stream: int) -> _Pending:
        self._room.release()
        return self._pending.pop(stream)
