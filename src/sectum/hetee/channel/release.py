"""Releases a session's secret to one worker with HPKE (RFC 9180), single-shot, base mode."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import Refusal, refusal

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def release_info(session_id: bytes, index: int) -> bytes:
    """What a release is bound to (``info`` of HPKE)."""
    return b"sectum1 release\0" + session_id + index.to_bytes(4)


def release(worker: Secret, worker_key: bytes, session_id: bytes, index: int) -> bytes:
    """Seal a worker's secret to its key, and wipe the secret.

    Args:
        worker: the secret from `SessionKeys.worker`.
        worker_key: X25519 public key from STARTED, 32 bytes.
        session_id: 16 bytes.
        index: index of the enclave.

    Returns:
        80 bytes: encapsulated key, ciphertext, tag.

    Raises:
        HandshakeRefused: ``BAD_SHARE``, the key is of low order.
    """
    try:
        public_key = X25519PublicKey.from_public_bytes(worker_key)
        with worker.reveal() as secret:
            sealed = SUITE.encrypt(secret, public_key, release_info(session_id, index))
    except ValueError:
        raise refusal(Refusal.BAD_SHARE, "a worker's key of low order or wrong length") from None
    worker.wipe()
    return sealed


def vouch_digest(payload: bytes | bytearray | memoryview) -> bytes:
    """SHA-256 of the opened payload of VOUCH, from which both sides derive the worker's secret."""
    return hashlib.sha256(payload).digest()
