"""The software manufacturer: a root key, and the endorsement key of one machine. Not for workers or hosts."""

from __future__ import annotations

import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from sectum.hetee.attest.attestation import ENDORSEMENT, SOFTWARE
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
    open_token,
)
from sectum.hetee.errors import Refusal, refusal

ENDORSEMENT_LIFE_S = 365 * 24 * 3600
_START_ANEW = "move the folder away: 'sectum hetee up' makes a new one, which clients then have to trust"
_KEY, _CERTIFICATE, _ROOT = "endorsement.key", "endorsement.cwt", "root.pub"


@dataclass(frozen=True)
class Endorsement:
    """The endorsement key of one machine, and its certificate.

    Attributes:
        root: public key of the manufacturer, 32 bytes, which a client must trust.
        key: private key, which signs the attestation key of the controller.
        certificate: CWT, signed by the manufacturer.
        device: the device's ueid (EAT): 01 and 16 random bytes.
    """

    root: bytes
    key: Ed25519PrivateKey
    certificate: bytes
    device: bytes

    @property
    def expires_s(self) -> int:
        """When it expires, in seconds since 1970."""
        return int(open_token(self.certificate, self.root, ENDORSEMENT)[EXP])

    def __repr__(self) -> str:
        return f"Endorsement(device {self.device.hex()})"


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
        contents = {_ROOT: endorsement.root.hex().encode() + b"\n", _CERTIFICATE: endorsement.certificate, _KEY: pem}
        for name, content in contents.items():
            (made / name).touch(mode=0o600)
            (made / name).write_bytes(content)
        try:
            made.rename(directory)
        except OSError as error:
            detail = f"{directory} cannot be made, or is not empty: {error.strerror}"
            raise refusal(Refusal.NOT_GENUINE, detail, "use the existing endorsement, or another folder") from None


def load(directory: Path) -> Endorsement:
    """Read what `store` wrote.

    Raises:
        EvidenceRefused: a file is missing, damaged, or readable by others.
    """
    try:
        mode = (directory / _KEY).stat().st_mode
        if mode & 0o077:
            detail = f"other users can read {directory / _KEY}; expected mode 0600"
            raise refusal(Refusal.NOT_GENUINE, detail, _START_ANEW)
        key = load_pem_private_key((directory / _KEY).read_bytes(), None)
        root = bytes.fromhex((directory / _ROOT).read_text())
        certificate = (directory / _CERTIFICATE).read_bytes()
        claims = open_token(certificate, root, ENDORSEMENT)
    except (OSError, ValueError, TypeError) as error:
        detail = f"no usable endorsement in {directory}: {error}"
        raise refusal(Refusal.EVIDENCE_MALFORMED, detail, _START_ANEW) from None
    if claims[EXP] <= time.time():
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(claims[EXP]))
        raise refusal(Refusal.STALE, f"the endorsement in {directory} expired on {until}", _START_ANEW)
    if not isinstance(key, Ed25519PrivateKey) or claims[CNF] != cose_public_key(key.public_key().public_bytes_raw()):
        raise refusal(Refusal.NOT_GENUINE, f"the key in {directory} is not the one that is endorsed", _START_ANEW)
    return Endorsement(root, key, certificate, claims[UEID])
