"""A minimal controller and client for one real worker, for tests of the worker and for measuring it alone.

It follows the protocol, one call at a time, and checks little. The real client and controller are in `sectum.hetee`.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hetee_simple_reader import SimpleFrameReader
from sectum.hetee.channel.release import release
from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.channel import data_channel
from sectum.hetee.data_plane.receipts import Receipt
from sectum.hetee.data_plane.streams import ChunkReassembly
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.verification.records import open_receipt
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.header import HEADER_BYTES, Header, chunks_needed
from sectum.hetee.wire.kinds import ALLOWED, TAG_BYTES, Kind, Role
from sectum.hetee.wire.messages import Message, decode, encode
from sectum.hetee.worker.preparation import as_tensor as travelling

M = TypeVar("M", bound=Message)

SESSION = bytes(range(16))
SECRET = hashlib.sha256(b"of no value: for tests").digest()
INDEX = 0
DEADLINE_MS = 60_000
_TIMEOUT_S = 30.0


class Answer(NamedTuple):
    """The answer to a stream: outputs and a receipt, or a refusal."""

    outputs: dict[str, NDArray[Any]]
    receipt: Receipt | None
    refused: messages.Failure | None
    paced: bool = False


class Link:
    """The controller's end of the link to a worker."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(_TIMEOUT_S)
        self._socket = sock
        self._reader = SimpleFrameReader(ALLOWED[Role.WORKER, Role.CONTROLLER])

    def send(self, kind: Kind, message: Message) -> None:
        """Send a message."""
        self._socket.sendall(plain_frame(kind, encode(message)))

    def close(self) -> None:
        """Close the link, as a controller that dies does."""
        self._socket.close()

    def receive(self, kind: Kind, schema: type[M]) -> M:
        """Wait for a message of this kind; heartbeats in between are dropped."""
        while True:
            n_bytes = self._socket.recv_into(self._reader.writable())
            if not n_bytes:
                raise EOFError(f"the worker ended before {kind.name}")
            frame = self._reader.advance(n_bytes)
            if frame and frame.header.kind is kind:
                return decode(frame.payload, schema)
            assert not frame or frame.header.kind is Kind.HEARTBEAT, f"{frame.header.kind.name}, expected {kind.name}"


