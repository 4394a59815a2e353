"""The data owner's policy: which roots are trusted, and which claims are accepted."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from sectum.hetee.attest.evidence import Format
from sectum.hetee.confinement.required import CONFINEMENT
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.verification.evidence import Claims

Hex = Annotated[str, Meta(pattern="^([0-9a-f]{2})+$", max_length=128)]
Certificate = Annotated[str, Meta(pattern="^([0-9a-f]{2})+$", max_length=4096)]
Version = Annotated[str, Meta(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9}){0,7})?\Z")]
ANY = "any"
Register = Annotated[str, Meta(pattern=f"^({ANY}|([0-9a-f]{{2}})+)$", max_length=128)]
POLICY_BYTES = 64 << 10
_WRITE_ONE = "correct it; 'sectum hetee policy' writes one"


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A data owner's policy, written as JSON. Whatever it does not name is refused.

    Attributes:
        formats: accepted formats of evidence; ``software`` is accepted only if it is named.
        measurements: accepted measurements for each role, in hexadecimal.
        roots: public keys of trusted software manufacturers; used by the verifier, not by `validate`.
        version_least: lowest accepted version of the software, as numbers with points; empty accepts any.
        debug: whether software that can be debugged is accepted.
        devices: accepted devices; empty accepts any.
        confinement: for each role, the steps of confinement that its process must have taken.
        registers: for hardware evidence, accepted values of each register of the enclave, in hexadecimal, or ``any``:
            of SGX ``mrenclave``, ``mrsigner``, ``isvprodid``, ``configid``; of TDX ``mrtd``, ``rtmr0`` to ``rtmr3``,
            ``mrconfigid``, ``mrowner``, ``mrownerconfig``. A register that is not named must be zero.
        svn_least: lowest accepted security version of an SGX enclave.
        tcb_status: accepted status of a hardware platform, in its vendor's words.
        tcb_evaluation_least: lowest accepted number of the vendor's evaluation that the status is from. Without it no
            hardware evidence is accepted: an old evaluation says ``UpToDate`` of what has holes by now.
        advisories: vendor's advisories that may apply to the platform.
        quote_roots: root certificates (DER, in hexadecimal) under which quotes are accepted **instead of** Intel's;
            used by the verifier. For tests.
    """

    formats: tuple[Format, ...]
    measurements: dict[str, tuple[Hex, ...]]
    roots: tuple[Hex, ...] = ()
    version_least: Version = ""
    debug: bool = False
    devices: tuple[Hex, ...] = ()
    confinement: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(CONFINEMENT))
    registers: dict[str, tuple[Register, ...]] = {}
    svn_least: int = 0
    tcb_status: tuple[str, ...] = ("UpToDate",)
    tcb_evaluation_least: Annotated[int, Meta(ge=0)] | None = None
    advisories: tuple[str, ...] = ()
    quote_roots: tuple[Certificate, ...] = ()

    def validate(self, claims: Claims, role: str) -> None:
        """Check whether the policy accepts verified claims for a role.

        Raises:
            PolicyRefused: it does not; the message says what it would accept.
        """
        accepted = self.measurements.get(role, ())
        required = set(self.confinement.get(role, CONFINEMENT.get(role, ())))
        lacking = sorted(required - set(claims.confinement) - ({"not-dumpable"} if self.debug else set()))
        reasons = {
            f"it is {claims.format} evidence, accepted: {_list(self.formats)}": claims.format not in self.formats,
            f"it is for the role {claims.role}, expected {role}": claims.role != role,
            f"the {role}'s measurement is {claims.measurement.hex()}, accepted: {_list(accepted)}": (
                claims.measurement.hex() not in accepted
            ),
            "debugging is on": claims.debug and not self.debug,
            f"its process lacks confinement: {', '.join(lacking)}": bool(lacking),
            f"version {claims.version or 'unknown'} is lower than {self.version_least}": (
                bool(self.version_least) and _version(claims.version) < _version(self.version_least)
            ),
            f"the device is {claims.device.hex()}, accepted: {_list(self.devices)}": (
                bool(self.devices) and claims.device.hex() not in self.devices
            ),
        }
        for reason, applies in (reasons | (self._of_hardware(claims) if claims.hardware else {})).items():
            if applies:
                raise refusal(Refusal.POLICY, f"the {role}'s evidence is genuine, but {reason}")

    def _of_hardware(self, claims: Claims) -> dict[str, bool]:
        """Reasons to refuse a platform or an enclave, and whether each applies."""
        least = self.tcb_evaluation_least
        reasons = {
            f"the platform's TCB is {claims.tcb_status}, accepted: {_list(self.tcb_status)}": (
                claims.tcb_status not in self.tcb_status
            ),
            "the policy names no lowest number of a TCB evaluation (tcb_evaluation_least)": least is None,
            f"its TCB evaluation has the number {claims.tcb_evaluation}, which is lower than {least}": (
                least is not None and claims.tcb_evaluation < least
            ),
            f"advisories apply: {_list(claims.advisories)}": not set(claims.advisories) <= set(self.advisories),
            f"the enclave's security version {claims.svn} is lower than {self.svn_least}": claims.svn < self.svn_least,
        }
        for name, value in claims.registers.items():
            accepted = self.registers.get(name, (bytes(len(value) // 2).hex(),))
            reasons[f"the register {name} is {value}, accepted: {_list(accepted)}"] = not {value, ANY} & set(accepted)
        return reasons


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(words) or "none"


def _version(text: str) -> tuple[int, ...]:
    """The numbers of a version. A text without numbers counts as lower than every version."""
    match = re.match(r"\d{1,9}(?:\.\d{1,9}){0,7}", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def read_policy(data: bytes, name: str = "") -> Policy:
    """Read a policy from JSON.

    Args:
        data: the JSON.
        name: of the file it is from, for messages.

    Raises:
        PolicyRefused: it is not a policy; the message says where it is wrong.
    """
    what = f"the policy {name}".rstrip()
    if len(data) > POLICY_BYTES:
        raise refusal(Refusal.POLICY, f"{what} has more than {POLICY_BYTES} bytes, which is the limit", _WRITE_ONE)
    try:
        return msgspec.json.decode(data, type=Policy)
    except (ValueError, RecursionError) as error:
        raise refusal(Refusal.POLICY, f"{what} is not valid: {error}", _WRITE_ONE) from None
