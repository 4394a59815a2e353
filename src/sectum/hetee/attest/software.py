"""Verifies evidence of the format ``software``: its signatures are real, but no hardware protects the keys."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Iterable
from typing import Any

from sectum.hetee.attest.evidence import Claims, Evidence
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
    Schema,
    confirmed_key,
    open_token,
)
from sectum.hetee.errors import EvidenceRefused, Refusal, refusal

SOFTWARE = "software"
DEBUG_ENABLED, DEBUG_DISABLED_SINCE_BOOT = 0, 2
CLOCK_SKEW_S = 60
TOKEN_LIFE_S = 300

_COMMON: Schema = {ISS: str, SUB: str, EXP: int, NBF: int, IAT: int, UEID: bytes, EAT_PROFILE: str, HARDWARE: str}
_SOFTWARE: Schema = {DBGSTAT: int, BOOTSEED: bytes, SWNAME: str, SWVERSION: str, MEASUREMENT: bytes, CONFINEMENT: list}
ENDORSEMENT: Schema = _COMMON | {CNF: dict}
ATTESTATION: Schema = _COMMON | _SOFTWARE | {CNF: dict}
TOKEN: Schema = _COMMON | _SOFTWARE | {NONCE: bytes}


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
        signer = confirmed_key(attestation)
        token = open_token(evidence.token, signer, TOKEN)
        if not hmac.compare_digest(token[NONCE], nonce):
            raise refusal(Refusal.STALE, "the evidence was made for another handshake")
        names = (("manufacturer", "endorsement"), ("endorsement", "attestation"), ("attestation", token[SWNAME]))
        links = (endorsement, attestation, token)
        for link, name in zip(links, names, strict=True):
            _check_link(link, name, now_s)
        if len({link[UEID] for link in links}) != 1 or attestation[BOOTSEED] != token[BOOTSEED]:
            raise refusal(Refusal.NOT_GENUINE, "the chain mixes certificates of different devices or starts")
        return Claims(
            format="software",
            measurement=token[MEASUREMENT],
            # A controller under a debugger can sign anything, so its state also counts for workers.
            debug=DEBUG_ENABLED in (attestation[DBGSTAT], token[DBGSTAT]),
            device=token[UEID],
            signer=signer,
            role=token[SWNAME],
            version=token[SWVERSION],
            confinement=tuple(token[CONFINEMENT]),
        )

    def _from_root(self, endorsement: bytes) -> dict[int, Any]:
        for root in self._roots:
            with contextlib.suppress(EvidenceRefused):
                return open_token(endorsement, root, ENDORSEMENT)
        raise refusal(Refusal.NOT_GENUINE, f"the chain ends at none of the {len(self._roots)} trusted software roots")


def _check_link(link: dict[int, Any], name: tuple[str, str], now_s: float) -> None:
    wanted = link[HARDWARE] == SOFTWARE and link[EAT_PROFILE] == PROFILE and (link[ISS], link[SUB]) == name
    if not wanted or len(link[UEID]) != 17 or len(link.get(MEASUREMENT, bytes(32))) != 32:
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a certificate has claims that software evidence cannot have")
    if link.get(DBGSTAT, DEBUG_ENABLED) not in (DEBUG_ENABLED, DEBUG_DISABLED_SINCE_BOOT):
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a certificate has a debug state that software cannot have")
    if any(type(word) is not str for word in link.get(CONFINEMENT, ())):
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a certificate names confinement with something else than text")
    if not link[NBF] - CLOCK_SKEW_S <= now_s <= link[EXP] + CLOCK_SKEW_S:
        raise refusal(Refusal.STALE, f"the certificate of the {name[1]} is not valid at this time")
