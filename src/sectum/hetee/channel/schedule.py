"""The key schedule: derives all keys from two shared secrets, with HKDF-SHA256 and labels."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from sectum.hetee.channel.secret import Secret

SUITE = b"sectum-hetee/1 X25519MLKEM768 HKDF-SHA256 AES-256-GCM Ed25519"
KEY_BYTES = 32
IV_BYTES = 12


def expand(secret: Secret, label: str, context: bytes = b"", n_bytes: int = KEY_BYTES) -> Secret:
    """HKDF-Expand with the info of TLS 1.3 (RFC 8446, section 7.1) and the prefix ``sectum1``."""
    name = b"sectum1 " + label.encode()
    info = n_bytes.to_bytes(2) + len(name).to_bytes(1) + name + len(context).to_bytes(1) + context
    derived = Secret.empty(n_bytes)
    with secret.reveal() as source, derived.reveal() as target:
        HKDFExpand(SHA256(), n_bytes, info).derive_into(source, target)
    return derived


def extract(mlkem_secret: Secret, x25519_secret: Secret) -> Secret:
    """Derive the handshake secret from the two shared secrets (32 bytes each), and wipe them."""
    joined = Secret.empty(len(mlkem_secret) + len(x25519_secret))
    with mlkem_secret.reveal() as mlkem, x25519_secret.reveal() as x25519, joined.reveal() as both:
        both[: len(mlkem)] = mlkem
        both[len(mlkem) :] = x25519
        handshake = Secret(HKDF.extract(SHA256(), hashlib.sha256(SUITE).digest(), both))
    for secret in (mlkem_secret, x25519_secret, joined):
        secret.wipe()
    return handshake


def mac(key: Secret, transcript: bytes) -> bytes:
    """HMAC-SHA256."""
    with key.reveal() as view:
        return hmac.digest(view, transcript, "sha256")


class HandshakeKeys:
    """The keys that protect the handshake: ``k`` marks the controller's, ``c`` the client's."""

    def __init__(self, handshake: Secret, th1: bytes) -> None:
        self._handshake = handshake
        with expand(handshake, "session id", th1, 16).reveal() as session_id:
            self.session_id = bytes(session_id)
        self.seal_k, self.seal_c = expand(handshake, "seal k", th1), expand(handshake, "seal c", th1)
        self.mac_k, self.mac_c = expand(handshake, "mac k", th1), expand(handshake, "mac c", th1)

    def session(self, th4: bytes) -> SessionKeys:
        """Derive the session's secrets, and wipe all secrets of the handshake."""
        root = expand(self._handshake, "session", th4)
        self.wipe()
        return SessionKeys(root)

    def wipe(self) -> None:
        """Overwrite all keys."""
        for secret in (self._handshake, self.seal_k, self.seal_c, self.mac_k, self.mac_c):
            secret.wipe()


class SessionKeys:
    """The traffic secrets of the control channel, and the chain from which workers' secrets are derived."""

    def __init__(self, root: Secret) -> None:
        self.control_c, self.control_k = expand(root, "control c"), expand(root, "control k")
        self._chain = expand(root, "workers")
        root.wipe()

    def worker(self, vouch: bytes) -> Secret:
        """Derive the secret of the next worker, and wipe the chain secret that it came from.

        Args:
            vouch: SHA-256 of the payload of its VOUCH.
        """
        chain = self._chain
        self._chain = expand(chain, "next")
        secret = expand(chain, "worker", vouch)
        chain.wipe()
        return secret

    def wipe(self) -> None:
        """Overwrite all keys."""
        for secret in (self.control_c, self.control_k, self._chain):
            secret.wipe()
