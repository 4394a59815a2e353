"""Software evidence: what a forger without the keys, or with some of them, could try."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cbor2
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.attest.token import (
    BOOTSEED,
    CNF,
    DBGSTAT,
    EXP,
    HARDWARE,
    IAT,
    MEASUREMENT,
    NBF,
    NONCE,
    SUB,
    SWNAME,
    UEID,
    Signer,
    cose_public_key,
    open_token,
)
from sectum.hetee.errors import EvidenceRefused, Refusal
from sectum.hetee.installation.manufacture import manufacture
from sectum.hetee.verification.evidence import TOKEN, Claims, read_evidence, verify
from sectum.hetee.verification.software import SoftwareVerifier
from sectum.hetee.wire.messages import encode

NONCE_BYTES = bytes(range(32))
ENDORSEMENT = manufacture()
CONTROLLER = Subject("controller", "0.1.0", b"c" * 32)
WORKER = Subject("worker", "0.1.0", b"w" * 32)


def check(data: bytes, *, nonce: bytes = NONCE_BYTES, now_s: float | None = None) -> Claims:
    return verify(data, nonce, [SoftwareVerifier([ENDORSEMENT.root])], time.time() if now_s is None else now_s)


def refused(code: Refusal) -> pytest.RaisesExc[EvidenceRefused]:
    return pytest.RaisesExc(EvidenceRefused, check=lambda error: error.code is code)


@pytest.fixture(scope="module")
def provider() -> SoftwareProvider:
    return SoftwareProvider(ENDORSEMENT, CONTROLLER)


def resigned(provider: SoftwareProvider, part: int, change: dict[int, Any], key: Signer) -> bytes:
    """Evidence one part of which (0: token, 1: endorsement, 2: attestation) says something else, signed anew."""
    evidence = read_evidence(provider.evidence(WORKER, NONCE_BYTES))
    parts = [evidence.token, *evidence.chain]
    claims = cbor2.loads(cbor2.loads(parts[part]).value[2])
    parts[part] = key.sign({claim: value for claim, value in (claims | change).items() if value is not None})
    return encode(msgspec.structs.replace(evidence, token=parts[0], chain=tuple(parts[1:])))


def test_claims_are_those_of_the_subject(provider: SoftwareProvider) -> None:
    """Genuine evidence gives role, version, measurement, device and the key that signed it."""
    claims = check(provider.evidence(WORKER, NONCE_BYTES))
    assert (claims.role, claims.version, claims.measurement) == ("worker", "0.1.0", b"w" * 32)
    assert (claims.device, claims.signer) == (ENDORSEMENT.device, provider.public_key)
    assert not claims.hardware
    assert str(claims).startswith("SOFTWARE evidence, no hardware protects this: worker 0.1.0")


def test_each_start_has_a_key_of_its_own() -> None:
    """Two starts of a controller on one machine have different attestation keys."""
    keys = {SoftwareProvider(ENDORSEMENT, CONTROLLER).public_key for _ in range(3)}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({HARDWARE: "sgx"}, Refusal.EVIDENCE_MALFORMED),
        ({HARDWARE: None}, Refusal.EVIDENCE_MALFORMED),
        ({DBGSTAT: 1}, Refusal.EVIDENCE_MALFORMED),
        ({DBGSTAT: 3}, Refusal.EVIDENCE_MALFORMED),
        ({DBGSTAT: False}, Refusal.EVIDENCE_MALFORMED),
        ({MEASUREMENT: b"short"}, Refusal.EVIDENCE_MALFORMED),
        ({MEASUREMENT: None}, Refusal.EVIDENCE_MALFORMED),
        ({-70099: 1}, Refusal.EVIDENCE_MALFORMED),
        ({NONCE: NONCE_BYTES[:31]}, Refusal.STALE),
        ({NONCE: "text"}, Refusal.EVIDENCE_MALFORMED),
        ({SUB: "controller"}, Refusal.EVIDENCE_MALFORMED),
        ({UEID: b"\x01" + bytes(16)}, Refusal.NOT_GENUINE),
        ({BOOTSEED: bytes(32)}, Refusal.NOT_GENUINE),
        ({EXP: 1}, Refusal.STALE),
        ({NBF: 1 << 40}, Refusal.STALE),
        ({NBF: -(1 << 70)}, None),
        ({EXP: 1e300}, Refusal.EVIDENCE_MALFORMED),
    ],
)
def test_what_is_signed_has_to_make_sense(
    provider: SoftwareProvider, change: dict[int, Any], code: Refusal | None
) -> None:
    """Even the holder of the attestation key cannot sign evidence that is not as the specification has it."""
    data = resigned(provider, 0, change, provider._signer)
    if code is None:
        assert check(data).role == "worker"
    else:
        with refused(code):
            check(data)


def test_a_chain_cannot_be_continued_with_another_key(provider: SoftwareProvider) -> None:
    """No link can be signed by a key that the link before does not name."""
    forger = Signer(Ed25519PrivateKey.generate())
    for part in range(3):
        with refused(Refusal.NOT_GENUINE):
            check(resigned(provider, part, {}, forger))


def test_an_attestation_key_cannot_endorse_another(provider: SoftwareProvider) -> None:
    """A stolen attestation key makes no new attestation certificate."""
    mine = Signer(Ed25519PrivateKey.generate())
    for part in (1, 2):
        with refused(Refusal.NOT_GENUINE):
            check(resigned(provider, part, {CNF: cose_public_key(mine.public_key)}, provider._signer))


def test_an_endorsement_key_cannot_skip_a_link() -> None:
    """A token signed by the endorsement key directly is refused, though that key is in the chain."""
    provider = SoftwareProvider(ENDORSEMENT, CONTROLLER)
    with refused(Refusal.NOT_GENUINE):
        check(resigned(provider, 0, {}, Signer(ENDORSEMENT.key)))


@pytest.mark.parametrize(
    "confirmation",
    [{}, {1: {}}, {1: {1: 1, -1: 6, -2: b"short"}}, {1: {1: 1, -1: 6, -2: bytes(32), 4: 1}}, {3: b"kid"}, {1: 5}],
)
def test_a_link_confirms_one_ed25519_key(confirmation: dict[int, Any]) -> None:
    """Whatever else a certificate confirms is refused."""
    provider = SoftwareProvider(ENDORSEMENT, CONTROLLER)
    with refused(Refusal.EVIDENCE_MALFORMED):
        check(resigned(provider, 2, {CNF: confirmation}, Signer(ENDORSEMENT.key)))


def test_a_debugged_controller_cannot_hide_behind_its_worker() -> None:
    """If the attestation key was made in debug mode, everything that it signs counts as debugged."""
    provider = SoftwareProvider(ENDORSEMENT, Subject("controller", "0.1.0", b"c" * 32, debug=True))
    assert check(provider.evidence(WORKER, NONCE_BYTES)).debug


def test_chains_of_two_starts_do_not_mix() -> None:
    """The token of one start with the certificate of another is refused."""
    first, second = (
        read_evidence(SoftwareProvider(ENDORSEMENT, CONTROLLER).evidence(WORKER, NONCE_BYTES)) for _ in "12"
    )
    with refused(Refusal.NOT_GENUINE):
        check(encode(msgspec.structs.replace(first, chain=second.chain)))


def test_evidence_of_another_rack_says_how_to_accept_it() -> None:
    """A rack of one's own that the policy does not name yet is refused with the command that writes one that does."""
    data = SoftwareProvider(manufacture(Ed25519PrivateKey.generate()), CONTROLLER).evidence(WORKER, NONCE_BYTES)
    with pytest.raises(EvidenceRefused, match=r"at no root that the policy trusts .*sectum hetee policy --root"):
        check(data)


