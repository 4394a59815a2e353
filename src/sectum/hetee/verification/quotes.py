"""Verifies evidence of the formats ``sgx`` and ``tdx``: DCAP quotes that vouch for an attestation key."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from sectum.hetee.attest.evidence import Evidence
from sectum.hetee.attest.token import read_claims
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.verification.evidence import ATTESTATION, Claims, bound_report_data, open_evidence

QUOTE_BYTES = 16 << 10
_HEADER_BYTES = 48
_SGX_DEBUG = 0x02  # ATTRIBUTES.DEBUG, Intel SDM volume 3D, 37.7.1
_TDX_DEBUG = 0x01  # TUD.DEBUG, Intel TDX module specification, TD_ATTRIBUTES
# Where the report of an SGX quote has what dcap_qvl does not give: Intel SDM volume 3D, 38.15.
_CONFIG_ID, _PRODUCT, _SVN = slice(192, 256), slice(256, 258), slice(258, 260)
_TDX_REGISTERS = {
    "mrtd": "mr_td",
    "rtmr0": "rt_mr0",
    "rtmr1": "rt_mr1",
    "rtmr2": "rt_mr2",
    "rtmr3": "rt_mr3",
    "mrconfigid": "mr_config_id",
    "mrowner": "mr_owner",
    "mrownerconfig": "mr_owner_config",
}


class _Dated(msgspec.Struct, rename="camel"):
    """What this module reads of TCB information, which the vendor signed."""

    tcb_evaluation_data_number: int


@dataclass(frozen=True)
class Quoted:
    """What a verified quote says of a platform and of the enclave that it is about.

    Attributes:
        report_data: 64 bytes that the enclave chose.
        debug: whether the enclave can be debugged.
        registers: measurements of the enclave, in hexadecimal, by their names.
        svn: security version of the enclave; 0 for TDX, whose software has none.
        device: PPID of the platform.
        tcb_status: status of the platform, in its vendor's words.
        advisories: security advisories that apply to the platform.
        tcb_evaluation: number of the vendor's evaluation that the status is from.
    """

    report_data: bytes
    debug: bool
    registers: dict[str, str]
    svn: int
    device: bytes
    tcb_status: str
    advisories: tuple[str, ...]
    tcb_evaluation: int


class QuoteVerifier:
    """Verifies the chain from the vendor's root over a quote and the attestation key to the token.

    It needs the package ``dcap-qvl`` from the extra ``hetee``.

    Args:
        roots: root certificates (DER) to trust **instead of** Intel's; for tests. None of them: Intel's is trusted.
    """

    formats: ClassVar[frozenset[str]] = frozenset({"sgx", "tdx"})

    def __init__(self, roots: Iterable[bytes] = ()) -> None:
        self._roots = tuple(roots)

    def verify(self, evidence: Evidence, nonce: bytes, now_s: float) -> Claims:
        """Verify at a time in seconds since 1970.

        Raises:
            EvidenceRefused: it is malformed, not genuine, or stale.
        """
        if len(evidence.chain) != 3:
            raise refusal(Refusal.EVIDENCE_MALFORMED, f"the chain has {len(evidence.chain)} parts, expected 3")
        collateral, quote, attestation = evidence.chain
        quoted = self.verify_quote(evidence.format, quote, collateral, now_s)
        if not hmac.compare_digest(quoted.report_data, bound_report_data(attestation)):
            raise refusal(Refusal.NOT_GENUINE, "the quote does not vouch for this attestation key")
        claims = open_evidence(evidence, read_claims(attestation, ATTESTATION), "quote", nonce, now_s)
        return dataclasses.replace(
            claims,
            debug=claims.debug or quoted.debug,
            device=quoted.device,
            registers=quoted.registers,
            svn=quoted.svn,
            tcb_status=quoted.tcb_status,
            advisories=quoted.advisories,
            tcb_evaluation=quoted.tcb_evaluation,
            vendor_root=not self._roots,
        )

    def verify_quote(self, kind: str, quote: bytes, collateral: bytes, now_s: float) -> Quoted:
        """Verify a quote with its collateral at a time in seconds since 1970.

        Args:
            kind: ``sgx`` or ``tdx``.
            quote: a DCAP quote.
            collateral: the platform's collateral, as the JSON of ``dcap_qvl``.
            now_s: seconds since 1970.

        Raises:
            EvidenceRefused: it is malformed or not genuine.
        """
        import dcap_qvl  # type: ignore[import-untyped]

        if len(quote) > QUOTE_BYTES:
            raise refusal(Refusal.EVIDENCE_MALFORMED, f"a quote of {len(quote)} bytes, the limit is {QUOTE_BYTES}")
        try:
            parsed = dcap_qvl.parse_quote(quote)
            read = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode())
            verified = self._verified(quote, read, int(now_s))
            evaluations = [msgspec.json.decode(signed, type=_Dated) for signed in (read.tcb_info, read.qe_identity)]
        except (ValueError, RuntimeError) as error:
            raise refusal(Refusal.NOT_GENUINE, f"the quote does not verify: {str(error)[:200]}") from None
        if parsed.is_sgx() != (kind == "sgx"):
            raise refusal(Refusal.NOT_GENUINE, f"the evidence says {kind}, but its quote is of another kind")
        registers, svn, debug = _sgx(parsed.report, quote) if kind == "sgx" else _tdx(parsed.report)
        return Quoted(
            report_data=bytes(parsed.report.report_data),
            debug=debug,
            registers=registers,
            svn=svn,
            device=bytes(verified.ppid),
            tcb_status=verified.status,
            advisories=tuple(verified.advisory_ids),
            tcb_evaluation=min(dated.tcb_evaluation_data_number for dated in evaluations),
        )

    def _verified(self, quote: bytes, collateral: Any, now_s: int) -> Any:
        import dcap_qvl

        if not self._roots:
            return dcap_qvl.verify(quote, collateral, now_s)
        *others, last = self._roots
        for root in others:
            try:
                return dcap_qvl.verify_with_root_ca(quote, collateral, root, now_s)
            except (ValueError, RuntimeError):
                continue
        return dcap_qvl.verify_with_root_ca(quote, collateral, last, now_s)


def _sgx(report: Any, quote: bytes) -> tuple[dict[str, str], int, bool]:
    body = quote[_HEADER_BYTES:]
    registers = {
        "mrenclave": bytes(report.mr_enclave).hex(),
        "mrsigner": bytes(report.mr_signer).hex(),
        "configid": body[_CONFIG_ID].hex(),
        "isvprodid": body[_PRODUCT][::-1].hex(),
    }
    return registers, int.from_bytes(body[_SVN], "little"), bool(report.attributes[0] & _SGX_DEBUG)


def _tdx(report: Any) -> tuple[dict[str, str], int, bool]:
    registers = {name: bytes(getattr(report, field)).hex() for name, field in _TDX_REGISTERS.items()}
    return registers, 0, bool(report.td_attributes[0] & _TDX_DEBUG)
