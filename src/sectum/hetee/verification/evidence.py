"""Verifies evidence: is it genuine, fresh, and chained to a trusted root? A policy says what is accepted."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from sectum.hetee.attest.attestation import COMMON, DEBUG_DISABLED_SINCE_BOOT, DEBUG_ENABLED
from sectum.hetee.attest.evidence import Evidence, Format
from sectum.hetee.attest.token import (
    BOOTSEED,
    CNF,
    CONFINEMENT,
    DBGSTAT,
    EAT_PROFILE,
    EXP,
    HARDWARE,
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
    cose_public_key,
    open_token,
)
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.messages import decode

EVIDENCE_BYTES = 48 << 10
CLOCK_SKEW_S = 60

_SOFTWARE: Schema = {DBGSTAT: int, BOOTSEED: bytes, SWNAME: str, SWVERSION: str, MEASUREMENT: bytes, CONFINEMENT: list}
ATTESTATION: Schema = COMMON | _SOFTWARE | {CNF: dict}
TOKEN: Schema = COMMON | _SOFTWARE | {NONCE: bytes}


@dataclass(frozen=True)
class Claims:
    """The claims of verified evidence. A `policy.Policy` decides whether to accept them.

    Attributes:
        format: format of the evidence.
        measurement: measurement of the role's software, 32 bytes. The controller took it.
        debug: whether debugging is possible.
        device: identifier of the machine.
        signer: the attestation key (Ed25519, 32 bytes).
        role: role of the subject.
        version: version of the software.
        confinement: the steps of confinement that its process has taken.
        registers: for hardware evidence, measurements of the enclave in which the controller runs, in hexadecimal, by
            their names.
        svn: for hardware evidence, security version of the enclave; 0 for TDX.
        tcb_status: for hardware evidence, status of the platform, in its vendor's words.
        advisories: for hardware evidence, security advisories that apply to the platform.
        tcb_evaluation: for hardware evidence, number of the vendor's evaluation that the status is from.
        vendor_root: for hardware evidence, whether it is chained to the vendor's root, not to one that a policy names.
    """

    format: Format
    measurement: bytes
    debug: bool
    device: bytes = b""
    signer: bytes = b""
    role: str = ""
    version: str = ""
    confinement: tuple[str, ...] = ()
    registers: dict[str, str] = field(default_factory=dict)
    svn: int = 0
    tcb_status: str = ""
    advisories: tuple[str, ...] = ()
    tcb_evaluation: int = 0
    vendor_root: bool = True

    @property
    def hardware(self) -> bool:
        """Whether the evidence comes from hardware."""
        return self.format != "software"

    def __str__(self) -> str:
        kind = f"{self.format.upper()} evidence" if self.hardware else "SOFTWARE evidence, no hardware protects this"
        what = f"{self.role} {self.version}".strip() or "an enclave"
        status = f", TCB {self.tcb_status}" if self.tcb_status else ""
        status += "" if self.vendor_root else ", under a ROOT OF THE POLICY, not of the hardware's vendor"
        return (
            f"{kind}: {what}, measurement {self.measurement.hex()[:16]}, debug {'on' if self.debug else 'off'}{status}"
        )


@runtime_checkable
class Verifier(Protocol):
    """Verifies that evidence is genuine, fresh and chained to a trusted root. It knows no policy."""

    @property
    def formats(self) -> frozenset[str]:
        """The formats of evidence that it can verify."""
        ...

    def verify(self, evidence: Evidence, nonce: bytes, now_s: float) -> Claims:
        """Verify, at a time in seconds since 1970.

        Raises:
            EvidenceRefused: it is not genuine, or is stale.
        """
        ...


def read_evidence(data: bytes) -> Evidence:
    """Decode evidence.

    Raises:
        EvidenceRefused: ``EVIDENCE_MALFORMED``.
    """
    try:
        if len(data) > EVIDENCE_BYTES:
            raise refusal(Refusal.MALFORMED, "too long")
        return decode(data, Evidence)
    except HeteeError:
        raise refusal(Refusal.EVIDENCE_MALFORMED, f"{len(data)} bytes are not evidence") from None


def verify(data: bytes, nonce: bytes, verifiers: Collection[Verifier], now_s: float) -> Claims:
    """Verify evidence with the verifier of its format.

    Args:
        data: encoded evidence.
        nonce: the nonce that it must answer, 32 bytes.
        verifiers: the verifiers to use.
        now_s: seconds since 1970.

    Raises:
        EvidenceRefused: it is malformed, not genuine, or stale.
    """
    evidence = read_evidence(data)
    for verifier in verifiers:
        if evidence.format in verifier.formats:
            return verifier.verify(evidence, nonce, now_s)
    raise refusal(Refusal.NOT_GENUINE, f"the policy does not accept evidence of the format {evidence.format}")


def confirmed_key(claims: dict[int, Any]) -> bytes:
    """The key in a `CNF` claim.

    Raises:
        EvidenceRefused: ``EVIDENCE_MALFORMED``.
    """
    confirmation = claims[CNF]
    key = confirmation.get(1) if isinstance(confirmation, dict) else None
    public_key = key.get(-2) if isinstance(key, dict) else None
    if not isinstance(public_key, bytes) or len(public_key) != 32 or confirmation != cose_public_key(public_key):
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a token's confirmation claim is not an Ed25519 key")
    return public_key


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
