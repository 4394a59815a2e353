"""The client's side of the handshake."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sectum.hetee.channel.handshake import (
    NONCE_BYTES,
    OFFER_AT,
    PROLOGUE,
    SUITE_NUMBER,
    EstablishedSession,
    State,
    attest_nonce,
    check_kind,
    check_session,
    digest,
    open_once,
    seal_once,
)
from sectum.hetee.channel.key_exchange import CIPHERTEXT_BYTES, x25519
from sectum.hetee.channel.schedule import HandshakeKeys, extract, mac
from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import Frame, plain_frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import TAG_BYTES, Kind, Role
from sectum.hetee.wire.messages import Offer, Proof, encode

CheckEvidence = Callable[[bytes, bytes], None]
"""Verifies and validates evidence (first) for a nonce (second), or raises EvidenceRefused or PolicyRefused."""


class ClientShare:
    """The client's ephemeral keys; ``public`` is its key share."""

    def __init__(self) -> None:
        self._mlkem = MLKEM768PrivateKey.generate()
        self._x25519 = X25519PrivateKey.generate()
        self.public = self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw()

    def handshake_secret(self, controller_share: bytes) -> Secret:
        """Derive the handshake secret from the controller's key share.

        Raises:
            HandshakeRefused: ``BAD_SHARE``.
        """
        try:
            mlkem_secret = Secret(self._mlkem.decapsulate(controller_share[:CIPHERTEXT_BYTES]))
        except ValueError:
            raise refusal(Refusal.BAD_SHARE, "an ML-KEM ciphertext of wrong length") from None
        return extract(mlkem_secret, x25519(self._x25519, controller_share[CIPHERTEXT_BYTES:]))


class ClientHandshake:
    """The client's side.

    Args:
        identity: the client's key; its public half is sent only to a controller whose evidence was accepted.
        check_evidence: verifies and validates the controller's evidence.
    """

    def __init__(self, identity: Ed25519PrivateKey, check_evidence: CheckEvidence) -> None:
        self._identity = identity
        self._check_evidence = check_evidence
        self._state = State.NEW
        self._share = ClientShare()
        self.session: EstablishedSession | None = None

    def hello(self) -> bytes:
        """The first frame."""
        assert self._state is State.NEW, "HELLO is sent once"
        self._state = State.WAITING
        self._hello = SUITE_NUMBER + secrets.token_bytes(NONCE_BYTES) + self._share.public
        return plain_frame(Kind.HELLO, self._hello)

    def receive(self, frame: Frame) -> bytes:
        """Take ATTEST and return PROOF. Sets `session`.

        Raises:
            HandshakeRefused: the controller broke the protocol, or the frame was modified.
            EvidenceRefused, PolicyRefused: from ``check_evidence``.
            HeteeError: other refusals of frames and messages. After any refusal the handshake is unusable.
        """
        if self._state is not State.WAITING:
            raise refusal(Refusal.UNEXPECTED, f"{frame.header.kind.name}, which this handshake does not expect now")
        self._state = State.DEAD
        check_kind(frame, Kind.ATTEST)
        if len(frame.payload) <= OFFER_AT + TAG_BYTES:
            raise refusal(Refusal.BAD_LENGTH, f"ATTEST of {len(frame.payload)} bytes")
        opening = bytes(frame.payload[:OFFER_AT])
        handshake = self._share.handshake_secret(opening[NONCE_BYTES:])
        del self._share
        th1 = digest(PROLOGUE, self._hello, opening)
        keys = HandshakeKeys(handshake, th1)
        try:
            proof = self._prove(frame, keys, th1)
            self._state = State.DONE
        finally:
            keys.wipe()
        return proof

    def _prove(self, frame: Frame, keys: HandshakeKeys, th1: bytes) -> bytes:
        check_session(frame, keys.session_id)
        offer = open_once(keys.seal_k, frame.header, frame.payload[OFFER_AT:], Offer)
        th2 = digest(th1, len(offer.evidence).to_bytes(4), offer.evidence)
        if not hmac.compare_digest(offer.finished, mac(keys.mac_k, th2)):
            raise refusal(Refusal.BAD_FINISHED, "the controller's MAC over the handshake is wrong")
        self._check_evidence(offer.evidence, attest_nonce(th1))
        identity = self._identity.public_key().public_bytes_raw()
        th3 = digest(th2, offer.finished, identity)
        signature = self._identity.sign(b"sectum1 client proof\0" + th3)
        finished = mac(keys.mac_c, digest(th3, signature))
        proof = encode(Proof(identity=identity, signature=signature, finished=finished))
        sealed = seal_once(keys.seal_c, Header(Kind.PROOF, 0, session=keys.session_id), b"", proof)
        th4 = digest(th3, signature, finished)
        self.session = EstablishedSession(Role.CLIENT, keys.session_id, th4, keys.session(th4))
        return sealed
