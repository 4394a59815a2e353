"""Signs the worker's software for the controllers that are to boot it. No role imports this."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from sectum.errors import UsageError
from sectum.hetee.attest.reference import IMAGES, MANIFEST, NAME, SIGNER
from sectum.hetee.attest.token import EAT_PROFILE, IAT, PROFILE, SUB, Signer
from sectum.hetee.image.measurement import measure
from sectum.hetee.installation.software import TRAINER, WORKER, files

KEY = "signer.key"


def sign_worker(folder: Path, *, key: Path | None = None, package: Path | None = None, training: bool = False) -> bytes:
    """Write a reference manifest that holds the worker's software as it is installed, and nothing else.

    With ``training`` it holds two: the worker that also trains, and the one that does not.

    Args:
        folder: folder of the manifest, which gets the signer's public key as well; made if it is missing.
        key: private key of the signer (Ed25519, PEM); None for the one in the folder, which is made if it is missing.
        package: folder of this package; None for the one that is running.
        training: whether to sign the worker that also trains as well.

    Returns:
        The measurement that was signed, 32 bytes; with ``training`` that of the worker that also trains.

    Raises:
        UsageError: the key or the folder is unusable.
    """
    roles = (WORKER, TRAINER) if training else (WORKER,)
    measurements = [measure(files(role, package)) for role in roles]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = _read_key(key) if key is not None else _own_key(folder / KEY)
        signer = private.public_key().public_bytes_raw().hex() + "\n"
        for name, content in ((MANIFEST, sign_reference(private, measurements)), (SIGNER, signer.encode())):
            made = folder / f"{name}.new"
            made.write_bytes(content)
            made.replace(folder / name)
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror}; name another with --state") from None
    return measurements[-1]


def sign_reference(key: Ed25519PrivateKey, images: Iterable[bytes]) -> bytes:
    """Sign the measurements of worker images, 32 bytes each."""
    claims = {SUB: NAME, IAT: int(time.time()), EAT_PROFILE: PROFILE, IMAGES: sorted(set(images))}
    return Signer(key).sign(claims)


def _own_key(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(pem)
    return _read_key(path)


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is not a private key: {error}; expected Ed25519 in PEM, without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 key: make one with 'openssl genpkey -algorithm ed25519'")
    return key
