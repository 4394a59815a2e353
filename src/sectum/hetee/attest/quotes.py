"""Verifies DCAP quotes of Intel SGX and TDX up to Intel's root, with ``dcap-qvl``."""

from __future__ import annotations

from typing import Any, ClassVar

from sectum.hetee.attest.evidence import NONCE_BYTES, Claims, Evidence
from sectum.hetee.errors import Refusal, refusal

_SGX_DEBUG = 0x02  # ATTRIBUTES.DEBUG, Intel SDM volume 3D, 37.7.1
_TDX_DEBUG = 0x01  # TUD.DEBUG, Intel TDX module specification, TD_ATTRIBUTES


class QuoteVerifier:
    """Verifies a quote with the collateral that comes with it; both are signed by Intel.

    It needs the package ``dcap-qvl`` from the extra ``hetee``.
    """

    formats: ClassVar[frozenset[str]] = frozenset({"sgx", "tdx"})

    def verify(self, evidence: Evidence, nonce: bytes, now_s: float) -> Claims:
        """Verify at a time in seconds since 1970. The report data must be the nonce and zeros.

        Raises:
            EvidenceRefused: it is malformed, not genuine, or stale.
        """
        claims, report_data = self.verify_quote(evidence, now_s)
        if report_data != nonce + bytes(64 - NONCE_BYTES):
            raise refusal(Refusal.STALE, "the quote was made for another handshake")
        return claims

    def verify_quote(self, evidence: Evidence, now_s: float) -> tuple[Claims, bytes]:
        """Verify everything but the nonce; also returns the report data, 64 bytes.

        Raises:
            EvidenceRefused: it is malformed or not genuine.
        """
        import dcap_qvl  # type: ignore[import-untyped]

        if len(evidence.chain) != 1:
            raise refusal(Refusal.EVIDENCE_MALFORMED, "the quote comes without its collateral")
        try:
            quote = dcap_qvl.parse_quote(evidence.token)
            collateral = dcap_qvl.QuoteCollateralV3.from_json(evidence.chain[0].decode())
            verified = dcap_qvl.verify(evidence.token, collateral, int(now_s))
        except (ValueError, RuntimeError) as error:
            raise refusal(Refusal.NOT_GENUINE, f"the quote does not verify: {str(error)[:200]}") from None
        if quote.is_sgx() != (evidence.format == "sgx"):
            raise refusal(Refusal.NOT_GENUINE, f"the evidence says {evidence.format}, but its quote is of another kind")
        measurement, debug = _measured(quote.report, evidence.format)
        claims = Claims(
            format=evidence.format,
            measurement=measurement,
            debug=debug,
            device=bytes(verified.ppid),
            tcb_status=verified.status,
            advisories=tuple(verified.advisory_ids),
        )
        return claims, bytes(quote.report.report_data)


def _measured(report: Any, kind: str) -> tuple[bytes, bool]:
    if kind == "sgx":
        return bytes(report.mr_enclave), bool(report.attributes[0] & _SGX_DEBUG)
    return bytes(report.mr_td), bool(report.td_attributes[0] & _TDX_DEBUG)
