"""The plain baseline of the benchmark: the same worker without sealing, evidence, host or confinement.

``python -m sectum.hetee.worker.plain --accelerator cpu:0`` serves one client on loopback and prints the port. Frames
are those of the service, with zeros in place of the tag. No part of the service imports this module, and a client of
the service cannot talk to it.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time
from collections.abc import Sequence

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.header import HEADER_BYTES, Header, parse
from sectum.hetee.wire.kinds import TAG_BYTES, Kind
from sectum.hetee.worker.accelerators import accelerator
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.enclave_server import EnclaveServer
from sectum.hetee.worker.open_streams import SessionLimits
from sectum.hetee.worker.records import FROM_CLIENT, SocketRecordWriter

SESSION = b"plain, unsealed!"
_NO_TAG = bytes(TAG_BYTES)
_CLOSE_S = 10.0


class PlainRecordReader:
    """Reads records that are not sealed.

    Args:
        sock: connected stream socket.
        accepts: types of frames that the peer may send.
    """

    def __init__(self, sock: socket.socket, accepts: frozenset[Kind] = FROM_CLIENT) -> None:
        self.transfer_ns = self.encryption_ns = 0
        self._socket, self._accepts = sock, accepts
        self._head, self._tag = memoryview(bytearray(HEADER_BYTES)), memoryview(bytearray(TAG_BYTES))

    def next(self) -> Header | None:
        """Wait for a record; None when the connection has ended."""
        if not self._fill(self._head):
            return None
        header = parse(self._head)
        if header.kind not in self._accepts or header.session != SESSION:
            raise refusal(Refusal.UNEXPECTED, f"{header.kind.name}, which this peer may not send in plain")
        return header

    def message(self, header: Header) -> bytearray:
        """The record's payload."""
        payload = bytearray(header.length - TAG_BYTES)
        self._take(memoryview(payload))
        return payload

    def chunk(self, header: Header, out: memoryview, context: bytes) -> None:  # noqa: ARG002  # nothing is authenticated
        """Receive the payload of a CHUNK into ``out``."""
        begun_ns = time.perf_counter_ns()
        self._take(out)
        self.transfer_ns = time.perf_counter_ns() - begun_ns

    def _take(self, out: memoryview) -> None:
        if not (self._fill(out) and self._fill(self._tag)):
            raise refusal(Refusal.TRUNCATED, "the connection ended inside a record")

    def _fill(self, out: memoryview) -> bool:
        at = 0
        while at < len(out):
            try:
                n_bytes = self._socket.recv_into(out[at:], 0, socket.MSG_WAITALL)
            except OSError:  # the client left with answers unread
                n_bytes = 0
            if not n_bytes:
                return False
            at += n_bytes
        return True

    def wipe(self) -> None:
        """Do nothing: there are no keys."""


class PlainRecordWriter(SocketRecordWriter):
    """Sends records without sealing them."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._held: list[bytes | memoryview] = []  # to be sent with what follows

    def message(
        self, kind: Kind, payload: bytes, *, stream: int = 0, chunks: int = 0, total: int = 0, more: bool = False
    ) -> None:
        """Send a message."""
        header = Header(kind, len(payload) + TAG_BYTES, session=SESSION, stream=stream, chunks=chunks, total=total)
        self._send([header.pack(), payload, _NO_TAG], more=more)

    def chunk(
        self,
        plaintext: memoryview,
        *,
        stream: int,
        chunk: int,
        chunks: int,
        total: int,
        context: bytes,  # noqa: ARG002  # nothing is authenticated
        more: bool = False,
    ) -> None:
        """Send a CHUNK."""
        header = Header(
            Kind.CHUNK,
            len(plaintext) + TAG_BYTES,
            session=SESSION,
            stream=stream,
            chunk=chunk,
            chunks=chunks,
            total=total,
        )
        begun_ns = time.perf_counter_ns()
        self._send([header.pack(), plaintext, _NO_TAG], more=more)
        self.transfer_ns += time.perf_counter_ns() - begun_ns

    def _send(self, parts: Sequence[bytes | memoryview], *, more: bool) -> None:
        self._held += parts
        if more:
            return
        views = [memoryview(part) for part in self._held if len(part)]
        self._held = []
        while views:
            n_bytes = self._socket.sendmsg(views)
            while views and n_bytes >= len(views[0]):
                n_bytes -= len(views.pop(0))
            if n_bytes:
                views[0] = views[0][n_bytes:]

    def wipe(self) -> None:
        """Do nothing: there are no keys."""


class _NoHash:
    """Hashes nothing: the baseline makes no receipts."""

    def update(self, data: memoryview, /) -> None:
        """Do nothing."""

    def digest(self) -> bytes:
        """Nothing."""
        return b""


def times_of(batch: BatchJob, _result: bytes, _outputs: bytes) -> bytes:
    """In place of a receipt: the times of a batch as JSON, not signed."""
    return json.dumps({"times_ns": batch.times_ns, "paced": batch.pace is not None, "items": batch.items}).encode()


def serve(sock: socket.socket, accelerators: Sequence[str], *, threads: int = 1, limits: SessionLimits) -> None:
    """Serve one connected client until it disconnects."""
    ended = threading.Event()
    refused: list[HeteeError] = []

    def end(error: HeteeError | None) -> None:
        refused.extend([error] if error else [])
        ended.set()

    enclave = EnclaveServer(PlainRecordReader(sock), PlainRecordWriter(sock), limits, times_of, end, _NoHash)
    for name in accelerators:
        enclave.grant(accelerator(name, threads=threads))
    enclave.start()
    ended.wait()
    enclave.engine.close(_CLOSE_S, lambda _name, _how: None)  # a process that exits while the runtime computes aborts
    if refused:
        raise refused[0]


def main() -> None:
    """Serve one client on loopback."""
    parser = argparse.ArgumentParser(prog="python -m sectum.hetee.worker.plain", description=__doc__)
    parser.add_argument(
        "--accelerator", action="append", default=[], help="name of an accelerator, such as cpu:0; may be repeated"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of one CPU accelerator")
    parser.add_argument("--credit-mib", type=int, default=256)
    parser.add_argument("--open-streams", type=int, default=8)
    options = parser.parse_args()
    limits = SessionLimits(0, options.credit_mib << 20, options.open_streams)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        sock, _ = listener.accept()
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve(sock, options.accelerator or ["cpu:0"], threads=options.threads, limits=limits)


if __name__ == "__main__":
    main()
