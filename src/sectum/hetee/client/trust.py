"""What a client believes: it verifies evidence, then asks the owner's policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sectum.hetee.attest.evidence import Claims, Verifier, verify
from sectum.hetee.attest.policy import Policy, read_policy
from sectum.hetee.attest.quotes import QuoteVerifier
from sectum.hetee.attest.software import SoftwareVerifier
from sectum.hetee.channel.handshake import Session
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.messages import Vouch


def read_policy_file(path: str | Path) -> Policy:
    """Read a policy from a JSON file.

    Raises:
        PolicyRefused: there is none, or it cannot be read.
    """
    try:
        return read_policy(Path(path).read_bytes())
    except OSError as error:
        detail = f"the policy {path} cannot be read: {error.strerror}; 'sectum hetee policy' writes one"
        raise refusal(Refusal.POLICY, detail) from None


class Trust:
    """The evidence of one session: of its controller, then of each of its workers.

    Args:
        policy: the owner's.
        clock_s: seconds since 1970.

    Attributes:
        controller: claims of the controller, once they were accepted.
        worker: claims of the newest worker, once they were accepted.
    """

    def __init__(self, policy: Policy, clock_s: Callable[[], float] = time.time) -> None:
        self._policy, self._clock_s = policy, clock_s
        self._verifiers: list[Verifier] = []
        if "software" in policy.formats:
            self._verifiers.append(SoftwareVerifier(bytes.fromhex(root) for root in policy.roots))
        if {"sgx", "tdx"} & set(policy.formats):
            self._verifiers.append(QuoteVerifier())
        self.controller: Claims | None = None
        self.worker: Claims | None = None

    def check_controller(self, evidence: bytes, nonce: bytes) -> None:
        """Verify, then validate.

        Raises:
            EvidenceRefused: it is not genuine, fresh and chained.
            PolicyRefused: it is, but not accepted.
        """
        claims = verify(evidence, nonce, self._verifiers, self._clock_s())
        self._policy.validate(claims, "controller")
        self.controller = claims

    def check_worker(self, vouch: Vouch, session: Session) -> Claims:
        """Verify evidence of a worker, made by the controller of this session for this session, then validate it.

        Raises:
            EvidenceRefused: as above; also if somebody else than this controller vouches.
            PolicyRefused: as above.
        """
        nonce = session.worker_nonce(vouch.index, vouch.worker_key, vouch.receipt_key)
        claims = verify(vouch.evidence, nonce, self._verifiers, self._clock_s())
        assert self.controller is not None
        if claims.signer != self.controller.signer or claims.device != self.controller.device:
            raise refusal(Refusal.NOT_GENUINE, "a worker is vouched for by somebody else than this controller")
        self._policy.validate(claims, "worker")
        self.worker = claims
        return claims
