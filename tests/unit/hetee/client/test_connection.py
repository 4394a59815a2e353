"""The time limit of a handshake holds for the whole handshake, however slowly a host sends."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.client.connection import Connection
from sectum.hetee.client.trust import Trust
from sectum.hetee.errors import HeteeError, Refusal
from sectum.hetee.verification.policy import Policy
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind


def test_a_host_that_hands_out_single_bytes_gains_no_time() -> None:
    """A host that sends single bytes cannot keep a client waiting beyond its time limit."""
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, suppress(OSError):
            for byte in Header(Kind.ATTEST, 60_000, session=b"s" * 16).pack() + bytes(60_000):
                peer.sendall(bytes([byte]))
                if over.wait(0.1):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        begun_s = time.monotonic()
        url = f"hetee://127.0.0.1:{listener.getsockname()[1]}"
        trust = Trust(Policy(formats=("software",), measurements={}, roots=()))
        with pytest.raises(HeteeError) as caught:
            Connection(url, trust, Ed25519PrivateKey.generate(), timeout_s=0.5)
        over.set()
    assert caught.value.code is Refusal.HANDSHAKE_LATE
    assert time.monotonic() - begun_s < 30  # of the 6000 s that so many bytes would have taken
