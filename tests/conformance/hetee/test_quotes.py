"""Recorded quotes of real Intel hardware verify, and changed ones do not.

They are not part of this repository: they are read from ``shared/vectors/quotes`` beside it, or from the folder that
``SECTUM_VECTORS`` names. They are the samples of Phala-Network/dcap-qvl (MIT), commit 9bffe30b.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from hetee_quote_provider import QuoteProvider
from places import ROOT
from sectum.hetee.attest.evidence import Evidence, Subject
from sectum.hetee.errors import EvidenceRefused, PolicyRefused, Refusal
from sectum.hetee.verification.evidence import Claims, read_evidence, verify
from sectum.hetee.verification.policy import Policy
from sectum.hetee.verification.quotes import Quoted, QuoteVerifier
from sectum.hetee.wire.messages import encode

pytest.importorskip("dcap_qvl")
BESIDE = ROOT.parent / "shared" / "vectors"
# One day after the collateral's TCB information was issued, seconds since 1970.
NOW_S = {"sgx": 1_750_416_971, "tdx": 1_750_414_563}
# A header of 48 bytes, then the report, which ends in 64 bytes of report data.
HEADER, SGX_REPORT_END, TDX_REPORT_END = 48, 48 + 384, 48 + 584
EVALUATION = 17


class Recorded(NamedTuple):
    kind: str
    quote: bytes
    collateral: bytes


def recorded(kind: str) -> Recorded:
    folder = Path(os.environ.get("SECTUM_VECTORS") or BESIDE) / "quotes"
    if not folder.is_dir():
        pytest.skip(f"no recorded quotes in {folder}; name their folder's parent in SECTUM_VECTORS")
    collateral = (folder / f"{kind}_quote_collateral.json").read_bytes()
    return Recorded(kind, (folder / f"{kind}_quote").read_bytes(), collateral)


def verified(sample: Recorded, now_s: float | None = None) -> Quoted:
    return QuoteVerifier().verify_quote(*sample, NOW_S[sample.kind] if now_s is None else now_s)


def test_an_sgx_quote_verifies() -> None:
    """Registers, TCB status, evaluation and advisories of a real SGX quote are those of its report and its vendor."""
    sample = recorded("sgx")
    quoted, report = verified(sample), sample.quote[HEADER:SGX_REPORT_END]
    assert quoted.registers == {
        "mrenclave": "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb",
        "mrsigner": report[128:160].hex(),
        "configid": "00" * 64,
        "isvprodid": report[256:258][::-1].hex(),
    }
    assert quoted.svn == report[258] + 256 * report[259]
    assert (quoted.tcb_status, quoted.advisories, quoted.tcb_evaluation) == (
        "ConfigurationAndSWHardeningNeeded",
        ("INTEL-SA-00289", "INTEL-SA-00615"),
        EVALUATION,
    )
    assert not quoted.debug
    assert quoted.report_data == b"Hello, world!".ljust(64, b"\0")


def test_a_tdx_quote_verifies() -> None:
    """A real TDX quote of an up-to-date platform verifies, with MRTD, the four RTMRs and what its owner configured."""
    sample = recorded("tdx")
    quoted, report = verified(sample), sample.quote[HEADER:TDX_REPORT_END]
    assert (quoted.tcb_status, quoted.advisories, quoted.tcb_evaluation) == ("UpToDate", (), EVALUATION)
    assert not quoted.debug
    names = ("mrtd", "mrconfigid", "mrowner", "mrownerconfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
    values = [report[at : at + 48].hex() for at in range(136, 136 + 48 * len(names), 48)]
    assert quoted.registers == dict(zip(names, values, strict=True))
    assert quoted.registers["mrtd"].startswith("91eb2b44d141d4ec")
    assert len(set(values)) > 4


@pytest.mark.parametrize("kind", ["sgx", "tdx"])
def test_a_changed_report_is_refused(kind: str) -> None:
    """Changing any byte of header or report, or of the signature over them, ends verification."""
    sample = recorded(kind)
    report_end = SGX_REPORT_END if kind == "sgx" else TDX_REPORT_END
    # The report is followed by the length of what follows it, and that by the signature.
    for at in (*range(report_end), *range(report_end + 4, report_end + 68)):
        bent = sample.quote[:at] + bytes([sample.quote[at] ^ 1]) + sample.quote[at + 1 :]
        with pytest.raises(EvidenceRefused):
            verified(sample._replace(quote=bent))


@pytest.mark.parametrize("kind", ["sgx", "tdx"])
def test_a_quote_of_another_enclave_vouches_for_no_key(kind: str) -> None:
    """Who attaches a genuine quote that she found to claims about her own key is refused."""
    sample, now_s = recorded(kind), NOW_S[kind]
    provider = QuoteProvider(
        kind,  # type: ignore[arg-type]
        Subject("controller", "0.1.0", bytes(32)),
        lambda _report_data: sample.quote,
        lambda: sample.collateral,
        lambda: now_s,
    )
    nonce = bytes(range(32))
    with pytest.raises(EvidenceRefused, match="does not vouch") as caught:
        verify(provider.evidence(Subject("worker", "0.1.0", bytes(32)), nonce), nonce, [QuoteVerifier()], now_s)
    assert caught.value.code is Refusal.NOT_GENUINE


def test_evidence_with_a_real_quote_fits_into_its_message() -> None:
    """Quote and collateral of a real platform are within the limits of evidence."""
    for kind in ("sgx", "tdx"):
        sample = recorded(kind)
        chain = (sample.collateral, sample.quote, bytes(1000))
        evidence = Evidence(format=kind, token=bytes(1000), chain=chain)  # type: ignore[arg-type]
        assert read_evidence(encode(evidence)) == evidence


@pytest.mark.parametrize("now_s", [NOW_S["sgx"] - 400 * 86_400, NOW_S["sgx"] + 400 * 86_400])
def test_collateral_has_a_time_of_validity(now_s: float) -> None:
    """Old collateral proves nothing about today's platform."""
    for kind in ("sgx", "tdx"):
        with pytest.raises(EvidenceRefused):
            verified(recorded(kind), now_s)


