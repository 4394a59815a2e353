"""Verifies evidence of the format ``software``: its signatures are real, but no hardware protects the keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from sectum.hetee.attest.attestation import ENDORSEMENT, SOFTWARE
from sectum.hetee.attest.evidence import Evidence
from sectum.hetee.attest.token import UEID, open_token
from sectum.hetee.errors import EvidenceRefused, Refusal, refusal
from sectum.hetee.verification.evidence import ATTESTATION, Claims, check_link, confirmed_key, open_evidence


class SoftwareVerifier:
    """Verifies the chain from the manufacturer's root over endorsement key and attestation key to the token.

    Args:
        roots: public keys of the trusted manufacturers (Ed25519, 32 bytes each).
    """

    formats = frozenset({SOFTWARE})

    def __init__(self, roots: Iterable[bytes]) -> None:
        self._roots = tuple(roots)

    def verify(self, evidence: Evidence, nonce: bytes, now_s: float) -> Claims:
        """Verify at a time in seconds since 1970.

        Raises:
            EvidenceRefused: it is malformed, not genuine, or stale.
        """
        if len(evidence.chain) != 2:
            raise refusal(Refusal.EVIDENCE_MALFORMED, f"the chain has {len(evidence.chain)} certificates, expected 2")
        endorsement = self._from_root(evidence.chain[0])
        attestation = open_token(evidence.chain[1], confirmed_key(endorsement), ATTESTATION)
        claims = open_evidence(evidence, attestation, "endorsement", nonce, now_s)
        check_link(endorsement, ("manufacturer", "endorsement"), SOFTWARE, now_s)
        if endorsement[UEID] != claims.device:
            raise refusal(Refusal.NOT_GENUINE, "the chain mixes certificates of different devices or starts")
        return claims

    def _from_root(self, endorsement: bytes) -> dict[int, Any]:
        for root in self._roots:
            with contextlib.suppress(EvidenceRefused):
                return open_token(endorsement, root, ENDORSEMENT)
        raise refusal(
            Refusal.NOT_GENUINE,
            "the evidence ends at no root that the policy trusts",
            "do not send data there. If it is a rack that you trust, accept its endorsement/root.pub as well: 'sectum "
            "hetee policy --root' writes such a policy",
        )
