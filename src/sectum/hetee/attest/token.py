"""Signed claims: CWT (RFC 8392) in COSE_Sign1 (RFC 9052) with EdDSA, and nothing else.

Only one form is allowed, so this module writes it without a COSE library: a receipt is signed and verified for every
batch while its client waits. A test checks that the library ``cwt`` reads and writes the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sectum.hetee.errors import Refusal, refusal

PROFILE = "tag:sectum,2026:hetee-2"
TOKEN_BYTES = 4096

# Registered claims (RFC 8392, RFC 8747, RFC 9711).
ISS, SUB, EXP, NBF, IAT, CNF = 1, 2, 4, 5, 6, 8
NONCE, UEID, DBGSTAT, EAT_PROFILE, BOOTSEED, SWNAME, SWVERSION = 10, 256, 263, 265, 268, 270, 271
# Claims of this profile, in the range for private use.
MEASUREMENT, HARDWARE, CONFINEMENT = -70001, -70002, -70003
SESSION, INDEX, STREAM, MODEL, TIMES_NS, PACED, ITEMS = range(-70010, -70017, -1)
ENDED, EXIT, ACCELERATORS, PID, PEAK_BYTES = range(-70020, -70025, -1)
REQUEST, INPUTS, RESULT, OUTPUTS, ACCELERATOR = range(-70030, -70035, -1)

# COSE_Sign1 (tag 18, four parts), protected {1: -8} (EdDSA), unprotected {4: key id of 8 bytes}. Then follow the
# payload and the signature of 64 bytes.
_HEAD = bytes.fromhex("d284 43a10127 a10448")
_SIGNATURE = bytes.fromhex("5840")
# The signed bytes before the payload: Sig_structure with "Signature1", the protected part, and no external data.
_SIGNED = bytes.fromhex("84") + b"\x6aSignature1" + bytes.fromhex("43a10127 40")

Schema = dict[int, type]


def key_id(public_key: bytes) -> bytes:
    """The key id by which a token names the key that signed it."""
    return hashlib.sha256(public_key).digest()[:8]


class Signer:
    """Signs claims with one key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.public_key = key.public_key().public_bytes_raw()
        self._key = key
        self._head = _HEAD + key_id(self.public_key)

    def __repr__(self) -> str:
        return f"Signer({self.public_key.hex()[:16]})"

    def sign(self, claims: dict[int, Any]) -> bytes:
        """Sign claims, which must include `IAT`."""
        payload = _byte_string(canonical(claims))
        return self._head + payload + _SIGNATURE + self._key.sign(_SIGNED + payload)


def canonical(value: Any) -> bytes:
    """The canonical CBOR encoding of a value."""
    import cbor2

    return cbor2.dumps(value, canonical=True)


def _byte_string(data: bytes) -> bytes:
    """Encode bytes as a CBOR byte string with the shortest head."""
    n_bytes = len(data)
    if n_bytes < 24:
        return bytes([0x40 + n_bytes]) + data
    return (b"\x58" + n_bytes.to_bytes(1) if n_bytes < 256 else b"\x59" + n_bytes.to_bytes(2)) + data


@functools.lru_cache(maxsize=64)
def _verifier(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)


def open_token(token: bytes, public_key: bytes, schema: Schema) -> dict[int, Any]:
    """Verify a token's signature and form.

    Args:
        token: a token from `Signer.sign`.
        public_key: Ed25519, 32 bytes.
        schema: exactly the claims that the token must have, with their types.

    Raises:
        EvidenceRefused: ``EVIDENCE_MALFORMED`` or ``NOT_GENUINE``.
    """
    payload = _payload(token, public_key)
    try:
        _verifier(public_key).verify(token[-64:], _SIGNED + _byte_string(payload))
    except (InvalidSignature, ValueError):
        raise refusal(Refusal.NOT_GENUINE, "a signature in the evidence is wrong") from None
    return read_claims(payload, schema)


def read_claims(data: bytes, schema: Schema) -> dict[int, Any]:
    """Decode claims that something else than a signature of this form vouches for.

    Args:
        data: canonical CBOR.
        schema: exactly the claims that it must have, with their types.

    Raises:
        EvidenceRefused: ``EVIDENCE_MALFORMED``.
    """
    claims: Any = _load(data) if len(data) <= TOKEN_BYTES else None
    # type() instead of isinstance(), so that True does not count as a number.
    if not isinstance(claims, dict) or {claim: type(value) for claim, value in claims.items()} != schema:
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a token does not have exactly the claims of its kind")
    opened: dict[int, Any] = claims
    return opened


def _payload(token: bytes, public_key: bytes) -> bytes:
    """The signed bytes of a token. The signature is not verified yet.

    Everything but payload and signature is fixed, so no CBOR parser is needed for it, and claims are parsed only after
    their signature was verified.
    """
    rest = token.removeprefix(_HEAD)
    if len(token) > TOKEN_BYTES or len(rest) + len(_HEAD) != len(token) or len(rest) < 8 + len(_SIGNATURE) + 64:
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a token is not a COSE_Sign1 with EdDSA and a key id")
    if rest[:8] != key_id(public_key):
        raise refusal(Refusal.NOT_GENUINE, "a token is signed by another key than expected")
    signed = rest[8:-64]
    for prefix in (1, 2, 3):
        payload = signed[prefix : -len(_SIGNATURE)]
        if _byte_string(payload) + _SIGNATURE == signed:
            return payload
    raise refusal(Refusal.EVIDENCE_MALFORMED, "a token is not a COSE_Sign1 in canonical form")


def _load(data: bytes) -> Any:
    """Decode CBOR that is the canonical encoding of its value."""
    import cbor2

    try:
        value = cbor2.loads(data)
        same = canonical(value) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError):
        same = False
    if not same:
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a token is not CBOR in canonical form")
    return value


def cose_public_key(public_key: bytes) -> dict[int, Any]:
    """A `CNF` claim (RFC 8747) that names an Ed25519 key."""
    return {1: {1: 1, -1: 6, -2: public_key}}
