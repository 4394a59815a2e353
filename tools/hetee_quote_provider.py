"""Makes evidence of the formats ``sgx`` and ``tdx``, as a controller inside of an enclave would.

No program of this version runs a controller there, so only tests use it, with quotes of `hetee_quoting_platform`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Literal

from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.token import canonical
from sectum.hetee.verification.evidence import bound_report_data

QUOTE_LIFE_S = 24 * 3600


class QuoteProvider(AttestationKey):
    """An attestation key that a quote vouches for: its report data is the digest of the claims about the key.

    The quote is made at the start, and again with the same key after half of its life.

    Args:
        kind: ``sgx`` or ``tdx``.
        controller: the controller, which runs in the enclave and holds the attestation key.
        quote: makes a DCAP quote of this enclave for report data of 64 bytes.
        collateral: gives the platform's current collateral, as the JSON of ``dcap_qvl``. It is signed by the
            platform's vendor, so the untrusted host may fetch it.
        clock_s: seconds since 1970.
    """

    def __init__(
        self,
        kind: Literal["sgx", "tdx"],
        controller: Subject,
        quote: Callable[[bytes], bytes],
        collateral: Callable[[], bytes],
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(kind, b"\x01" + secrets.token_bytes(16), clock_s)
        self._controller, self._make_quote, self._collateral = controller, quote, collateral
        self._quote()

    def _quote(self) -> None:
        self._claimed = canonical(self._attestation("quote", self._controller, QUOTE_LIFE_S))
        self._quoted, self._quoted_s = self._make_quote(bound_report_data(self._claimed)), self._clock_s()

    def _chain(self) -> tuple[bytes, ...]:
        if self._clock_s() > self._quoted_s + QUOTE_LIFE_S / 2:
            self._quote()
        return self._collateral(), self._quoted, self._claimed
