"""Evidence, the protocol of those who make it, and the protocol of those who verify it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol, runtime_checkable

from msgspec import Meta

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.messages import Message, decode

EVIDENCE_BYTES = 48 << 10
NONCE_BYTES = 32

Format = Literal["software", "sgx", "tdx"]
Part = Annotated[bytes, Meta(max_length=32 << 10)]


class Evidence(Message, frozen=True):
    """Evidence as it is sent: a token that answers a nonce, and the chain from a root to the token's key."""

    format: Format
    token: Part
    chain: Annotated[tuple[Part, ...], Meta(max_length=4)] = ()


@dataclass(frozen=True)
class Subject:
    """The subject of evidence.

    Attributes:
        role: ``controller`` or ``worker``.
        version: version of its software.
        measurement: measurement of its software, 32 bytes.
        debug: whether it can be debugged.
        confinement: the steps of confinement that its process has taken.
    """

    role: str
    version: str
    measurement: bytes
    debug: bool = False
    confinement: tuple[str, ...] = ()


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
class Provider(Protocol):
    """Makes evidence. ``tests/support/hetee_evidence_conformance.py`` tests an implementation."""

    @property
    def format(self) -> Format:
        """The format of the evidence that it makes."""
        ...

    def evidence(self, subject: Subject, nonce: bytes) -> bytes:
        """Make evidence about a subject that answers a nonce of 32 bytes; returns it encoded."""
        ...


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