def test_times_have_a_tolerance_of_a_minute() -> None:
    """Evidence lives five minutes; clocks may differ by one."""
    provider = SoftwareProvider(manufacture_now(), CONTROLLER, clock_s=lambda: 1_000_000.0)
    data = provider.evidence(WORKER, NONCE_BYTES)
    verifier = SoftwareVerifier([provider_root()])
    for now_s, good in ((999_939, False), (999_941, True), (1_000_359, True), (1_000_361, False)):
        if good:
            verify(data, NONCE_BYTES, [verifier], now_s)
        else:
            with refused(Refusal.STALE):
                verify(data, NONCE_BYTES, [verifier], now_s)


_OLD_ROOT = Ed25519PrivateKey.generate()


def manufacture_now() -> Any:
    return manufacture(_OLD_ROOT, now_s=1_000_000)


def provider_root() -> bytes:
    return _OLD_ROOT.public_key().public_bytes_raw()


def bend_headers(change: Callable[[list[Any]], object]) -> Callable[[bytes], bytes]:
    def bend(token: bytes) -> bytes:
        tag = cbor2.loads(token)
        change(tag.value)
        return cbor2.dumps(tag, canonical=True)

    return bend


@pytest.mark.parametrize(
    "bend",
    [
        lambda token: b"",
        lambda token: token[:-1],
        lambda token: token + b"\0",
        lambda token: b"\xd8\x12" + token[1:],
        lambda token: cbor2.dumps(cbor2.loads(token).value),
        lambda token: cbor2.dumps(cbor2.CBORTag(17, cbor2.loads(token).value)),
        lambda token: cbor2.dumps(cbor2.CBORTag(61, cbor2.loads(token))),
        lambda token: b"\x81" * 4000,
        lambda token: b"\xd2" * 4000,
        lambda token: b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        lambda token: b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        lambda token: token + bytes(5000),
        bend_headers(lambda parts: parts.__setitem__(0, cbor2.dumps({1: -7}))),
        bend_headers(lambda parts: parts.__setitem__(0, cbor2.dumps({1: -8, 2: [1]}))),
        bend_headers(lambda parts: parts.__setitem__(0, b"")),
        bend_headers(lambda parts: parts.__setitem__(1, {})),
        bend_headers(lambda parts: parts[1].update({33: [b"certificate"]})),
        bend_headers(lambda parts: parts.__setitem__(2, None)),
        bend_headers(lambda parts: parts.__setitem__(3, parts[3][:63])),
        bend_headers(lambda parts: parts.__setitem__(3, bytes(64))),
        bend_headers(lambda parts: parts.append(b"")),
    ],
)
def test_other_forms_of_a_token_are_refused(bend: Callable[[bytes], bytes]) -> None:
    """A token has one form: tag 18, EdDSA, a key id, canonical encoding; anything else is refused, not tolerated."""
    signer = Signer(Ed25519PrivateKey.generate())
    claims = {1: "attestation", 2: "worker", EXP: 1, NBF: 1, IAT: 1}
    token = signer.sign(claims)
    schema = {1: str, 2: str, EXP: int, NBF: int, IAT: int}
    assert open_token(token, signer.public_key, schema) == claims
    with pytest.raises(EvidenceRefused):
        open_token(bend(token), signer.public_key, schema)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", bytes(60_000)])
def test_bytes_that_are_no_evidence(data: bytes) -> None:
    """Whatever is no evidence is malformed."""
    with refused(Refusal.EVIDENCE_MALFORMED):
        check(data)


def test_the_schema_of_a_token_is_complete(provider: SoftwareProvider) -> None:
    """Every claim that the specification lists for a token is in it, and no other."""
    token = read_evidence(provider.evidence(WORKER, NONCE_BYTES)).token
    assert cbor2.loads(cbor2.loads(token).value[2]).keys() == TOKEN.keys()
    assert SWNAME in TOKEN
