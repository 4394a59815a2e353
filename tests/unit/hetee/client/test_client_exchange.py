"""When a client sends what, below a session."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from test_client_enclave import MODEL, Worker

from sectum.hetee.client.exchange import Exchange
from sectum.hetee.client.plaintext import Plaintext
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import HEADER_BYTES, parse
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Tensor


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


def test_wake_goes_ahead_of_a_batch_that_nobody_expects() -> None:
    """Not while another is on its way, nor soon after it, when host and worker are awake, nor to a lost worker."""
    worker, connection = Worker().ready(), Connection()
    enclave, exchange = worker.enclave, Exchange(connection, None)
    exchange.enclave = enclave
    try:
        exchange.wake(enclave)
        assert connection.kinds == [Kind.WAKE]
        tensor = Tensor(name="x", dtype="uint8", shape=(10,))
        batch = messages.Batch(model=MODEL, tensors=(tensor,), deadline_ms=1000)
        pending = exchange.send_stream(enclave, Kind.BATCH, batch, MODEL, Plaintext([memoryview(bytes(10))]), 1.0)
        assert connection.kinds == [Kind.WAKE, Kind.BATCH, Kind.CHUNK]
        exchange._sent_s -= 60
        exchange.wake(enclave)
        assert connection.kinds[3:] == []
        pending.future.set_result(None)
        exchange._sent_s += 120
        exchange.wake(enclave)
        assert connection.kinds[3:] == []
        exchange._sent_s -= 120
        exchange.wake(enclave)
        assert connection.kinds[3:] == [Kind.WAKE]
        enclave.fail(refusal(Refusal.WORKER_LOST, "gone"))
        exchange.wake(enclave)
        assert connection.kinds[4:] == []
        with pytest.raises(HeteeError) as caught:
            exchange.to_worker(enclave, Kind.WAKE, messages.Empty())
        assert caught.value.code is Refusal.WIPED
    finally:
        exchange.close()
