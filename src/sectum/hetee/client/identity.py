"""The data owner's identity key: Ed25519, in a PEM file that only the owner can read."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from sectum.hetee.errors import Refusal, refusal


def make_identity(path: Path) -> Ed25519PrivateKey:
    """Make a key and write it to a new file of mode 0600.

    Raises:
        HandshakeRefused: the file exists, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as error:
        raise refusal(Refusal.BAD_SIGNATURE, f"cannot write an identity key to {path}: {error.strerror}") from None
    return key


def load_identity(path: Path) -> Ed25519PrivateKey:
    """Read what `make_identity` wrote.

    Raises:
        HandshakeRefused: it is missing, readable by others, or not an Ed25519 key.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise refusal(Refusal.BAD_SIGNATURE, f"other users can read the identity key {path}: chmod 600 it")
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise refusal(Refusal.BAD_SIGNATURE, f"cannot use the identity key {path}: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise refusal(Refusal.BAD_SIGNATURE, f"the identity key {path} is not Ed25519")
    return key
