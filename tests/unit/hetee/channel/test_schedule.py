"""The key schedule, computed once more with nothing but HMAC."""

from __future__ import annotations

import hashlib
import hmac

from hetee_session_pair import bytes_of
from sectum.hetee.channel.key_exchange import answer_share
from sectum.hetee.channel.schedule import HandshakeKeys, expand, extract
from sectum.hetee.channel.secret import Secret
from sectum.hetee.client.handshake import ClientShare
from sectum.hetee.data_plane.channel import worker_traffic

TH1, TH4, VOUCH = (hashlib.sha256(name).digest() for name in (b"th1", b"th4", b"vouch"))


def hkdf_expand(key: bytes, label: str, context: bytes = b"", n_bytes: int = 32) -> bytes:
    """RFC 5869, 2.3 with the info of RFC 8446, 7.1; enough for one block."""
    name = b"sectum1 " + label.encode()
    info = n_bytes.to_bytes(2, "big") + bytes([len(name)]) + name + bytes([len(context)]) + context
    return hmac.new(key, info + b"\1", hashlib.sha256).digest()[:n_bytes]


def hkdf_extract(mlkem: bytes, x25519: bytes) -> bytes:
    salt = hashlib.sha256(b"sectum-hetee/1 X25519MLKEM768 HKDF-SHA256 AES-256-GCM Ed25519").digest()
    return hmac.new(salt, mlkem + x25519, hashlib.sha256).digest()


def test_every_key_is_what_the_specification_says() -> None:
    """Session id, handshake keys, control secrets and workers' secrets follow from the shared secrets as written."""
    keys = HandshakeKeys(extract(Secret(b"m" * 32), Secret(b"x" * 32)), TH1)
    root = hkdf_extract(b"m" * 32, b"x" * 32)
    assert keys.session_id == hkdf_expand(root, "session id", TH1, 16)
    for secret, label in (
        (keys.seal_k, "seal k"),
        (keys.seal_c, "seal c"),
        (keys.mac_k, "mac k"),
        (keys.mac_c, "mac c"),
    ):
        assert bytes_of(secret) == hkdf_expand(root, label, TH1)
    session_keys, session = keys.session(TH4), hkdf_expand(root, "session", TH4)
    assert bytes_of(session_keys.control_c) == hkdf_expand(session, "control c")
    assert bytes_of(session_keys.control_k) == hkdf_expand(session, "control k")
    chain = hkdf_expand(session, "workers")
    for _ in range(3):
        worker = session_keys.worker(VOUCH)
        wanted = hkdf_expand(chain, "worker", VOUCH)
        assert bytes_of(worker) == wanted
        up, down = worker_traffic(worker)
        assert worker.wiped
        assert bytes_of(up) == hkdf_expand(wanted, "data c")
        assert bytes_of(down) == hkdf_expand(wanted, "data w")
        chain = hkdf_expand(chain, "next")


def test_what_was_used_is_wiped() -> None:
    """Secrets from which others were derived are gone when they are no longer needed."""
    mlkem, x25519 = Secret(b"m" * 32), Secret(b"x" * 32)
    handshake = extract(mlkem, x25519)
    assert mlkem.wiped
    assert x25519.wiped
    keys = HandshakeKeys(handshake, TH1)
    session_keys = keys.session(TH4)
    assert all(secret.wiped for secret in (handshake, keys.seal_k, keys.seal_c, keys.mac_k, keys.mac_c))
    session_keys.wipe()
    assert session_keys.control_c.wiped
    assert session_keys.control_k.wiped


def test_labels_contexts_and_lengths_separate() -> None:
    """Another label, context or length gives unrelated bytes."""
    secret = Secret(b"s" * 32)
    derived = [
        bytes_of(expand(secret, label, context, n_bytes))
        for label, context, n_bytes in (
            ("a", b"", 32),
            ("b", b"", 32),
            ("a", b"c", 32),
            ("a", b"", 31),
            ("ab", b"", 32),
        )
    ]
    assert len({value[:31] for value in derived}) == 5


def test_both_sides_of_the_exchange_agree() -> None:
    """Client and controller compute the same handshake secret, a new one each time."""
    secrets = []
    for _ in range(2):
        client = ClientShare()
        share, controller_secret = answer_share(client.public)
        assert client.handshake_secret(share) == controller_secret
        secrets.append(controller_secret)
    assert secrets[0] != secrets[1]
