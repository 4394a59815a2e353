"""What a data owner accepts: which roots she trusts, and what genuine evidence has to say."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from sectum.hetee.attest.evidence import Claims, Format
from sectum.hetee.errors import Refusal, refusal

Hex = Annotated[str, Meta(pattern="^([0-9a-f]{2})+$", max_length=128)]
POLICY_BYTES = 64 << 10
_WRITE_ONE = "correct it; 'sectum hetee policy' writes one"


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An owner's policy, as she writes it in JSON. What is not named is not accepted.

    Attributes:
        formats: kinds of evidence; ``software`` has to be named to be accepted.
        measurements: for each role those that are accepted, in hexadecimal.
        roots: public keys of software manufacturers that are trusted; needed to verify, not looked at here.
        version_least: the lowest version of the software; empty accepts any.
        debug: whether software that can be debugged is accepted.
        devices: those that are accepted; empty accepts any.
        tcb_status: what a hardware platform's status may be, in its vendor's words.
        advisories: those of the vendor that may apply to the platform.
    """

    formats: tuple[Format, ...]
    measurements: dict[str, tuple[Hex, ...]]
    roots: tuple[Hex, ...] = ()
    version_least: str = ""
    debug: bool = False
    devices: tuple[Hex, ...] = ()
    tcb_status: tuple[str, ...] = ("UpToDate",)
    advisories: tuple[str, ...] = ()

    def validate(self, claims: Claims, role: str) -> None:
        """Check whether verified claims are what is accepted for a role.

        Raises:
            PolicyRefused: saying what is not accepted, and what is.
        """
        accepted = self.measurements.get(role, ())
        reasons = {
            f"it is {claims.format} evidence, accepted: {_list(self.formats)}": claims.format not in self.formats,
            f"it is for the role {claims.role}, expected {role}": claims.role not in ("", role),
            f"the {role}'s measurement is {claims.measurement.hex()}, accepted: {_list(accepted)}": (
                claims.measurement.hex() not in accepted
            ),
            "debugging is on": claims.debug and not self.debug,
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
    """Numbers of a version; one that is not made of numbers is lower than all."""
    match = re.match(r"\d{1,9}(?:\.\d{1,9}){0,7}", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def read_policy(data: bytes) -> Policy:
    """Read a policy in JSON.

    Raises:
        PolicyRefused: it is not one; the message says where.
    """
    if len(data) > POLICY_BYTES:
        raise refusal(Refusal.POLICY, f"the policy has {len(data)} bytes, the limit is {POLICY_BYTES}", _WRITE_ONE)
    try:
        return msgspec.json.decode(data, type=Policy)
    except (ValueError, RecursionError) as error:
        raise refusal(Refusal.POLICY, f"the policy cannot be read: {error}", _WRITE_ONE) from None
