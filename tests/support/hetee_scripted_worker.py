"""A worker that sends what a test tells it to, at the other end of a client's `EnclaveChannel`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from blake3 import blake3

from hetee_session_pair import connect, one_frame
from sectum.hetee.channel.record import Opener, Sealer
from sectum.hetee.channel.release import release
from sectum.hetee.client.enclave_channel import EnclaveChannel, Pending
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.channel import data_channel
from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.data_plane.receipts import Receipt, ReceiptSigner
from sectum.hetee.data_plane.release_key import WorkerKey
from sectum.hetee.verification.evidence import Claims
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind, Role
from sectum.hetee.wire.messages import Message, encode

MODEL = b"d" * 32
MEASUREMENT = b"m" * 32
DATA = np.arange(5000, dtype=np.float32)


class ScriptedWorker:
    """Holds the worker's keys of one session; each method sends one message to ``enclave``, the client's end."""

    def __init__(self) -> None:
        pair, key, self.signer = connect(), WorkerKey(), ReceiptSigner()
        vouch = messages.Vouch(
            index=0,
            evidence=b"",
            worker_key=key.public,
            receipt_key=self.signer.public_key,
            accelerators=("cpu:0",),
            confinement=(),
            unconfined=(),
        )
        payload = encode(vouch)
        sealed = release(pair.controller.worker_secret(payload), key.public, pair.controller.session_id, 0)
        self.session_id = pair.controller.session_id
        secret = key.accept(sealed, self.session_id, 0)
        self.sealer: Sealer
        self.opener: Opener
        self.sealer, self.opener = data_channel(Role.WORKER, secret, self.session_id)
        claims = Claims(format="software", measurement=MEASUREMENT, debug=False)
        self.enclave = EnclaveChannel(pair.client, vouch, payload, claims)

    def say(self, kind: Kind, message: Message, *, stream: int = 0, chunks: int = 0, total: int = 0) -> None:
        """Send a message."""
        frame = self.sealer.seal(kind, encode(message), stream=stream, chunks=chunks, total=total)
        self.enclave.receive(one_frame(frame))

    def ready(self) -> ScriptedWorker:
        """Send READY."""
        self.say(
            Kind.READY, data_messages.Ready(index=0, credit_bytes=100_000, open_streams=4, accelerators=("cpu:0",))
        )
        return self

    def result(self, stream: int, data: np.ndarray = DATA, *, said: int | None = None, chunks: int = 2) -> bytes:
        """Send RESULT; give the context of its chunks."""
        tensor = Tensor(name="y", dtype="float32", shape=data.shape)
        message = data_messages.ResultOpening(tensors=(tensor,), paced=False)
        self.say(Kind.RESULT, message, stream=stream, chunks=chunks, total=said or data.nbytes)
        return hashlib.sha256(encode(message)).digest()

    def chunk(self, stream: int, number: int, data: bytes, context: bytes, *, chunks: int = 2) -> None:
        """Send one chunk of a result."""
        out = bytearray(len(data) + 80)
        self.sealer.seal_into(
            Kind.CHUNK, data, out, stream=stream, chunk=number, chunks=chunks, total=DATA.nbytes, context=context
        )
        self.enclave.receive(one_frame(out))

    def receipt(self, stream: int, change: Callable[[Receipt], Receipt] = lambda receipt: receipt) -> None:
        """Send RECEIPT, which tells the truth until ``change`` changes it."""
        pending = self.enclave.pending.get(stream) or Pending(MODEL, Future())
        if not pending.inputs.done():  # no client has sent this batch
            pending.request, _ = b"r" * 32, pending.inputs.set_result(b"i" * 32)
        receipt = Receipt(
            session=self.session_id,
            index=0,
            stream=stream,
            model=MODEL,
            measurement=MEASUREMENT,
            times_ns=dict.fromkeys(("preprocess", "compute", "encryption", "transfer"), 1),
            paced=False,
            items=1,
            hardware="software",
            request=pending.request,
            inputs=pending.inputs.result(0),
            result=hashlib.sha256(pending.opening).digest(),
            outputs=blake3(pending.data).digest(),
            accelerator="cpu:0",
        )
        self.say(Kind.RECEIPT, data_messages.SignedReceipt(receipt=self.signer.sign(change(receipt))), stream=stream)
