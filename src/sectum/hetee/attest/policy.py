"""The data owner's policy: which roots are trusted, and which claims are accepted."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from sectum.hetee.attest.evidence import Claims, Format
from sectum.hetee.errors import Refusal, refusal

Hex = Annotated[str, Meta(pattern="^([0-9a-f]{2})+$", max_length=128)]
POLICY_BYTES = 64 << 10
# What a default policy requires of each role. Names are those of `sectum.hetee.confinement`.
_BOTH = ("measured-code", "no-core-dump", "no-new-privileges", "not-dumpable", "seccomp")
CONFINEMENT = {
    "controller": (*_BOTH, "apart-from-host", "private-root"),
    "worker": (
        *_BOTH, "dies-with-parent", "empty-root", "ipc-namespace", "landlock", "mount-namespace", "network-namespace",
        "no-capabilities", "no-file-growth", "no-new-descriptors", "thread-limit", "user-namespace",
    ),
}  # fmt: skip
_WRITE_ONE = "correct it; 'sectum hetee policy' writes one"


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A data owner's policy, written as JSON. Whatever it does not name is refused.

    Attributes:
        formats: accepted formats of evidence; ``software`` is accepted only if it is named.
        measurements: accepted measurements for each role, in hexadecimal.
        roots: public keys of trusted software manufacturers; used by the verifier, not by `validate`.
        version_least: lowest accepted version of the software; empty accepts any.
        debug: whether software that can be debugged is accepted.
        devices: accepted devices; empty accepts any.
        confinement: for each role, the steps of confinement that its process must have taken; not for hardware
            evidence, which does not state them.
        tcb_status: accepted status of a hardware platform, in its vendor's words.
        advisories: vendor's advisories that may apply to the platform.
    """

    formats: tuple[Format, ...]
    measurements: dict[str, tuple[Hex, ...]]
    roots: tuple[Hex, ...] = ()
    version_least: str = ""
    debug: bool = False
    devices: tuple[Hex, ...] = ()
    confinement: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(CONFINEMENT))
    tcb_status: tuple[str, ...] = ("UpToDate",)
    advisories: tuple[str, ...] = ()

    def validate(self, claims: Claims, role: str) -> None:
        """Check whether the policy accepts verified claims for a role.

        Raises:
            PolicyRefused: it does not; the message says what it would accept.
        """
        accepted = self.measurements.get(role, ())
        required = set() if claims.hardware else set(self.confinement.get(role, CONFINEMENT.get(role, ())))
        lacking = sorted(required - set(claims.confinement) - ({"not-dumpable"} if self.debug else set()))
        reasons = {
            f"it is {claims.format} evidence, accepted: {_list(self.formats)}": claims.format not in self.formats,
            f"it is for the role {claims.role}, expected {role}": claims.role not in ("", role),
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
            f"the platform's TCB is {claims.tcb_status}, accepted: {_list(self.tcb_status)}": (
                claims.hardware and claims.tcb_status not in self.tcb_status
            ),
            f"advisories apply: {_list(claims.advisories)}": not set(claims.advisories) <= set(self.advisories),
        }
        for reason, applies in reasons.items():
            if applies:
                raise refusal(Refusal.POLICY, f"the {role}'s evidence is genuine, but {reason}")


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(words) or "none"


def _version(text: str) -> tuple[int, ...]:
    """The numbers of a version. A text without numbers counts as lower than every version."""
    match = re.match(r"\d{1,9}(?:\.\d{1,9}){0,7}", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def read_policy(data: bytes) -> Policy:
    """Read a policy from JSON.

    Raises:
        PolicyRefused: it is not a policy; the message says where it is wrong.
    """
    if len(data) > POLICY_BYTES:
        raise refusal(Refusal.POLICY, f"the policy has {len(data)} bytes, the limit is {POLICY_BYTES}", _WRITE_ONE)
    try:
        return msgspec.json.decode(data, type=Policy)
    except (ValueError, RecursionError) as error:
        raise refusal(Refusal.POLICY, f"the policy is not valid: {error}", _WRITE_ONE) from None
