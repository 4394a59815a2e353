"""The software manufacturer: a root key, and the endorsement key of one machine. Not for workers or hosts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sectum.hetee.attest.attestation import ENDORSEMENT
from sectum.hetee.attest.token import (
    CNF,
    EXP,
    UEID,
    cose_public_key,
    open_token,
)
from sectum.hetee.errors import Refusal, refusal

_START_ANEW = "move the folder away: 'sectum hetee up' makes a new one, which clients then have to trust"
KEY, CERTIFICATE, ROOT = "endorsement.key", "endorsement.cwt", "root.pub"


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


def load(directory: Path) -> Endorsement:
    """Read what `store` wrote.

    Raises:
        EvidenceRefused: a file is missing, damaged, or readable by others.
    """
    try:
        mode = (directory / KEY).stat().st_mode
        if mode & 0o077:
            detail = f"other users can read {directory / KEY}; expected mode 0600"
            raise refusal(Refusal.NOT_GENUINE, detail, _START_ANEW)
        key = load_pem_private_key((directory / KEY).read_bytes(), None)
        root = bytes.fromhex((directory / ROOT).read_text())
        certificate = (directory / CERTIFICATE).read_bytes()
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
