"""Evidence with quotes: what binds an attestation key to an enclave, and what a policy asks of the enclave."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hetee_quote_provider import QUOTE_LIFE_S, QuoteProvider
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.records import Cleaning, sign_cleaning
from sectum.hetee.attest.token import CNF, DBGSTAT, HARDWARE, MEASUREMENT, SUB, canonical, cose_public_key, read_claims
from sectum.hetee.client.trust import verifiers_of
from sectum.hetee.confinement.required import CONFINEMENT
from sectum.hetee.errors import EvidenceRefused, PolicyRefused, Refusal
from sectum.hetee.verification.evidence import (
    ATTESTATION,
    EVIDENCE_BYTES,
    Claims,
    bound_report_data,
    read_evidence,
    verify,
)
from sectum.hetee.verification.policy import Policy, read_policy
from sectum.hetee.verification.quotes import QUOTE_BYTES, QuoteVerifier
from sectum.hetee.verification.records import open_cleaning
from sectum.hetee.wire.messages import encode

pytest.importorskip("dcap_qvl")
from hetee_quoting_platform import EVALUATION, ROOT_NAME, QuotingPlatform

NONCE = bytes(range(32))
CONTROLLER = Subject("controller", "0.1.0", b"c" * 32, confinement=CONFINEMENT["controller"])
WORKER = Subject("worker", "0.1.0", b"w" * 32, confinement=CONFINEMENT["worker"])
KINDS = ("sgx", "tdx")


def refused(code: Refusal) -> pytest.RaisesExc[EvidenceRefused]:
    return pytest.RaisesExc(EvidenceRefused, check=lambda error: error.code is code)


def provider_on(platform: QuotingPlatform, **options: Any) -> QuoteProvider:
    return QuoteProvider(platform.kind, CONTROLLER, platform.quote, platform.collateral, **options)


def checked(platform: QuotingPlatform, data: bytes, nonce: bytes = NONCE, now_s: float | None = None) -> Claims:
    return verify(data, nonce, [QuoteVerifier([platform.root])], time.time() if now_s is None else now_s)


def policy_for(platform: QuotingPlatform, **changes: Any) -> Policy:
    """A policy that accepts this platform and its enclave, but for the changes."""
    policy = Policy(
        formats=(platform.kind,),
        measurements={"controller": (b"c".hex() * 32,), "worker": (b"w".hex() * 32,)},
        registers={name: (value,) for name, value in platform.registers.items()},
        tcb_evaluation_least=EVALUATION,
        quote_roots=(platform.root.hex(),),
    )
    return msgspec.structs.replace(policy, **changes)


@pytest.fixture(scope="module", params=KINDS)
def platform(request: pytest.FixtureRequest) -> QuotingPlatform:
    return QuotingPlatform(request.param, svn=3 if request.param == "sgx" else 0)


def test_roles_have_measurements_of_their_own_and_one_signer(platform: QuotingPlatform) -> None:
    """Controller and worker differ in role and measurement; the one key that the quote vouches for signs both."""
    provider = provider_on(platform)
    found = [checked(platform, provider.evidence(subject, NONCE)) for subject in (CONTROLLER, WORKER)]
    assert [(claims.role, claims.measurement) for claims in found] == [
        ("controller", b"c" * 32),
        ("worker", b"w" * 32),
    ]
    assert {claims.signer for claims in found} == {provider.public_key}
    for claims in found:
        assert claims.registers == platform.registers
        assert (claims.device, claims.svn) == (platform.device, 3 if platform.kind == "sgx" else 0)
        assert (claims.tcb_status, claims.tcb_evaluation, claims.advisories) == ("UpToDate", EVALUATION, ())
        assert set(claims.confinement) == set(CONFINEMENT[claims.role])
        assert claims.hardware


def test_a_cleaning_record_verifies(platform: QuotingPlatform) -> None:
    """The controller's records are signed by the key that the evidence names."""
    provider = provider_on(platform)
    record = Cleaning(b"s" * 16, 0, "asked", "exit code 0", {}, 7, 1 << 20, hardware=platform.kind)
    signer = checked(platform, provider.evidence(CONTROLLER, NONCE)).signer
    found = open_cleaning(sign_cleaning(record, provider.sign_record), signer, b"s" * 16, 0)
    assert replace(found, issued_s=0) == record


def test_a_quote_vouches_for_one_attestation_key(platform: QuotingPlatform) -> None:
    """Another key under a genuine quote, whether her own claims or another controller's, is refused."""
    mine, other = provider_on(platform), provider_on(platform)
    ours, theirs = (read_evidence(each.evidence(CONTROLLER, NONCE)) for each in (mine, other))
    mixed = msgspec.structs.replace(theirs, chain=(ours.chain[0], ours.chain[1], theirs.chain[2]))
    with refused(Refusal.NOT_GENUINE):
        checked(platform, encode(mixed))
    with refused(Refusal.NOT_GENUINE):
        checked(platform, encode(msgspec.structs.replace(ours, token=theirs.token)))


