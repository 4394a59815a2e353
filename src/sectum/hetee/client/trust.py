"""Decides whether a client trusts a service: verifies its evidence, then applies the owner's policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sectum.hetee.channel.handshake import EstablishedSession
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.verification.evidence import Claims, Verifier, verify
from sectum.hetee.verification.policy import POLICY_BYTES, Policy, read_policy
from sectum.hetee.verification.quotes import QuoteVerifier
from sectum.hetee.verification.software import SoftwareVerifier
from sectum.hetee.wire.messages import Vouch


def read_policy_file(path: str | Path) -> Policy:
    """Read a policy from a JSON file.

    Raises:
        PolicyRefused: the file does not exist, or is not a policy.
    """
    try:
        with Path(path).open("rb") as file:
            return read_policy(file.read(POLICY_BYTES + 1), str(path))
    except OSError as error:
        detail = f"the policy {path} cannot be read: {error.strerror}"
        raise refusal(Refusal.POLICY, detail, "name another; 'sectum hetee policy' writes one") from None


def verifiers_of(policy: Policy) -> list[Verifier]:
    """The verifiers for the formats that a policy accepts."""
    found: list[Verifier] = []
    if "software" in policy.formats:
        found.append(SoftwareVerifier(bytes.fromhex(root) for root in policy.roots))
    if {"sgx", "tdx"} & set(policy.formats):
        found.append(QuoteVerifier(bytes.fromhex(root) for root in policy.quote_roots))
    return found


class Trust:
    """Checks the evidence of one session: first the controller's, then that of each worker.

    Args:
        policy: the owner's policy.
        clock_s: seconds since 1970.

    Attributes:
        controller: the accepted claims of the controller; None before.
        worker: the accepted claims of the newest worker; None before.
        evidence: the controller's evidence, and the nonce that it answers.
        accepted_s: when it was accepted, in seconds since 1970.
    """

    def __init__(self, policy: Policy, clock_s: Callable[[], float] = time.time) -> None:
        self._policy, self._clock_s = policy, clock_s
        self._verifiers = verifiers_of(policy)
        self.controller: Claims | None = None
        self.worker: Claims | None = None
        self.evidence = (b"", b"")
        self.accepted_s = 0

    def check_controller(self, evidence: bytes, nonce: bytes) -> None:
        """Verify the controller's evidence, then validate it.

        Raises:
            EvidenceRefused: it is not genuine, not fresh, or not chained to a trusted root.
            PolicyRefused: it is genuine, but the policy does not accept it.
        """
        self.accepted_s = int(self._clock_s())
        claims = verify(evidence, nonce, self._verifiers, self.accepted_s)
        self._policy.validate(claims, "controller")
        self.controller, self.evidence = claims, (evidence, nonce)

    def check_again(self, evidence: bytes, nonce: bytes) -> None:
        """Check new evidence of the controller of this session.

        Raises:
            EvidenceRefused: as above; also if another controller made it.
            PolicyRefused: as above.
        """
        before, now_s = self.controller, int(self._clock_s())
        claims = verify(evidence, nonce, self._verifiers, now_s)
        if before is None or (claims.signer, claims.device) != (before.signer, before.device):
            raise refusal(Refusal.NOT_GENUINE, "another controller than this session's attested itself")
        self._policy.validate(claims, "controller")
        self.controller, self.evidence, self.accepted_s = claims, (evidence, nonce), now_s

    def check_worker(self, vouch: Vouch, session: EstablishedSession) -> Claims:
        """Verify a worker's evidence, made by this session's controller for this session, then validate it.

        Raises:
            EvidenceRefused: as above; also if another controller vouches for the worker.
            PolicyRefused: as above.
        """
        nonce = session.worker_nonce(vouch.index, vouch.worker_key, vouch.receipt_key)
        claims = verify(vouch.evidence, nonce, self._verifiers, self._clock_s())
        assert self.controller is not None
        if claims.signer != self.controller.signer or claims.device != self.controller.device:
            raise refusal(Refusal.NOT_GENUINE, "another controller than this session's vouches for the worker")
        self._policy.validate(claims, "worker")
        self.worker = claims
        return claims
