"""A worker's key, to which a controller releases the secret of one session."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sectum.hetee.channel.release import SUITE, release_info
from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import Refusal, refusal


def hpke_open(private_key: X25519PrivateKey, info: bytes, sealed: bytes) -> Secret:
    """Open ``sealed``, which is the encapsulated key and the ciphertext.

    Raises:
        RecordRefused: ``NOT_AUTHENTIC``.
    """
    try:
        return Secret(SUITE.decrypt(sealed, private_key, info))
    except (InvalidTag, ValueError):
        raise refusal(Refusal.NOT_AUTHENTIC, "the released key was not sealed to this worker") from None


class WorkerKey:
    """A worker's key for one release, made at its start. ``public`` is sent in STARTED."""

    def __init__(self) -> None:
        self._private: X25519PrivateKey | None = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def accept(self, sealed: bytes, session_id: bytes, index: int) -> Secret:
        """Open a release and drop the private key: a worker serves one session in its life.

        Raises:
            RecordRefused: ``NOT_AUTHENTIC``; ``WIPED`` if a release was already accepted.
        """
        if self._private is None:
            raise refusal(Refusal.WIPED, "a second session for a worker")
        private_key, self._private = self._private, None
        return hpke_open(private_key, release_info(session_id, index), sealed)
