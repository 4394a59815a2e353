"""A policy accepts what it names, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from sectum.hetee.client.trust import read_policy_file
from sectum.hetee.confinement.required import CONFINEMENT
from sectum.hetee.errors import PolicyRefused, Refusal
from sectum.hetee.verification.evidence import Claims
from sectum.hetee.verification.policy import Policy, read_policy

GOOD = Claims("software", b"c" * 32, debug=False, device=b"d" * 17, role="controller", version="1.2.3")
GOOD = replace(GOOD, confinement=CONFINEMENT["controller"])
POLICY = Policy(
    formats=("software",),
    measurements={"controller": ("63" * 32,), "worker": ("77" * 32,)},
    version_least="1.2.0",
    devices=("64" * 17,),
)
QUOTE = replace(GOOD, format="sgx", tcb_status="UpToDate", tcb_evaluation=17, registers={"mrenclave": "ab" * 32})
HARDWARE = Policy(
    formats=("sgx",),
    measurements={"controller": ("63" * 32,)},
    registers={"mrenclave": ("cd" * 32, "ab" * 32)},
    tcb_evaluation_least=17,
)


def test_what_is_named_is_accepted() -> None:
    """Claims that fit every line of the policy pass."""
    POLICY.validate(GOOD, "controller")
    HARDWARE.validate(QUOTE, "controller")


@pytest.mark.parametrize(
    ("policy", "claims", "role", "words"),
    [
        (POLICY, replace(GOOD, format="sgx"), "controller", "sgx evidence"),
        (POLICY, replace(GOOD, measurement=b"x" * 32), "controller", "measurement"),
        (POLICY, replace(GOOD, measurement=b"w" * 32), "controller", "measurement"),
        (POLICY, GOOD, "worker", "role"),
        (POLICY, replace(GOOD, role="worker"), "controller", "role"),
        (POLICY, replace(GOOD, debug=True), "controller", "debugging"),
        (POLICY, replace(GOOD, version="1.1.9"), "controller", "lower"),
        (POLICY, replace(GOOD, version=""), "controller", "unknown"),
        (POLICY, replace(GOOD, version="next"), "controller", "lower"),
        (POLICY, replace(GOOD, device=b"e" * 17), "controller", "device"),
        (POLICY, replace(GOOD, confinement=CONFINEMENT["controller"][1:]), "controller", "measured-code"),
        (POLICY, replace(GOOD, confinement=()), "controller", "lacks confinement"),
        (HARDWARE, GOOD, "controller", "software evidence"),
        (HARDWARE, replace(QUOTE, tcb_status="OutOfDate"), "controller", "TCB"),
        (HARDWARE, replace(QUOTE, advisories=("INTEL-SA-00289",)), "controller", "advisories"),
        (HARDWARE, replace(QUOTE, tcb_evaluation=16), "controller", "lower than 17"),
        (HARDWARE, replace(QUOTE, registers={"mrenclave": "ac" * 32}), "controller", "register mrenclave"),
        (HARDWARE, replace(QUOTE, registers={"mrtd": "ab" * 48}), "controller", "register mrtd"),
        (HARDWARE, replace(QUOTE, confinement=()), "controller", "lacks confinement"),
        (HARDWARE, QUOTE, "worker", "role"),
        (Policy(formats=(), measurements={}), GOOD, "controller", "accepted: none"),
    ],
)
def test_what_is_not_named_is_refused(policy: Policy, claims: Claims, role: str, words: str) -> None:
    """Each line of a policy refuses what it does not name, and says so."""
    with pytest.raises(PolicyRefused, match=words) as caught:
        policy.validate(claims, role)
    assert caught.value.code is Refusal.POLICY


def test_exceptions_are_made_by_name() -> None:
    """Debugging, a TCB status and an advisory are accepted when the owner names them."""
    policy = msgspec.structs.replace(
        HARDWARE, debug=True, tcb_status=("OutOfDate",), advisories=("INTEL-SA-00289", "INTEL-SA-00615")
    )
    policy.validate(replace(QUOTE, debug=True, tcb_status="OutOfDate", advisories=("INTEL-SA-00289",)), "controller")


def test_less_confinement_is_accepted_by_name() -> None:
    """By default all confinement is required of both roles; an owner may name what is enough for her."""
    less = replace(GOOD, confinement=("seccomp",))
    msgspec.structs.replace(POLICY, confinement={"controller": ("seccomp",)}).validate(less, "controller")
    worker = replace(GOOD, role="worker", measurement=b"w" * 32, confinement=("seccomp",))
    with pytest.raises(PolicyRefused, match="landlock"):
        msgspec.structs.replace(POLICY, confinement={"controller": ()}).validate(worker, "worker")


@pytest.mark.parametrize("pair", [("1.2.0", "1.2"), ("1.10", "1.9"), ("0.1.0", "0.0.9"), ("2", "1.9.9")])
def test_versions_compare_as_numbers(pair: tuple[str, str]) -> None:
    """1.10 is higher than 1.9."""
    policy = msgspec.structs.replace(POLICY, version_least=pair[1])
    policy.validate(replace(GOOD, version=pair[0]), "controller")


def test_a_policy_is_read_from_json() -> None:
    """What an owner wrote is what is applied."""
    assert read_policy(msgspec.json.encode(POLICY)) == POLICY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"formats": ["software"]}',
        '{"formats": ["tpm"], "measurements": {}}',
        '{"formats": [], "measurements": {"worker": ["AB"]}}',
        '{"formats": [], "measurements": {"worker": ["abc"]}}',
        '{"formats": [], "measurements": {}, "debug": 1}',
        '{"formats": [], "measurements": {}, "debgu": true}',
        "[" * 10_000,
        " " * 70_000,
    ],
)
def test_a_policy_with_a_mistake_is_refused(text: str) -> None:
    """A misspelt or half-written policy is never taken for a weaker one."""
    with pytest.raises(PolicyRefused, match="policy"):
        read_policy(text.encode())


@pytest.mark.parametrize("version", ["v2.0", ">=2.0", " 2.0", "2.0 ", "2.0\n", "2.", "two", "1234567890", "1.2rc1"])
def test_a_least_version_that_is_none_is_refused(version: str) -> None:
    """A policy whose lowest version cannot be compared is refused when it is read: it would accept every version."""
    content = {"formats": ["software"], "measurements": {}, "version_least": version}
    with pytest.raises(PolicyRefused):
        read_policy(msgspec.json.encode(content))


def test_a_policy_with_a_mistake_is_named(tmp_path: Path) -> None:
    """Who gives the wrong file is told which one it was."""
    for content in (b"# Notes", b" " * 70_000):
        path = tmp_path / "notes.md"
        path.write_bytes(content)
        with pytest.raises(PolicyRefused, match=f"the policy {path} "):
            read_policy_file(path)
