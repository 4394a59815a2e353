"""Makes evidence of the format ``software`` with the controller's attestation key. Not for workers or hosts."""

from __future__ import annotations

import time
from collections.abc import Callable

from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.endorsement import Endorsement
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.token import Signer

ATTESTATION_LIFE_S = 24 * 3600  # renewed when half of it has passed


class SoftwareProvider(AttestationKey):
    """An attestation key that an endorsement key vouches for.

    Args:
        endorsement: endorsement of this machine; its key signs the attestation key again and again.
        controller: the controller, which holds the attestation key.
        clock_s: seconds since 1970.
    """

    def __init__(self, endorsement: Endorsement, controller: Subject, clock_s: Callable[[], float] = time.time) -> None:
        super().__init__("software", endorsement.device, clock_s)
        self._endorser, self._endorsement = Signer(endorsement.key), endorsement
        self._controller, self._expires_s = controller, endorsement.expires_s
        self._certificate, self._renewed_s = b"", float("-inf")

    def left_s(self) -> float:
        """Seconds until the endorsement of this machine expires."""
        return self._expires_s - self._clock_s()

    def _chain(self) -> tuple[bytes, ...]:
        now = self._clock_s()
        if not self._renewed_s <= now < self._renewed_s + ATTESTATION_LIFE_S / 2:  # or the clock was set back
            attestation = self._attestation("endorsement", self._controller, ATTESTATION_LIFE_S)
            self._certificate, self._renewed_s = self._endorser.sign(attestation), now
        return self._endorsement.certificate, self._certificate
