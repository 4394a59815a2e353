"""Tenants that hold what others need, or take without giving back, do not keep honest clients from being served."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_rack import Rack, until
from hetee_silent_host import SilentHost
from sectum.hetee.client import connect
from sectum.hetee.client.handshake import ClientHandshake
from sectum.hetee.data_plane.messages import Pace
from sectum.hetee.errors import HeteeError, Refusal, ServiceRefused
from sectum.hetee.wire.frames import FrameReader
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import DOWNSTREAM, HELLO_BYTES, Kind
from sectum.hetee.wire.messages import Configure, encode

pytestmark = pytest.mark.slow

SMALL = np.arange(10, dtype=np.float32)


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """One paced accelerator and one that computes."""
    with Rack("cpu=1,paced=1") as started:
        yield started


def quiet(rack: Rack) -> bool:
    """Whether the host has no connection."""
    return len(rack.events("disconnected")) == len(rack.events("connected"))


def served(rack: Rack, model: bytes) -> float:
    """Use the service honestly; returns the seconds that it took."""
    begun_s = time.monotonic()
    with rack.connect(wait_s=20) as session:
        session.load(model)
        np.testing.assert_array_equal(session.infer(SMALL).outputs["y"], SMALL * 2)
    return time.monotonic() - begun_s


def test_connections_without_a_session_keep_nobody_out(rack: Rack, doubler: bytes) -> None:
    """300 connections that each send half a HELLO, again and again, do not keep honest clients from being served."""
    half = (Header(Kind.HELLO, HELLO_BYTES).pack() + bytes(HELLO_BYTES))[:700]
    over = threading.Event()
    with ExitStack() as stack:
        stack.callback(over.set)

        def hold(number: int) -> None:
            while not over.is_set():
                with suppress(OSError), socket.create_connection(("127.0.0.1", rack.port), 5) as peer:
                    peer.sendall(half)
                    peer.settimeout(0.5)
                    while not over.is_set():
                        with suppress(TimeoutError):
                            if not peer.recv(4096):
                                break

        for number in range(300):
            threading.Thread(target=hold, args=(number,), daemon=True).start()
        until(lambda: rack.get("/state")[0] == 200 and len(rack.events("connected")) > 250, what="the attack")
        failures = 0
        for _ in range(5):
            try:
                served(rack, doubler)
            except HeteeError:
                failures += 1
        assert failures <= 2
    until(lambda: quiet(rack), 60, what="the end of the attack")


def test_handshakes_that_nobody_goes_on_with_keep_nobody_out(rack: Rack, doubler: bytes) -> None:
    """256 connections that send HELLO and nothing else, opened again and again, keep no honest client out."""
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", rack.port), 5) as peer:
                peer.sendall(ClientHandshake(identity, lambda _evidence, _nonce: None).hello())
                peer.settimeout(0.5)
                while not over.is_set():
                    with suppress(TimeoutError):
                        if not peer.recv(4096):
                            break

    identity = Ed25519PrivateKey.generate()
    threads = [threading.Thread(target=hold, daemon=True) for _ in range(256)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(rack.events("connected")) > 250, 60, what="the attack")
        for _ in range(3):
            served(rack, doubler)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    until(lambda: quiet(rack), 60, what="the end of the attack")


def test_a_full_service_says_busy(doubler: bytes) -> None:
    """The 257th client hears BUSY, not that the host is lost; ``/health`` is answered, and is 503 with the reason."""
    identities = [Ed25519PrivateKey.generate() for _ in range(9)]
    wanted = encode(Configure(accelerator="cpu", wait_ms=600_000))  # who asks for nothing would give way
    with Rack("cpu=1", arguments=["--enclaves", "1", "--spares", "1"]) as rack:
        with ExitStack() as stack:
            for number in range(256):
                peer = stack.enter_context(socket.create_connection(("127.0.0.1", rack.port), 10))
                handshake = ClientHandshake(identities[number // 30], lambda _evidence, _nonce: None)
                peer.sendall(handshake.hello())
                frame = FrameReader(DOWNSTREAM, lambda memory, _whole, peer=peer: peer.recv_into(memory)).next()  # type: ignore[misc]
                assert frame is not None
                peer.sendall(handshake.receive(frame))
                assert handshake.session is not None
                peer.sendall(handshake.session.sealer.seal(Kind.CONFIGURE, wanted))
            until(lambda: (rack.state() or {}).get("sessions") == 256, what="256 sessions")
            with pytest.raises(ServiceRefused) as caught:
                served(rack, doubler)
            assert caught.value.code is Refusal.BUSY
            assert rack.get("/health") == (503, "256 sessions are open, the limit\n")
        until(lambda: rack.get("/health") == (200, "ok\n"), what="a free place")
        served(rack, doubler)
        assert rack.events("fault") == []


def test_a_tenant_that_is_ending_does_not_hold_an_accelerator(rack: Rack, doubler: bytes) -> None:
    """A session that ends with a long deadline and an endless batch gives its accelerator up while others wait."""
    first = rack.connect(accelerator="paced")
    first.load(doubler)
    first.submit(SMALL, pace=Pace(preprocess_us=0, compute_us=50_000_000, source="test"), deadline_ms=60_000)
    ending = threading.Thread(target=lambda: suppressed_close(first), daemon=True)
    ending.start()
    time.sleep(0.5)
    begun_s = time.monotonic()
    with rack.connect(accelerator="paced", wait_s=40) as second:
        second.load(doubler)
        second.infer(SMALL, pace=Pace(preprocess_us=0, compute_us=1000, source="test"))
    assert time.monotonic() - begun_s < 30  # of the 40 s that the other one asked for
    ending.join(30)
    assert not ending.is_alive()


def suppressed_close(session: object) -> None:
    """End a session with the longest deadline, without FINISH, as a tenant who means harm does."""
    from sectum.hetee.wire import messages

    transport = session._transport  # type: ignore[attr-defined]
    with suppress(HeteeError):
        transport.control(Kind.TERMINATE, messages.Deadline(deadline_ms=40_000))
        with transport.changed:
            transport.changed.wait_for(lambda: transport.failed is not None, 45)
    with suppress(HeteeError):
        session.close(0)  # type: ignore[attr-defined]


def test_a_client_that_does_not_read_is_let_go(rack: Rack, doubler: bytes) -> None:
    """A relay whose client takes no byte of its result ends within half a minute, although the socket stays open."""
    large = np.zeros(6_000_000, np.float32)
    with SilentHost(rack.port, down=2_000_000) as host:

        def use() -> None:
            with suppress(HeteeError), connect(host.url, rack.policy) as session:
                session.load(doubler)
                session.infer(large)

        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        assert host.silent.wait(60)

        until(lambda: quiet(rack), 60, what="the end of the relay")
        thread.join(30)
    assert served(rack, doubler) < 20
