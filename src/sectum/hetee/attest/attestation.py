"""What all evidence has in common: claims about an attestation key, and tokens that this key signs."""

from __future__ import annotations

from sectum.hetee.attest import token
from sectum.hetee.attest.token import Schema

SOFTWARE = "software"
DEBUG_ENABLED, DEBUG_DISABLED_SINCE_BOOT = 0, 2
TOKEN_LIFE_S = 300

COMMON: Schema = {
    token.ISS: str,
    token.SUB: str,
    token.EXP: int,
    token.NBF: int,
    token.IAT: int,
    token.UEID: bytes,
    token.EAT_PROFILE: str,
    token.HARDWARE: str,
}
ENDORSEMENT: Schema = COMMON | {token.CNF: dict}