@pytest.mark.parametrize(
    "change",
    [
        {MEASUREMENT: b"x" * 32},
        {DBGSTAT: 0},
        {CNF: cose_public_key(b"k" * 32)},
        {HARDWARE: "software"},
        {SUB: "endorsement"},
    ],
)
def test_claims_about_the_key_are_bound(platform: QuotingPlatform, change: dict[int, Any]) -> None:
    """Whatever is changed in the claims about the attestation key, the quote does not vouch for it."""
    evidence = read_evidence(provider_on(platform).evidence(CONTROLLER, NONCE))
    claims = read_claims(evidence.chain[2], ATTESTATION) | change
    forged = msgspec.structs.replace(evidence, chain=(*evidence.chain[:2], canonical(claims)))
    with refused(Refusal.NOT_GENUINE):
        checked(platform, encode(forged))


@pytest.mark.parametrize("change", [{HARDWARE: "software"}, {SUB: "endorsement"}, {-1: 1}, {CNF: {}}])
def test_quoted_claims_have_to_make_sense(platform: QuotingPlatform, change: dict[int, Any]) -> None:
    """Even what an enclave got quoted has to be as the specification has it."""
    evidence = read_evidence(provider_on(platform).evidence(CONTROLLER, NONCE))
    claimed = canonical(read_claims(evidence.chain[2], ATTESTATION) | change)
    chain = (evidence.chain[0], platform.quote(bound_report_data(claimed)), claimed)
    with refused(Refusal.EVIDENCE_MALFORMED):
        checked(platform, encode(msgspec.structs.replace(evidence, chain=chain)))


def test_the_collateral_is_of_this_platform(platform: QuotingPlatform) -> None:
    """What the vendor of another platform says does not count."""
    evidence = read_evidence(provider_on(platform).evidence(CONTROLLER, NONCE))
    collateral = QuotingPlatform(platform.kind).collateral()
    with refused(Refusal.NOT_GENUINE):
        checked(platform, encode(msgspec.structs.replace(evidence, chain=(collateral, *evidence.chain[1:]))))


