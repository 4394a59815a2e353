"""What every provider of evidence, and the verifier of its format, have to do.

Subclass `EvidenceConformance` in a test module and give it both::

    class TestMine(EvidenceConformance):
        @pytest.fixture
        def provider(self) -> AttestationKey:
            return MyProvider()

        @pytest.fixture
        def verifier(self) -> Verifier:
            return MyVerifier(my_roots)

        @pytest.fixture
        def stranger(self) -> Verifier:  # of the same format, with other roots
            return MyVerifier(other_roots)
"""

from __future__ import annotations

import secrets
import time

import msgspec
import pytest

from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.errors import EvidenceRefused, Refusal
from sectum.hetee.verification.evidence import EVIDENCE_BYTES, Verifier, read_evidence, verify
from sectum.hetee.wire.messages import encode

_LIFETIME_S = 400 * 24 * 3600


class EvidenceConformance:
    """Tests that each implementation passes.

    Attributes:
        exact: whether every changed byte must be refused. A format with parts that can be written in several ways, such
            as JSON, sets it to False: a changed byte must then be refused, or change nothing of what is claimed.
    """

    exact = True

    @pytest.fixture
    def provider(self) -> AttestationKey:
        """The provider under test. Each suite defines it."""
        raise NotImplementedError("give this suite a fixture named provider")

    @pytest.fixture
    def verifier(self) -> Verifier:
        """A verifier that trusts the provider's root."""
        raise NotImplementedError("give this suite a fixture named verifier")

    @pytest.fixture
    def stranger(self) -> Verifier:
        """A verifier of the same format that trusts other roots only."""
        raise NotImplementedError("give this suite a fixture named stranger")

    @pytest.fixture
    def subject(self) -> Subject:
        """The subject of the evidence. A provider of hardware evidence overrides it."""
        return Subject("controller", "0.1.0", bytes(range(32)))

    @pytest.fixture
    def nonce(self) -> bytes:
        """The nonce that the evidence must answer."""
        return secrets.token_bytes(32)

    def test_keeps_to_the_protocols(self, provider: AttestationKey, verifier: Verifier) -> None:
        """The provider is an attestation key, the verifier keeps to its protocol, and they have the same format."""
        assert isinstance(provider, AttestationKey)
        assert isinstance(verifier, Verifier)
        assert provider.format in verifier.formats

    def test_evidence_verifies(
        self, provider: AttestationKey, verifier: Verifier, subject: Subject, nonce: bytes
    ) -> None:
        """Fresh evidence verifies, and its claims are those of the subject."""
        data = provider.evidence(subject, nonce)
        claims = verify(data, nonce, [verifier], time.time())
        assert claims.format == provider.format
        assert claims.measurement == subject.measurement
        assert claims.debug == subject.debug
        assert claims.role in ("", subject.role)
        assert claims.version in ("", subject.version)
        assert len(data) <= EVIDENCE_BYTES

    def test_software_says_so(
        self, provider: AttestationKey, verifier: Verifier, subject: Subject, nonce: bytes
    ) -> None:
        """Evidence without hardware calls itself SOFTWARE wherever a person reads it."""
        claims = verify(provider.evidence(subject, nonce), nonce, [verifier], time.time())
        assert claims.hardware == (claims.format != "software")
        assert claims.hardware or "SOFTWARE" in str(claims)

    def test_debug_is_told(self, provider: AttestationKey, verifier: Verifier, subject: Subject, nonce: bytes) -> None:
        """Evidence about a subject that can be debugged says so."""
        debugged = Subject(subject.role, subject.version, subject.measurement, debug=True)
        assert verify(provider.evidence(debugged, nonce), nonce, [verifier], time.time()).debug

    def test_other_nonce_is_stale(
        self, provider: AttestationKey, verifier: Verifier, subject: Subject, nonce: bytes
    ) -> None:
        """Evidence for one handshake is refused in another."""
        data = provider.evidence(subject, nonce)
        for other in (secrets.token_bytes(32), nonce[:-1] + bytes([nonce[-1] ^ 1]), bytes(32)):
            with pytest.raises(EvidenceRefused) as caught:
                verify(data, other, [verifier], time.time())
            assert caught.value.code is Refusal.STALE

    def test_time_of_validity(
        self, provider: AttestationKey, verifier: Verifier, subject: Subject, nonce: bytes
    ) -> None:
        """Evidence is refused long before and long after it was made."""
        data = provider.evidence(subject, nonce)
        for now_s in (time.time() - _LIFETIME_S, time.time() + _LIFETIME_S):
            with pytest.raises(EvidenceRefused):
                verify(data, nonce, [verifier], now_s)

    def test_other_root_is_not_trusted(
        self, provider: AttestationKey, stranger: Verifier, subject: Subject, nonce: bytes
    ) -> None:
        """Evidence with a chain to another root is refused, and all evidence is refused if no root is trusted."""
        data = provider.evidence(subject, nonce)
        for verifiers in ([stranger], []):
            with pytest.raises(EvidenceRefused) as caught:
                verify(data, nonce, verifiers, time.time())
            assert caught.value.code is Refusal.NOT_GENUINE

    def test_every_changed_byte_is_refused(
        self, provider: AttestationKey, verifier: Verifier, subject: Subject, nonce: bytes
    ) -> None:
        """No byte of the token can be changed, and none of its chain, as far as it means anything."""
        evidence = read_evidence(provider.evidence(subject, nonce))
        claims = verify(encode(evidence), nonce, [verifier], time.time())
        for part in range(1 + len(evidence.chain)):
            whole = evidence.chain[part - 1] if part else evidence.token
            for at in range(0, len(whole), max(1, len(whole) // 400)):
                bent = whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]
                chain = (*evidence.chain[: max(part - 1, 0)], bent, *evidence.chain[part:])
                forged = msgspec.structs.replace(evidence, **({"chain": chain} if part else {"token": bent}))
                try:
                    found = verify(encode(forged), nonce, [verifier], time.time())
                except EvidenceRefused:
                    continue
                assert part, f"byte {at} of the token was changed"
                assert not self.exact, f"byte {at} of part {part} of the chain was changed"
                assert found == claims

    def test_parts_of_two_providers_do_not_mix(
        self, provider: AttestationKey, verifier: Verifier, subject: Subject, nonce: bytes
    ) -> None:
        """A chain with a part missing, twice, or in another order is refused."""
        evidence = read_evidence(provider.evidence(subject, nonce))
        chains = {evidence.chain[:-1], (*evidence.chain, evidence.chain[-1]), evidence.chain[::-1], ()}
        for chain in chains - {evidence.chain}:
            with pytest.raises(EvidenceRefused):
                verify(encode(msgspec.structs.replace(evidence, chain=chain)), nonce, [verifier], time.time())
