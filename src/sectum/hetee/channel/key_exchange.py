"""X25519MLKEM768: a hybrid key exchange that is secure if X25519 or ML-KEM-768 is."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from sectum.hetee.channel.schedule import extract
from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import Refusal, refusal

ENCAPSULATION_KEY_BYTES = 1184
CIPHERTEXT_BYTES = 1088
X25519_BYTES = 32
CLIENT_SHARE_BYTES = ENCAPSULATION_KEY_BYTES + X25519_BYTES
CONTROLLER_SHARE_BYTES = CIPHERTEXT_BYTES + X25519_BYTES


def x25519(private_key: X25519PrivateKey, peer: bytes) -> Secret:
    """The shared secret (RFC 7748), 32 bytes.

    Raises:
        HandshakeRefused: ``BAD_SHARE``, the peer's share gives an all-zero secret.
    """
    try:
        return Secret(private_key.exchange(X25519PublicKey.from_public_bytes(peer)))
    except ValueError:
        raise refusal(Refusal.BAD_SHARE, "an X25519 key share of low order or wrong length") from None


def answer_share(client_share: bytes) -> tuple[bytes, Secret]:
    """Make the controller's key share for a client's, and derive the handshake secret.

    Raises:
        HandshakeRefused: ``BAD_SHARE``.
    """
    try:
        encapsulation_key = MLKEM768PublicKey.from_public_bytes(client_share[:ENCAPSULATION_KEY_BYTES])
    except ValueError:
        raise refusal(Refusal.BAD_SHARE, "the ML-KEM key share is not a valid key") from None
    private_key = X25519PrivateKey.generate()
    x25519_secret = x25519(private_key, client_share[ENCAPSULATION_KEY_BYTES:])
    mlkem_secret, ciphertext = encapsulation_key.encapsulate()
    share = ciphertext + private_key.public_key().public_bytes_raw()
    return share, extract(Secret(mlkem_secret), x25519_secret)