class Client:
    """The client's end of the data channel.

    Args:
        sock: the other end of the worker's descriptor 4.
        receipt_key: receipt key from STARTED.
        chunk_bytes: plaintext bytes of a chunk.
    """

    def __init__(self, sock: socket.socket, receipt_key: bytes, *, chunk_bytes: int = 1 << 18) -> None:
        sock.settimeout(_TIMEOUT_S)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.socket, self._receipt_key, self._chunk_bytes = sock, receipt_key, chunk_bytes
        self.sealer, self.opener = data_channel(Role.CLIENT, Secret(SECRET), SESSION)
        self._reader = SimpleFrameReader(ALLOWED[Role.WORKER, Role.CLIENT])
        self._frame = memoryview(bytearray(HEADER_BYTES + chunk_bytes + TAG_BYTES))
        self.stream = self.credited_bytes = 0

    def send(self, kind: Kind, message: Message, *, stream: int = 0, chunks: int = 0, total: int = 0) -> None:
        """Seal a message and send it."""
        self.socket.sendall(self.sealer.seal(kind, encode(message), stream=stream, chunks=chunks, total=total))

    def receive(self) -> tuple[Header, bytearray]:
        """Wait for a record that is no chunk, and open it."""
        header, payload = self._next()
        return header, self.opener.open(header, payload)

    def _next(self) -> tuple[Header, memoryview]:
        while True:
            n_bytes = self.socket.recv_into(self._reader.writable(), 0, socket.MSG_WAITALL)
            if not n_bytes:
                raise EOFError("the worker closed its data socket")
            if frame := self._reader.advance(n_bytes):
                return frame

    def expect(self, kind: Kind, schema: type[M]) -> M:
        """Wait for a message of this kind; CREDIT in between is dropped."""
        while True:
            header, payload = self.receive()
            if header.kind is kind:
                return decode(payload, schema)
            assert header.kind is Kind.CREDIT, f"{header.kind.name}, expected {kind.name}"

    def open_stream(self, kind: Kind, message: Message, parts: Sequence[memoryview]) -> int:
        """Send CODE or BATCH with all its chunks; ``parts`` are its plaintext. Returns the stream's number."""
        self.stream += 1
        total = sum(map(len, parts))
        chunks = chunks_needed(total, self._chunk_bytes)
        opening = encode(message)
        self.socket.sendall(self.sealer.seal(kind, opening, stream=self.stream, chunks=chunks, total=total))
        context = hashlib.sha256(opening).digest()
        whole = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
        for index in range(chunks):
            part = whole[index * self._chunk_bytes : (index + 1) * self._chunk_bytes]
            self.send_chunk(part, index, chunks, total, context)
        return self.stream

    def send_chunk(self, part: memoryview, index: int, chunks: int, total: int, context: bytes) -> None:
        """Seal a chunk of the last opened stream, and send it."""
        n_bytes = self.sealer.seal_into(
            Kind.CHUNK, part, self._frame, stream=self.stream, chunk=index, chunks=chunks, total=total, context=context
        )
        self.socket.sendall(self._frame[:n_bytes])

    def load(self, content: bytes) -> data_messages.Loaded | messages.Failure:
        """Send a model and wait for the answer."""
        code = data_messages.CodeOpening(format="onnx", sha256=hashlib.sha256(content).digest())
        self.open_stream(Kind.CODE, code, [memoryview(content)])
        while True:
            header, payload = self.receive()
            if header.kind is Kind.LOADED:
                return decode(payload, data_messages.Loaded)
            if header.kind is Kind.REFUSED:
                return decode(payload, messages.Failure)

    def batch(
        self,
        model: bytes,
        tensors: Sequence[data_messages.Tensor],
        parts: Sequence[bytes | memoryview],
        *,
        outputs: Sequence[str] = (),
        deadline_ms: int = DEADLINE_MS,
        pace: data_messages.Pace | None = None,
    ) -> int:
        """Send a batch without waiting for its answer; returns its stream. ``model`` is a SHA-256."""
        message = data_messages.BatchOpening(
            model=model,
            tensors=tuple(tensors),
            deadline_ms=deadline_ms,
            outputs=tuple(outputs),
            paced=(pace,) if pace else (),
        )
        at, padded = 0, []
        for place, part in zip(layout(message.tensors), parts, strict=True):
            if place.begin > at:
                padded.append(memoryview(bytes(place.begin - at)))
            padded.append(memoryview(part).cast("B"))
            at = place.end
        return self.open_stream(Kind.BATCH, message, padded)

    def answer(self) -> tuple[int, Answer]:
        """Wait for the next stream to be answered."""
        while True:
            header, payload = self._next()
            opened = self.opener.open(header, payload)
            if header.kind is Kind.REFUSED:
                return header.stream, Answer({}, None, decode(opened, messages.Failure))
            if header.kind is Kind.RESULT:
                return header.stream, self._result(header, opened)
            assert header.kind is Kind.CREDIT, header.kind.name
            self.credited_bytes += decode(opened, data_messages.Credit).credit_bytes

    def _result(self, opening: Header, opened: bytearray) -> Answer:
        result = decode(opened, data_messages.ResultOpening)
        assembly = ChunkReassembly()
        assembly.begin(opening, opened)
        data = memoryview(bytearray(opening.total))
        while True:
            header, payload = self._next()
            if header.kind is Kind.CHUNK:
                n_bytes = len(payload) - TAG_BYTES
                at = assembly.place(header, n_bytes)
                self.opener.open_into(header, payload, data[at : at + n_bytes], context=assembly.context)
                assembly.take(header, n_bytes)
                continue
            message = self.opener.open(header, payload)
            if header.kind is Kind.CREDIT:
                self.credited_bytes += decode(message, data_messages.Credit).credit_bytes
            if header.kind is Kind.RECEIPT:
                token = decode(message, data_messages.SignedReceipt).receipt
                receipt = open_receipt(token, self._receipt_key, SESSION, INDEX, opening.stream)
                return Answer(_arrays(result.tensors, data), receipt, None, result.paced)

    def infer(
        self, model: bytes, inputs: Mapping[str, NDArray[Any]], *, pace: data_messages.Pace | None = None
    ) -> Answer:
        """Send a batch of arrays and wait for its answer."""
        described = [travelling(name, array) for name, array in inputs.items()]
        stream = self.batch(model, [tensor for tensor, _ in described], [data for _, data in described], pace=pace)
        answered, answer = self.answer()
        assert answered == stream, f"stream {answered} was answered, expected {stream}"
        return answer


