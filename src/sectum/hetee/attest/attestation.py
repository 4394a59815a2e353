"""What all evidence has in common: claims about an attestation key, and tokens that this key signs."""

from __future__ import annotations

import hashlib

from sectum.hetee.attest.token import (
    CNF,
    EAT_PROFILE,
    EXP,
    HARDWARE,
    IAT,
    ISS,
    NBF,
    SUB,
    UEID,
    Schema,
)

SOFTWARE = "software"
DEBUG_ENABLED, DEBUG_DISABLED_SINCE_BOOT = 0, 2
TOKEN_LIFE_S = 300

COMMON: Schema = {ISS: str, SUB: str, EXP: int, NBF: int, IAT: int, UEID: bytes, EAT_PROFILE: str, HARDWARE: str}
ENDORSEMENT: Schema = COMMON | {CNF: dict}


def bound_report_data(attestation: bytes) -> bytes:
    """The report data of a quote that vouches for an attestation key, given the encoded claims about the key."""
    return hashlib.sha512(b"sectum1 attestation\0" + attestation).digest()
