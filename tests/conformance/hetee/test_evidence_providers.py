"""Every provider of evidence passes the conformance suite."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.endorsement import manufacture
from sectum.hetee.attest.evidence import Provider, Subject, Verifier
from sectum.hetee.attest.software import SoftwareVerifier
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.testing.evidence_conformance import EvidenceConformance

ROOT = Ed25519PrivateKey.from_private_bytes(b"r" * 32)


class TestSoftware(EvidenceConformance):
    @pytest.fixture
    def provider(self) -> Provider:
        return SoftwareProvider(manufacture(ROOT), Subject("controller", "0.1.0", bytes(range(32))))

    @pytest.fixture
    def verifier(self) -> Verifier:
        return SoftwareVerifier([bytes(32), ROOT.public_key().public_bytes_raw()])

    @pytest.fixture
    def stranger(self) -> Verifier:
        return SoftwareVerifier([Ed25519PrivateKey.generate().public_key().public_bytes_raw()])
