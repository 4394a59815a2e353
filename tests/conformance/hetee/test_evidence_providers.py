"""Every provider of evidence passes the conformance suite."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_evidence_conformance import EvidenceConformance
from hetee_quote_provider import QuoteProvider
from hetee_quoting_platform import QuotingPlatform
from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.installation.manufacture import manufacture
from sectum.hetee.verification.evidence import Verifier
from sectum.hetee.verification.quotes import QuoteVerifier
from sectum.hetee.verification.software import SoftwareVerifier

ROOT = Ed25519PrivateKey.from_private_bytes(b"r" * 32)


class TestSoftware(EvidenceConformance):
    @pytest.fixture
    def provider(self) -> AttestationKey:
        return SoftwareProvider(manufacture(ROOT), Subject("controller", "0.1.0", bytes(range(32))))

    @pytest.fixture
    def verifier(self) -> Verifier:
        return SoftwareVerifier([bytes(32), ROOT.public_key().public_bytes_raw()])

    @pytest.fixture
    def stranger(self) -> Verifier:
        return SoftwareVerifier([Ed25519PrivateKey.generate().public_key().public_bytes_raw()])


@functools.cache
def platform_of(kind: Any) -> QuotingPlatform:
    pytest.importorskip("dcap_qvl")
    return QuotingPlatform(kind)


class QuotesConformance(EvidenceConformance):
    """With quotes of a platform that exists in tests only."""

    exact = False
    kind: Any

    @pytest.fixture
    def provider(self) -> AttestationKey:
        platform, controller = platform_of(self.kind), Subject("controller", "0.1.0", bytes(range(32)))
        return QuoteProvider(self.kind, controller, platform.quote, platform.collateral)

    @pytest.fixture
    def verifier(self) -> Verifier:
        return QuoteVerifier([QuotingPlatform("sgx").root, platform_of(self.kind).root])

    @pytest.fixture(params=["another test root", "the vendor's root"])
    def stranger(self, request: pytest.FixtureRequest) -> Verifier:
        return QuoteVerifier([QuotingPlatform(self.kind).root] if "another" in request.param else ())


class TestSgx(QuotesConformance):
    kind = "sgx"


class TestTdx(QuotesConformance):
    kind = "tdx"
