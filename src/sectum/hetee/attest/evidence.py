"""What evidence is, who makes it, and who says whether it is genuine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

from msgspec import Meta

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.messages import Message, decode

EVIDENCE_BYTES = 48 << 10
NONCE_BYTES = 32

Format = Literal["software", "sgx", "tdx"]
Part = Annotated[bytes, Meta(max_length=32 << 10)]


class Evidence(Message, frozen=True):
    """Evidence as it travels: a token that answers a nonce, and the chain from a root to the token's key."""

    format: Format
    token: Part
    chain: Annotated[tuple[Part, ...], Meta(max_length=4)] = ()


@dataclass(frozen=True)
class Subject:
    """Whom evidence is about.

    Attributes:
        role: ``controller`` or ``worker``.
        version: of its software.
        measurement: SHA-256 of its software, 32 bytes.
        debug: whether somebody may look into it.
    """

    role: str
    version: str
    measurement: bytes
    debug: bool = False


@dataclass(frozen=True)
class Claims:
    """What genuine evidence says. Whether that is enough is for a `policy.Policy` to say.

    Attributes:
        format: the kind of evidence.
        measurement: 32 bytes, or 48 of TDX.
        debug: whether debugging is possible.
        device: which machine; empty where the format does not tell.
        signer: the attestation key (Ed25519, 32 bytes); empty where the format has none of its own.
        role: empty where the format does not tell.
        version: of the software; empty where the format does not tell.
        tcb_status: of the platform, as its vendor words it; empty where the format has none.
        advisories: security advisories that apply to the platform.
    """

    format: Format
    measurement: bytes
    debug: bool
    device: bytes = b""
    signer: bytes = b""
    role: str = ""
    version: str = ""
    tcb_status: str = ""
    advisories: tuple[str, ...] = ()

    @property
    def hardware(self) -> bool:
        """Whether hardware stands behind the evidence."""
        return self.format != "software"

    def __str__(self) -> str:
        kind = f"{self.format.upper()} evidence" if self.hardware else "SOFTWARE evidence, no hardware protects this"
        what = f"{self.role} {self.version}".strip() or "an enclave"
        status = f", TCB {self.tcb_status}" if self.tcb_status else ""
        return (
            f"{kind}: {what}, measurement {self.measurement.hex()[:16]}, debug {'on' if self.debug else 'off'}{status}"
        )


@runtime_checkable
class Provider(Protocol):
    """Makes evidence. ``sectum.testing.evidence_conformance`` says what it has to do."""

    @property
    def format(self) -> Format:
        """The kind of evidence that it makes."""
        ...

    def evidence(self, subject: Subject, nonce: bytes) -> bytes:
        """Make evidence about a subject that answers a nonce of 32 bytes; encoded."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Says whether evidence is genuine, fresh and chained to a root that it trusts. Knows no policy."""

    @property
    def formats(self) -> frozenset[str]:
        """The kinds of evidence that it can verify."""
        ...

    def verify(self, evidence: Evidence, nonce: bytes, now_s: float) -> Claims:
        """Verify, at a time in seconds since 1970.

        Raises:
            EvidenceRefused: it is not genuine, or stale.
        """
        ...


def read_evidence(data: bytes) -> Evidence:
    """Read evidence as it travels.

    Raises:
        EvidenceRefused: ``EVIDENCE_MALFORMED``.
    """
    try:
        if len(data) > EVIDENCE_BYTES:
            raise refusal(Refusal.MALFORMED, "too long")
        return decode(data, Evidence)
    except HeteeError:
        raise refusal(Refusal.EVIDENCE_MALFORMED, f"{len(data)} bytes that are no evidence") from None


def verify(data: bytes, nonce: bytes, verifiers: Collection[Verifier], now_s: float) -> Claims:
    """Verify evidence with the verifier of its format.

    Args:
        data: encoded evidence.
        nonce: what it has to answer, 32 bytes.
        verifiers: those that the relying party trusts.
        now_s: seconds since 1970.

    Raises:
        EvidenceRefused: it is malformed, not genuine, or stale.
    """
    evidence = read_evidence(data)
    for verifier in verifiers:
        if evidence.format in verifier.formats:
            return verifier.verify(evidence, nonce, now_s)
    raise refusal(Refusal.NOT_GENUINE, f"evidence of format {evidence.format}, for which nothing is trusted here")
