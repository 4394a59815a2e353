"""Makes evidence of the format ``software`` with the controller's attestation key. Not for workers or hosts."""

from __future__ import annotations

import time
from collections.abc import Callable

from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.endorsement import ENDORSEMENT_LIFE_S, Endorsement
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.token import Signer

# As long as an endorsement, whose own end bounds it: the endorsement key that could renew it is not kept.
ATTESTATION_LIFE_S = ENDORSEMENT_LIFE_S


class SoftwareProvider(AttestationKey):
    """An attestation key that an endorsement key vouches for.

    Args:
        endorsement: endorsement of this machine; its key signs the attestation key once, and is not kept.
        controller: the controller, which holds the attestation key.
        clock_s: seconds since 1970.
    """

    def __init__(self, endorsement: Endorsement, controller: Subject, clock_s: Callable[[], float] = time.time) -> None:
        super().__init__("software", endorsement.device, clock_s)
        attestation = self._attestation("endorsement", controller, ATTESTATION_LIFE_S)
        self._certificates = (endorsement.certificate, Signer(endorsement.key).sign(attestation))

    def _chain(self) -> tuple[bytes, ...]:
        return self._certificates
