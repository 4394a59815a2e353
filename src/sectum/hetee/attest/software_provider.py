"""Makes evidence of the format ``software`` with the controller's attestation key. Not for workers or hosts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.endorsement import Endorsement
from sectum.hetee.attest.evidence import Evidence, Subject
from sectum.hetee.attest.software import DEBUG_DISABLED_SINCE_BOOT, DEBUG_ENABLED, SOFTWARE, TOKEN_LIFE_S
from sectum.hetee.attest.token import (
    BOOTSEED,
    CNF,
    CONFINEMENT,
    DBGSTAT,
    EAT_PROFILE,
    EXP,
    HARDWARE,
    IAT,
    ISS,
    MEASUREMENT,
    NBF,
    NONCE,
    PROFILE,
    SUB,
    SWNAME,
    SWVERSION,
    UEID,
    Signer,
    cose_public_key,
)
from sectum.hetee.wire.messages import encode

ATTESTATION_LIFE_S = 24 * 3600  # renewed when half of it has passed


class SoftwareProvider:
    """Holds the attestation key, which is made at the start of the controller and never stored.

    Args:
        endorsement: endorsement of this machine; its key signs the attestation key again and again.
        controller: the controller, which holds the attestation key.
        clock_s: seconds since 1970.
    """

    format: Literal["software"] = "software"

    def __init__(self, endorsement: Endorsement, controller: Subject, clock_s: Callable[[], float] = time.time) -> None:
        self._signer = Signer(Ed25519PrivateKey.generate())
        self._clock_s = clock_s
        self._device, self._bootseed = endorsement.device, secrets.token_bytes(32)
        self.public_key = self._signer.public_key
        self._endorser, self._endorsement = Signer(endorsement.key), endorsement
        self._controller, self._expires_s = controller, endorsement.expires_s
        self._attestation, self._renewed_s = b"", float("-inf")

    def __repr__(self) -> str:
        return f"SoftwareProvider(attestation key {self.public_key.hex()[:16]})"

    def left_s(self) -> float:
        """Seconds until the endorsement of this machine expires."""
        return self._expires_s - self._clock_s()

    def _chain(self) -> tuple[bytes, bytes]:
        now = self._clock_s()
        if not self._renewed_s <= now < self._renewed_s + ATTESTATION_LIFE_S / 2:  # or the clock was set back
            claims = self._claims("endorsement", "attestation", self._controller, ATTESTATION_LIFE_S)
            claims[CNF] = cose_public_key(self.public_key)
            self._attestation, self._renewed_s = self._endorser.sign(claims), now
        return self._endorsement.certificate, self._attestation

    def _claims(self, issuer: str, name: str, subject: Subject, life_s: int) -> dict[int, Any]:
        now = int(self._clock_s())
        return {
            ISS: issuer,
            SUB: name,
            IAT: now,
            NBF: now,
            EXP: now + life_s,
            UEID: self._device,
            DBGSTAT: DEBUG_ENABLED if subject.debug else DEBUG_DISABLED_SINCE_BOOT,
            EAT_PROFILE: PROFILE,
            BOOTSEED: self._bootseed,
            SWNAME: subject.role,
            SWVERSION: subject.version,
            MEASUREMENT: subject.measurement,
            CONFINEMENT: sorted(subject.confinement),
            HARDWARE: SOFTWARE,
        }

    def evidence(self, subject: Subject, nonce: bytes) -> bytes:
        """Make evidence that answers a nonce of 32 bytes; returns it encoded."""
        claims = self._claims("attestation", subject.role, subject, TOKEN_LIFE_S)
        claims[NONCE] = nonce
        return encode(Evidence(format=self.format, token=self._signer.sign(claims), chain=self._chain()))

    def sign_record(self, claims: dict[int, Any]) -> bytes:
        """Sign a record of the controller, such as a cleaning record."""
        return self._signer.sign(claims)
