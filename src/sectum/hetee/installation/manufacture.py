"""The software manufacturer: a root key, which endorses the key of one machine."""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sectum.hetee.attest.attestation import SOFTWARE
from sectum.hetee.attest.endorsement import CERTIFICATE, KEY, ROOT, Endorsement
from sectum.hetee.attest.token import (
    CNF,
    EAT_PROFILE,
    EXP,
    HARDWARE,
    IAT,
    ISS,
    NBF,
    PROFILE,
    SUB,
    UEID,
    Signer,
    cose_public_key,
)
from sectum.hetee.errors import Refusal, refusal

ENDORSEMENT_LIFE_S = 365 * 24 * 3600


def manufacture(root: Ed25519PrivateKey | None = None, *, now_s: float | None = None) -> Endorsement:
    """Make a machine's endorsement key, signed by a manufacturer.

    Args:
        root: the manufacturer's key; None makes one and drops it after signing, so that it endorses this machine only.
        now_s: seconds since 1970; None for now.
    """
    root = root or Ed25519PrivateKey.generate()
    now = int(time.time() if now_s is None else now_s)
    key = Ed25519PrivateKey.generate()
    device = b"\x01" + secrets.token_bytes(16)
    claims = {
        ISS: "manufacturer",
        SUB: "endorsement",
        IAT: now,
        NBF: now,
        EXP: now + ENDORSEMENT_LIFE_S,
        CNF: cose_public_key(key.public_key().public_bytes_raw()),
        UEID: device,
        EAT_PROFILE: PROFILE,
        HARDWARE: SOFTWARE,
    }
    return Endorsement(root.public_key().public_bytes_raw(), key, Signer(root).sign(claims), device)


def store(endorsement: Endorsement, directory: Path) -> None:
    """Write an endorsement into a new folder that only its owner can read.

    Raises:
        EvidenceRefused: the folder exists and is not empty; an endorsement is never replaced silently.
    """
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made in a temporary folder and renamed, so that a folder that exists is complete.
    with tempfile.TemporaryDirectory(dir=directory.parent, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / directory.name
        made.mkdir(mode=0o700)
        pem = endorsement.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        contents = {ROOT: endorsement.root.hex().encode() + b"\n", CERTIFICATE: endorsement.certificate, KEY: pem}
        for name, content in contents.items():
            (made / name).touch(mode=0o600)
            (made / name).write_bytes(content)
        try:
            made.rename(directory)
        except OSError as error:
            detail = f"{directory} cannot be made, or is not empty: {error.strerror}"
            raise refusal(Refusal.NOT_GENUINE, detail, "use the existing endorsement, or another folder") from None