def test_quotes_of_one_kind_are_not_evidence_of_the_other(platform: QuotingPlatform) -> None:
    """The format of the evidence is the kind of its quote."""
    evidence = read_evidence(provider_on(platform).evidence(CONTROLLER, NONCE))
    other = "tdx" if platform.kind == "sgx" else "sgx"
    with refused(Refusal.NOT_GENUINE):
        checked(platform, encode(msgspec.structs.replace(evidence, format=other)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_enclave_under_a_debugger_does_not_verify(kind: Any) -> None:
    """A quote with the debug attribute is not genuine evidence, whatever the policy says."""
    platform = QuotingPlatform(kind, debug=True)
    with refused(Refusal.NOT_GENUINE):
        checked(platform, provider_on(platform).evidence(CONTROLLER, NONCE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_quote_is_renewed_with_the_same_key(kind: Any) -> None:
    """A controller that runs for long shows newer claims about the same key; the older ones expire."""
    now = [time.time()]
    platform = QuotingPlatform(kind)
    provider = provider_on(platform, clock_s=lambda: now[0])
    first = read_evidence(provider.evidence(CONTROLLER, NONCE))
    now[0] += QUOTE_LIFE_S * 0.6
    second = read_evidence(provider.evidence(CONTROLLER, NONCE))
    assert second.chain[1] != first.chain[1]
    assert read_evidence(provider.evidence(CONTROLLER, NONCE)).chain[1] == second.chain[1]
    assert checked(platform, encode(second), now_s=now[0]).signer == provider.public_key
    now[0] += QUOTE_LIFE_S * 0.6
    with refused(Refusal.STALE):
        checked(platform, encode(msgspec.structs.replace(second, chain=first.chain)), now_s=now[0])


def test_no_default_policy_accepts_a_test_root(platform: QuotingPlatform) -> None:
    """Quotes of the tests verify under no policy that does not name their root, and that root says what it is."""
    data = provider_on(platform).evidence(CONTROLLER, NONCE)
    for policy in (policy_for(platform, quote_roots=()), Policy(formats=("software", "sgx", "tdx"), measurements={})):
        with refused(Refusal.NOT_GENUINE):
            verify(data, NONCE, verifiers_of(policy), time.time())
    assert ROOT_NAME.encode() in platform.root
    assert "ROOT OF THE POLICY" in str(checked(platform, data))


def test_what_a_policy_names_is_accepted(platform: QuotingPlatform) -> None:
    """An owner who names root, registers and evaluation accepts both roles, also when read from JSON."""
    provider, policy = provider_on(platform), read_policy(msgspec.json.encode(policy_for(platform)))
    for subject in (CONTROLLER, WORKER):
        claims = verify(provider.evidence(subject, NONCE), NONCE, verifiers_of(policy), time.time())
        policy.validate(claims, subject.role)


def test_every_register_counts(platform: QuotingPlatform) -> None:
    """A register with another value, or one that the policy does not name and that is not zero, is refused by name."""
    claims = checked(platform, provider_on(platform).evidence(CONTROLLER, NONCE))
    policy = policy_for(platform)
    for name, value in claims.registers.items():
        changed = replace(claims, registers=claims.registers | {name: "5a" * (len(value) // 2)})
        with pytest.raises(PolicyRefused, match=f"register {name} "):
            policy.validate(changed, "controller")
        unnamed = {other: values for other, values in policy.registers.items() if other != name}
        with pytest.raises(PolicyRefused, match=f"register {name} "):
            msgspec.structs.replace(policy, registers=unnamed).validate(changed, "controller")
        zero = replace(claims, registers=claims.registers | {name: "00" * (len(value) // 2)})
        msgspec.structs.replace(policy, registers=unnamed).validate(zero, "controller")
        msgspec.structs.replace(policy, registers=unnamed | {name: ("any",)}).validate(changed, "controller")


@pytest.mark.parametrize(
    ("platform_has", "policy_has", "words"),
    [
        ({"evaluation": EVALUATION - 1}, {}, "lower than 17"),
        ({}, {"tcb_evaluation_least": None}, "tcb_evaluation_least"),
        ({"status": "OutOfDate"}, {}, "TCB is OutOfDate"),
        ({"advisories": ("INTEL-SA-00615",)}, {}, "INTEL-SA-00615"),
        ({"svn": 1}, {"svn_least": 2}, "security version 1 is lower than 2"),
        ({}, {"measurements": {"controller": ("00" * 32,)}}, "measurement"),
        ({}, {"devices": ("01" * 16,)}, "device"),
        ({}, {"confinement": {"controller": ("a-step-it-lacks",)}}, "lacks confinement: a-step-it-lacks"),
    ],
)
def test_a_policy_decides_on_platform_and_enclave(
    platform_has: dict[str, Any], policy_has: dict[str, Any], words: str
) -> None:
    """Evaluation, status, advisories, security version, measurement, device and confinement each count."""
    platform = QuotingPlatform("sgx", **platform_has)
    claims = checked(platform, provider_on(platform).evidence(CONTROLLER, NONCE))
    with pytest.raises(PolicyRefused, match=words):
        policy_for(platform, **policy_has).validate(claims, "controller")


def test_a_revoked_platform_does_not_verify() -> None:
    """A platform that its vendor revoked proves nothing."""
    platform = QuotingPlatform("tdx", status="Revoked")
    with refused(Refusal.NOT_GENUINE):
        checked(platform, provider_on(platform).evidence(CONTROLLER, NONCE))


@pytest.mark.parametrize("registers", [{"mrtd": ("AB",)}, {"mrtd": ("Any",)}, {"mrtd": "00"}, ["mrtd"]])
def test_a_policy_with_a_mistake_in_a_register_is_refused(registers: Any) -> None:
    """A register's values are a list of hexadecimal numbers or ``any``."""
    text = msgspec.json.encode({"formats": ["tdx"], "measurements": {}, "registers": registers})
    with pytest.raises(PolicyRefused, match="policy"):
        read_policy(text)


HOSTILE = {
    "a length of 4 GiB": lambda q, c: (q[: SIGNED[q[0]]] + b"\xff" * 4 + q[SIGNED[q[0]] + 4 :], c),
    "nothing signed": lambda q, c: (q[: SIGNED[q[0]]] + bytes(4), c),
    "cut off": lambda q, c: (q[:-1], c),
    "zeros": lambda q, c: (bytes(len(q)), c),
    "too long": lambda q, c: (q + bytes(QUOTE_BYTES), c),
    "deep JSON": lambda q, c: (q, b'{"tcb_info":' + b"[" * 30_000),
    "a large number": lambda q, c: (q, b'{"tcb_info":' + b"9" * 30_000 + b"}"),
    "no JSON": lambda q, c: (q, b"\xff\xfe"),
    "a certificate again and again": lambda q, c: (q, again(c)),
}
SIGNED = {3: 48 + 384, 4: 48 + 584}  # bytes of header and report, by the version of the quote


def again(collateral: bytes) -> bytes:
    """Collateral whose chain of certificates is as long as the limit of evidence allows."""
    read = msgspec.json.decode(collateral)
    chain = read["tcb_info_issuer_chain"]
    read["tcb_info_issuer_chain"] = chain * ((EVIDENCE_BYTES - len(collateral)) // len(chain))
    return msgspec.json.encode(read)


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_quotes_are_refused(platform: QuotingPlatform, what: str) -> None:
    """Whatever a host makes of quote and collateral ends in a refusal."""
    evidence = read_evidence(provider_on(platform).evidence(CONTROLLER, NONCE))
    collateral, quote, claimed = evidence.chain
    quote, collateral = HOSTILE[what](quote, collateral)
    forged = msgspec.structs.replace(evidence, chain=(collateral, quote, claimed))
    with pytest.raises(EvidenceRefused) as caught:
        QuoteVerifier([platform.root]).verify(forged, NONCE, time.time())
    assert caught.value.code in (Refusal.EVIDENCE_MALFORMED, Refusal.NOT_GENUINE)
