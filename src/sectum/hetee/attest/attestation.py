"""What all evidence has in common: claims about an attestation key, and tokens that this key signs."""

from __future__ import annotations

import hashlib
import hmac
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
from sectum.hetee.errors import Refusal, refusal

SOFTWARE = "software"
DEBUG_ENABLED, DEBUG_DISABLED_SINCE_BOOT = 0, 2
CLOCK_SKEW_S = 60
TOKEN_LIFE_S = 300

_COMMON: Schema = {ISS: str, SUB: str, EXP: int, NBF: int, IAT: int, UEID: bytes, EAT_PROFILE: str, HARDWARE: str}
_SOFTWARE: Schema = {DBGSTAT: int, BOOTSEED: bytes, SWNAME: str, SWVERSION: str, MEASUREMENT: bytes, CONFINEMENT: list}
ENDORSEMENT: Schema = _COMMON | {CNF: dict}
ATTESTATION: Schema = _COMMON | _SOFTWARE | {CNF: dict}
TOKEN: Schema = _COMMON | _SOFTWARE | {NONCE: bytes}


def bound_report_data(attestation: bytes) -> bytes:
    """The report data of a quote that vouches for an attestation key, given the encoded claims about the key."""
    return hashlib.sha512(b"sectum1 attestation\0" + attestation).digest()


def open_evidence(evidence: Evidence, attestation: dict[int, Any], issuer: str, nonce: bytes, now_s: float) -> Claims:
    """Verify the token of evidence, given claims about its attestation key that were verified already.

    Args:
        evidence: the evidence.
        attestation: claims of the schema `ATTESTATION`.
        issuer: name of what vouches for the attestation key.
        nonce: the nonce that the token must answer.
        now_s: seconds since 1970.

    Raises:
        EvidenceRefused: it is malformed, not genuine, or stale.
    """
    signer = confirmed_key(attestation)
    token = open_token(evidence.token, signer, TOKEN)
    if not hmac.compare_digest(token[NONCE], nonce):
        raise refusal(Refusal.STALE, "the evidence was made for another handshake")
    check_link(attestation, (issuer, "attestation"), evidence.format, now_s)
    check_link(token, ("attestation", token[SWNAME]), evidence.format, now_s)
    if (attestation[UEID], attestation[BOOTSEED]) != (token[UEID], token[BOOTSEED]):
        raise refusal(Refusal.NOT_GENUINE, "the chain mixes certificates of different devices or starts")
    return Claims(
        format=evidence.format,
        measurement=token[MEASUREMENT],
        # A controller under a debugger can sign anything, so its state also counts for workers.
        debug=DEBUG_ENABLED in (attestation[DBGSTAT], token[DBGSTAT]),
        device=token[UEID],
        signer=signer,
        role=token[SWNAME],
        version=token[SWVERSION],
        confinement=tuple(token[CONFINEMENT]),
    )


def check_link(link: dict[int, Any], name: tuple[str, str], hardware: str, now_s: float) -> None:
    """Check the claims that each link of a chain has.

    Args:
        link: claims whose signature was verified.
        name: the issuer and the subject that they must have.
        hardware: the format of evidence that they must be for.
        now_s: seconds since 1970.

    Raises:
        EvidenceRefused: ``EVIDENCE_MALFORMED``, or ``STALE`` for a link that is not valid now.
    """
    wanted = link[HARDWARE] == hardware and link[EAT_PROFILE] == PROFILE and (link[ISS], link[SUB]) == name
    if not wanted or len(link[UEID]) != 17 or len(link.get(MEASUREMENT, bytes(32))) != 32:
        raise refusal(Refusal.EVIDENCE_MALFORMED, f"a certificate has claims that {hardware} evidence cannot have")
    if link.get(DBGSTAT, DEBUG_ENABLED) not in (DEBUG_ENABLED, DEBUG_DISABLED_SINCE_BOOT):
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a certificate has a debug state that software cannot have")
    if any(type(word) is not str for word in link.get(CONFINEMENT, ())):
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a certificate names confinement with something else than text")
    if not link[NBF] - CLOCK_SKEW_S <= now_s <= link[EXP] + CLOCK_SKEW_S:
        raise refusal(Refusal.STALE, f"the certificate of the {name[1]} is not valid at this time")