def as_tensor(name: str, array: NDArray[Any], **fields: Any) -> data_messages.Tensor:
    """Describe an array that is sent raw."""
    return data_messages.Tensor(name=name, dtype=array.dtype.name, shape=array.shape, **fields)  # type: ignore[arg-type]


def _arrays(tensors: tuple[data_messages.Tensor, ...], data: memoryview) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for place in layout(tensors, len(data)):
        tensor, part = place.tensor, data[place.begin : place.end]
        if tensor.encoding == "utf8":
            edges = [0, *(end - place.begin for end in place.ends)]
            texts = [bytes(part[a:b]).decode() for a, b in pairwise(edges)]
            arrays[tensor.name] = np.array(texts, object).reshape(tensor.shape)
        else:
            arrays[tensor.name] = np.frombuffer(part, tensor.dtype).reshape(tensor.shape)
    return arrays


class WorkerUnderTest:
    """A real worker process, with the controller's end of its link and the client's end of its data socket.

    Attributes:
        started: its STARTED message.
        link: the controller's end of the link.
        data: the client's end of the data socket.
        process: the process.
    """

    def __init__(self, *arguments: str, module: str = "sectum.hetee.worker", stderr: int | None = None) -> None:
        link, its_link = socket.socketpair()
        data, its_data = socket.socketpair()
        with its_link, its_data:
            command = [sys.executable, "-P", "-m", module, "--data", str(its_data.fileno()), *arguments]
            passed = (its_data.fileno(),)
            self.process = subprocess.Popen(command, stdin=its_link.fileno(), stderr=stderr, pass_fds=passed)
        self.data, self.link = data, Link(link)
        try:
            self.started: messages.Started = self.link.receive(Kind.STARTED, messages.Started)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def assign(
        self, accelerators: Sequence[str] = ("cpu:0",), *, credit_bytes: int = 256 << 20, open_streams: int = 8
    ) -> Client:
        """Send RELEASE and GRANT, and wait for READY."""
        self.release(credit_bytes=credit_bytes, open_streams=open_streams, kind=accelerators[0].partition(":")[0])
        self.link.send(Kind.GRANT, messages.Accelerators(accelerators=tuple(accelerators)))
        client = Client(self.data, self.started.receipt_key)
        client.expect(Kind.READY, data_messages.Ready)
        return client

    def release(self, *, credit_bytes: int = 1 << 20, open_streams: int = 8, kind: str = "cpu") -> None:
        """Send RELEASE with the keys of the session."""
        sealed = release(Secret(SECRET), self.started.worker_key, SESSION, INDEX)
        message = messages.Release(
            session=SESSION,
            index=INDEX,
            sealed=sealed,
            accelerator=kind,  # type: ignore[arg-type]
            credit_bytes=credit_bytes,
            open_streams=open_streams,
        )
        self.link.send(Kind.RELEASE, message)

    def wipe(self, deadline_ms: int = 0) -> messages.Wiped:
        """Send WIPE and wait for WIPED; RETURNED messages in between are dropped."""
        self.link.send(Kind.WIPE, messages.Deadline(deadline_ms=deadline_ms))
        while True:
            try:
                return self.link.receive(Kind.WIPED, messages.Wiped)
            except AssertionError as other:
                if "RETURNED" not in str(other):
                    raise

    def ended(self, seconds: float = 10.0) -> int:
        """Wait for the end of the process; returns its exit code."""
        descriptor = os.pidfd_open(self.process.pid)
        try:
            assert select.select([descriptor], [], [], seconds)[0], f"the worker did not end within {seconds} s"
        finally:
            os.close(descriptor)
        return self.process.wait()

    def __enter__(self) -> WorkerUnderTest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.data.close()
        self.link.close()
        self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()
