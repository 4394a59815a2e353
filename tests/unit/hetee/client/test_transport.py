"""When a client sends which frames."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hetee_scripted_worker import MODEL, ScriptedWorker
from sectum.hetee.client.plaintext import Plaintext
from sectum.hetee.client.transport import Transport
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.errors import HeteeError, Refusal, WorkRefused, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import HEADER_BYTES, parse
from sectum.hetee.wire.kinds import Kind


class Connection:
    """Takes note of the types of frames, and receives nothing."""

    sent_bytes = 0

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self._over = threading.Event()

    def frames(self, _take: Callable[[object], None]) -> HeteeError:
        self._over.wait()
        return refusal(Refusal.HOST_LOST, "closed")

    def send(self, seal: Callable[[], bytes]) -> None:
        self.kinds.append(parse(bytes(seal()[:HEADER_BYTES])).kind)

    def received_bytes(self) -> int:
        return 0

    def shutdown(self) -> None:
        self._over.set()

    def close(self) -> None:
        """There is nothing to close."""


def test_a_batch_is_its_opening_and_its_chunks() -> None:
    """Nothing announces a batch, and nothing is sent to a lost worker."""
    worker, connection = ScriptedWorker().ready(), Connection()
    enclave, transport = worker.enclave, Transport(connection, None)
    transport.enclave = enclave
    try:
        tensor = Tensor(name="x", dtype="uint8", shape=(10,))
        batch = data_messages.BatchOpening(model=MODEL, tensors=(tensor,), deadline_ms=1000)
        transport.send_stream(enclave, Kind.BATCH, batch, MODEL, Plaintext([memoryview(bytes(10))]), 1.0)
        assert connection.kinds == [Kind.BATCH, Kind.CHUNK]
        enclave.fail(refusal(Refusal.WORKER_LOST, "gone"))
        with pytest.raises(HeteeError) as caught:
            transport.to_worker(enclave, Kind.FINISH, messages.Empty())
        assert caught.value.code is Refusal.WIPED
        assert connection.kinds == [Kind.BATCH, Kind.CHUNK]
    finally:
        transport.close()


@pytest.mark.parametrize(
    "change",
    [
        {"deadline_ms": -1},
        {"deadline_ms": 700_000},
        {"deadline_ms": 1 << 70},
        {"outputs": ("y" * 257,)},
        {"tensors": (Tensor(name="x", dtype="uint8", shape=(1,) * 9),)},
        {"tensors": (Tensor(name="x", dtype="string", shape=(16_385,), encoding="utf8", sizes=(1,) * 16_385),)},
        {"tensors": (Tensor(name="x", dtype="string", shape=(16_000,), encoding="utf8", sizes=(300,) * 16_000),) * 2},
    ],
)
def test_a_batch_that_a_worker_would_end_the_session_for_is_refused_before_it_is_sent(change: dict[str, Any]) -> None:
    """A batch that cannot be described is refused before anything is sealed, and the enclave stays usable."""
    worker, connection = ScriptedWorker().ready(), Connection()
    transport = Transport(connection, None)
    transport.enclave = worker.enclave
    batch = data_messages.BatchOpening(**{"model": MODEL, "tensors": (), "deadline_ms": 1000} | change)
    try:
        with pytest.raises(WorkRefused) as caught:
            transport.send_stream(worker.enclave, Kind.BATCH, batch, MODEL, Plaintext([]), 1.0)
        assert caught.value.code is Refusal.INPUT_REFUSED
        assert connection.kinds == []
        assert transport.failed is None
        assert not worker.enclave.pending
    finally:
        transport.close()


def test_a_model_takes_no_credit() -> None:
    """A model may be larger than the credit for batches."""
    worker, connection = ScriptedWorker().ready(), Connection()
    transport = Transport(connection, None)
    transport.enclave = worker.enclave
    code = data_messages.CodeOpening(format="onnx", sha256=MODEL)
    try:
        transport.send_stream(worker.enclave, Kind.CODE, code, MODEL, Plaintext([memoryview(bytes(200_000))]), 1.0)
        assert connection.kinds[:2] == [Kind.CODE, Kind.CHUNK]
    finally:
        transport.close()
