"""Signed claims are what another implementation of CWT and COSE reads and writes."""

from __future__ import annotations

import warnings

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sectum.hetee.attest.token import IAT, SUB, Signer, key_id, open_token

with warnings.catch_warnings():
    # It imports a key exchange that cryptography deprecates.
    warnings.simplefilter("ignore")
    import cwt


@pytest.mark.parametrize("length", [0, 7, 120, 200, 400])
def test_cwt_writes_the_same_bytes_and_reads_them(length: int) -> None:
    """Ed25519 is deterministic: the library `cwt` makes the same token of claims of any length, and opens ours."""
    claims = {SUB: "r" * length, IAT: 1_700_000_000}
    schema = {SUB: str, IAT: int}
    if length > 100:
        claims |= {-70001: b"m" * 32, -70014: {"compute": 1 << 40, "transfer": 0}}
        schema |= {-70001: bytes, -70014: dict}
    key = Ed25519PrivateKey.generate()
    signer = Signer(key)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    theirs = cwt.COSEKey.from_pem(pem, kid=key_id(signer.public_key))
    payload = cbor2.dumps(claims, canonical=True)
    token = signer.sign(claims)
    assert cwt.COSE.new(kid_auto_inclusion=True, alg_auto_inclusion=True).encode_and_sign(payload, theirs) == token
    assert cwt.COSE.new(verify_kid=True).decode(token, theirs) == payload
    assert open_token(token, signer.public_key, schema) == claims
