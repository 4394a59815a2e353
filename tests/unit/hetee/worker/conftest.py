"""An enclave in this process: the worker's data path without its process."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator

import pytest

from hetee_worker_peer import INDEX, SECRET, SESSION, Client
from hetee_worker_samples import Serve, Served
from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.channel import data_channel
from sectum.hetee.data_plane.receipts import Receipt, ReceiptSigner
from sectum.hetee.wire.kinds import Kind, Role
from sectum.hetee.worker.accelerators import accelerator
from sectum.hetee.worker.enclave_server import EnclaveServer
from sectum.hetee.worker.open_streams import SessionLimits
from sectum.hetee.worker.records import SealedRecordReader, SealedRecordWriter


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Make enclaves that own the accelerators named."""
    sockets: list[socket.socket] = []

    def make(*names: str, credit_bytes: int = 64 << 20, open_streams: int = 8) -> Served:
        ours, theirs = socket.socketpair()
        sockets.extend((ours, theirs))
        signer, ended = ReceiptSigner(), queue.SimpleQueue()
        sealer, opener = data_channel(Role.WORKER, Secret(SECRET), SESSION)

        def receipt(batch, result: bytes, outputs: bytes) -> Receipt:
            paced, times_ns = batch.pace is not None, batch.times_ns
            facts = SESSION, INDEX, batch.stream, batch.message.model, bytes(32), times_ns, paced, batch.items
            digests = batch.request, batch.inputs.digest(), result, outputs
            return Receipt(*facts, "software", *digests, batch.accelerator)

        enclave = EnclaveServer(
            SealedRecordReader(ours, opener),
            SealedRecordWriter(ours, sealer),
            SessionLimits(INDEX, credit_bytes, open_streams),
            lambda *about: signer.sign(receipt(*about)),
            ended.put,
        )
        for name in names or ("cpu:0",):
            enclave.grant(accelerator(name))
        enclave.start()
        client = Client(theirs, signer.public_key)
        client.expect(Kind.READY, data_messages.Ready)
        return Served(enclave, client, ended)

    yield make
    for sock in sockets:
        sock.close()
