"""The attestation key, which is made at the start of a controller and never stored. Not for workers or hosts."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest import token
from sectum.hetee.attest.attestation import DEBUG_DISABLED_SINCE_BOOT, DEBUG_ENABLED, TOKEN_LIFE_S
from sectum.hetee.attest.evidence import Evidence, Format, Subject
from sectum.hetee.attest.token import Signer, cose_public_key
from sectum.hetee.wire.messages import encode


class AttestationKey(ABC):
    """Holds an attestation key, and makes tokens and records with it. A subclass says what vouches for the key.

    Args:
        format: format of the evidence.
        device: the device's ueid (EAT), 17 bytes.
        clock_s: seconds since 1970.
    """

    def __init__(self, format: Format, device: bytes, clock_s: Callable[[], float] = time.time) -> None:  # noqa: A002
        self._signer = Signer(Ed25519PrivateKey.generate())
        self._clock_s = clock_s
        self._device, self._bootseed = device, secrets.token_bytes(32)
        self.format: Format = format
        self.public_key = self._signer.public_key

    def __repr__(self) -> str:
        return f"{type(self).__name__}(attestation key {self.public_key.hex()[:16]})"

    def _claims(self, issuer: str, name: str, subject: Subject, life_s: int) -> dict[int, Any]:
        now = int(self._clock_s())
        return {
            token.ISS: issuer,
            token.SUB: name,
            token.IAT: now,
            token.NBF: now,
            token.EXP: now + life_s,
            token.UEID: self._device,
            token.DBGSTAT: DEBUG_ENABLED if subject.debug else DEBUG_DISABLED_SINCE_BOOT,
            token.EAT_PROFILE: token.PROFILE,
            token.BOOTSEED: self._bootseed,
            token.SWNAME: subject.role,
            token.SWVERSION: subject.version,
            token.MEASUREMENT: subject.measurement,
            token.CONFINEMENT: sorted(subject.confinement),
            token.HARDWARE: self.format,
        }

    def _attestation(self, issuer: str, controller: Subject, life_s: int) -> dict[int, Any]:
        """Claims about the key, which ``issuer`` has to sign or to quote."""
        return self._claims(issuer, "attestation", controller, life_s) | {token.CNF: cose_public_key(self.public_key)}

    def left_s(self) -> float:
        """Seconds until what vouches for the key expires; without end if it does not say."""
        return float("inf")

    @abstractmethod
    def _chain(self) -> tuple[bytes, ...]:
        """The chain from a root to the attestation key."""

    def evidence(self, subject: Subject, nonce: bytes) -> bytes:
        """Make evidence that answers a nonce of 32 bytes; returns it encoded."""
        claims = self._claims("attestation", subject.role, subject, TOKEN_LIFE_S) | {token.NONCE: nonce}
        return encode(Evidence(format=self.format, token=self._signer.sign(claims), chain=self._chain()))

    def sign_record(self, claims: dict[int, Any]) -> bytes:
        """Sign a record of the controller, such as a cleaning record."""
        return self._signer.sign(claims)
