"""Recorded quotes of real Intel hardware verify, and changed ones do not.

They are not part of this repository: they are read from ``shared/vectors/quotes`` beside it, or from the folder that
``SECTUM_VECTORS`` names. They are the samples of Phala-Network/dcap-qvl (MIT), commit 9bffe30b.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from places import ROOT
from sectum.hetee.attest.evidence import Claims, Evidence, verify
from sectum.hetee.attest.policy import Policy
from sectum.hetee.attest.quotes import QuoteVerifier
from sectum.hetee.errors import EvidenceRefused, PolicyRefused, Refusal
from sectum.hetee.wire.messages import encode

pytest.importorskip("dcap_qvl")
BESIDE = ROOT.parent / "shared" / "vectors"
# One day after the collateral's TCB information was issued, seconds since 1970.
NOW_S = {"sgx": 1_750_416_971, "tdx": 1_750_414_563}
# A header of 48 bytes, then the report, which ends in 64 bytes of report data.
SGX_REPORT_END, TDX_REPORT_END = 48 + 384, 48 + 584


def recorded(kind: str) -> Evidence:
    folder = Path(os.environ.get("SECTUM_VECTORS") or BESIDE) / "quotes"
    if not folder.is_dir():
        pytest.skip(f"no recorded quotes in {folder}; name their folder's parent in SECTUM_VECTORS")
    collateral = (folder / f"{kind}_quote_collateral.json").read_bytes()
    return Evidence(format=kind, token=(folder / f"{kind}_quote").read_bytes(), chain=(collateral,))  # type: ignore[arg-type]


def verified(evidence: Evidence, now_s: float | None = None) -> Claims:
    when = NOW_S[evidence.format] if now_s is None else now_s
    return QuoteVerifier().verify_quote(evidence, when)[0]


def test_an_sgx_quote_verifies() -> None:
    """Measurement, TCB status and advisories of a real SGX quote are those that its vendor's data gives."""
    claims, report_data = QuoteVerifier().verify_quote(recorded("sgx"), NOW_S["sgx"])
    assert claims.measurement.hex() == "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
    assert (claims.tcb_status, claims.advisories) == (
        "ConfigurationAndSWHardeningNeeded",
        ("INTEL-SA-00289", "INTEL-SA-00615"),
    )
    assert not claims.debug
    assert claims.hardware
    assert report_data == b"Hello, world!".ljust(64, b"\0")
    assert "SGX evidence" in str(claims)
    assert "SOFTWARE" not in str(claims)


def test_a_tdx_quote_verifies() -> None:
    """A real TDX quote of an up-to-date platform verifies, with its MRTD."""
    claims = verified(recorded("tdx"))
    assert (claims.tcb_status, claims.advisories, claims.debug) == ("UpToDate", (), False)
    assert claims.measurement.hex().startswith("91eb2b44d141d4ec")
    assert len(claims.measurement) == 48


@pytest.mark.parametrize("kind", ["sgx", "tdx"])
def test_a_changed_report_is_refused(kind: str) -> None:
    """Changing any byte of header or report, or of the signature over them, ends verification."""
    evidence = recorded(kind)
    report_end = SGX_REPORT_END if kind == "sgx" else TDX_REPORT_END
    # The report is followed by the length of what follows it, and that by the signature.
    for at in (*range(report_end), *range(report_end + 4, report_end + 68)):
        bent = evidence.token[:at] + bytes([evidence.token[at] ^ 1]) + evidence.token[at + 1 :]
        with pytest.raises(EvidenceRefused):
            verified(msgspec.structs.replace(evidence, token=bent))


@pytest.mark.parametrize("kind", ["sgx", "tdx"])
def test_a_quote_answers_one_nonce(kind: str) -> None:
    """A genuine quote for another nonce is stale."""
    evidence = recorded(kind)
    end = SGX_REPORT_END if kind == "sgx" else TDX_REPORT_END
    report_data = evidence.token[end - 64 : end]
    with pytest.raises(EvidenceRefused) as caught:
        verify(encode(evidence), bytes(32), [QuoteVerifier()], NOW_S[kind])
    assert caught.value.code is Refusal.STALE
    if report_data[32:] == bytes(32):
        claims = verify(encode(evidence), report_data[:32], [QuoteVerifier()], NOW_S[kind])
        assert claims.measurement == verified(evidence).measurement


@pytest.mark.parametrize("now_s", [NOW_S["sgx"] - 400 * 86_400, NOW_S["sgx"] + 400 * 86_400])
def test_collateral_has_a_time_of_validity(now_s: float) -> None:
    """Old collateral proves nothing about today's platform."""
    for kind in ("sgx", "tdx"):
        with pytest.raises(EvidenceRefused):
            verified(recorded(kind), now_s)


def test_formats_and_collateral_do_not_mix() -> None:
    """A quote of one kind is not evidence of the other, nor does another platform's collateral vouch for it."""
    sgx, tdx = recorded("sgx"), recorded("tdx")
    for evidence in (
        msgspec.structs.replace(sgx, format="tdx"),
        msgspec.structs.replace(sgx, chain=tdx.chain),
        msgspec.structs.replace(tdx, chain=sgx.chain),
        msgspec.structs.replace(sgx, chain=()),
        msgspec.structs.replace(sgx, chain=(b"{}",)),
        msgspec.structs.replace(sgx, chain=(b"\xff",)),
        msgspec.structs.replace(sgx, token=b""),
        msgspec.structs.replace(sgx, token=sgx.token[:400]),
    ):
        with pytest.raises(EvidenceRefused):
            QuoteVerifier().verify_quote(evidence, NOW_S["sgx"])


def test_a_policy_decides_on_the_status() -> None:
    """The SGX platform needs hardening: a policy refuses it unless the owner names status and advisories."""
    claims = verified(recorded("sgx"))
    policy = Policy(formats=("sgx",), measurements={"controller": (claims.measurement.hex(),)})
    with pytest.raises(PolicyRefused, match="TCB"):
        policy.validate(claims, "controller")
    msgspec.structs.replace(policy, tcb_status=(claims.tcb_status,), advisories=claims.advisories).validate(
        claims, "controller"
    )