def test_formats_and_collateral_do_not_mix() -> None:
    """A quote of one kind is not evidence of the other, nor does another platform's collateral vouch for it."""
    sgx, tdx = recorded("sgx"), recorded("tdx")
    for sample in (
        sgx._replace(kind="tdx"),
        sgx._replace(collateral=tdx.collateral),
        tdx._replace(collateral=sgx.collateral),
        sgx._replace(collateral=b"{}"),
        sgx._replace(collateral=b"\xff"),
        sgx._replace(collateral=b""),
        sgx._replace(quote=b""),
        sgx._replace(quote=sgx.quote[:400]),
        sgx._replace(quote=sgx.quote + bytes(1 << 20)),
    ):
        with pytest.raises(EvidenceRefused):
            verified(sample, NOW_S["sgx"])


def test_a_policy_decides_on_the_status() -> None:
    """The SGX platform needs hardening: a policy refuses it unless the owner names status and advisories."""
    quoted = verified(recorded("sgx"))
    claims = Claims(
        "sgx",
        bytes(32),
        quoted.debug,
        role="controller",
        registers=quoted.registers,
        svn=quoted.svn,
        tcb_status=quoted.tcb_status,
        advisories=quoted.advisories,
        tcb_evaluation=quoted.tcb_evaluation,
    )
    policy = Policy(
        formats=("sgx",),
        measurements={"controller": (bytes(32).hex(),)},
        confinement={"controller": ()},
        registers={name: (value,) for name, value in quoted.registers.items()},
        tcb_evaluation_least=EVALUATION,
    )
    with pytest.raises(PolicyRefused, match="TCB"):
        policy.validate(claims, "controller")
    msgspec.structs.replace(policy, tcb_status=(quoted.tcb_status,), advisories=quoted.advisories).validate(
        claims, "controller"
    )
