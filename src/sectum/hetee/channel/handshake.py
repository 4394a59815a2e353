"""The handshake as two state machines that take frames, return frames, and give a session at the end."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from enum import Enum

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sectum.hetee.channel.key_exchange import CONTROLLER_SHARE_BYTES, answer_share
from sectum.hetee.channel.record import Opener, Sealer
from sectum.hetee.channel.release import vouch_digest
from sectum.hetee.channel.schedule import IV_BYTES, HandshakeKeys, SessionKeys, mac
from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import TAG_BYTES, Kind, Role
from sectum.hetee.wire.messages import M, Offer, Proof, decode, encode

SUITE_NUMBER = (1).to_bytes(2)
NONCE_BYTES = 32
PROLOGUE = b"sectum-hetee/1\0"
OFFER_AT = NONCE_BYTES + CONTROLLER_SHARE_BYTES

Attest = Callable[[bytes], bytes]
"""Makes encoded evidence for a nonce of 32 bytes."""
Admit = Callable[[bytes], bool]
"""Whether an identity (Ed25519 public key, 32 bytes) is served."""


def digest(*parts: bytes) -> bytes:
    """SHA-256 of these parts of the transcript."""
    return hashlib.sha256(b"".join(parts)).digest()


def attest_nonce(th1: bytes) -> bytes:
    """The nonce that the controller's evidence must answer."""
    return digest(b"sectum1 attest\0", th1)


def seal_once(key: Secret, header: Header, before: bytes, plaintext: bytes) -> bytes:
    """Make a frame whose payload is ``before`` and the sealed ``plaintext``; wipes the key, which seals one message."""
    header = header._replace(length=len(before) + len(plaintext) + TAG_BYTES)
    head = header.pack()
    with key.reveal() as view:
        sealed = AESGCM(view).encrypt(bytes(IV_BYTES), plaintext, head)
    key.wipe()
    return head + before + sealed


def open_once(key: Secret, header: Header, sealed: memoryview, schema: type[M]) -> M:
    """Open the sealed part of a frame of the handshake; wipes the key.

    Raises:
        HandshakeRefused: ``HANDSHAKE_UNOPENED``.
    """
    try:
        with key.reveal() as view:
            plaintext = AESGCM(view).decrypt(bytes(IV_BYTES), sealed, header.pack())
    except (InvalidTag, ValueError):
        raise refusal(Refusal.HANDSHAKE_UNOPENED, f"{header.kind.name} does not open") from None
    finally:
        key.wipe()
    return decode(plaintext, schema)


def check_kind(frame: Frame, kind: Kind) -> None:
    """Refuse a frame of another type (``UNEXPECTED``)."""
    if frame.header.kind is not kind:
        raise refusal(Refusal.UNEXPECTED, f"{frame.header.kind.name} during the handshake, expected {kind.name}")


def check_session(frame: Frame, session_id: bytes) -> None:
    """Refuse a frame of another session (``WRONG_SESSION``)."""
    if frame.header.session != session_id:
        raise refusal(Refusal.WRONG_SESSION, f"{frame.header.kind.name} of another session")


def worker_nonce(th4: bytes, index: int, worker_key: bytes, receipt_key: bytes) -> bytes:
    """The nonce of a worker's evidence, from the hash of the transcript, which is public."""
    return digest(b"sectum1 vouch\0", th4, index.to_bytes(4), worker_key, receipt_key)


class EstablishedSession:
    """The keys of a session after its handshake, on either side.

    Attributes:
        session_id: 16 bytes, public.
        th4: hash of the transcript, 32 bytes, public.
        sealer: seals records to the peer on the control channel.
        opener: opens records from the peer.
    """

    def __init__(self, role: Role, session_id: bytes, th4: bytes, keys: SessionKeys) -> None:
        self.session_id, self.th4 = session_id, th4
        self._keys = keys
        out, back = keys.control_c, keys.control_k
        if role is Role.CONTROLLER:
            out, back = back, out
        self.sealer, self.opener = Sealer(out, session_id), Opener(back, session_id)

    def __repr__(self) -> str:
        return f"EstablishedSession({self.session_id.hex()})"

    def worker_nonce(self, index: int, worker_key: bytes, receipt_key: bytes) -> bytes:
        """The nonce that the evidence in VOUCH must answer: it binds the session, the enclave and the worker's keys."""
        return worker_nonce(self.th4, index, worker_key, receipt_key)

    def renewal_nonce(self, challenge: bytes) -> bytes:
        """The nonce that evidence in a long session must answer: it binds the session and the client's challenge."""
        return digest(b"sectum1 attest again\0", self.th4, challenge)

    def worker_secret(self, vouch_payload: bytes | bytearray | memoryview) -> Secret:
        """The secret of the worker in this VOUCH, given the opened payload. Call it once for each VOUCH, in order."""
        return self._keys.worker(vouch_digest(vouch_payload))

    def wipe(self) -> None:
        """Overwrite all keys of the session."""
        self._keys.wipe()
        self.sealer.wipe()
        self.opener.wipe()


class State(Enum):
    """States of a handshake, on either side."""

    NEW = 0
    WAITING = 1
    DONE = 2
    DEAD = 3


class ControllerHandshake:
    """The controller's side.

    Args:
        attest: makes evidence for a nonce.
        admit: tells whether an identity is served.
    """

    def __init__(self, attest: Attest, admit: Admit) -> None:
        self._attest, self._admit = attest, admit
        self._state = State.NEW
        self._keys: HandshakeKeys | None = None
        self.session: EstablishedSession | None = None
        self.identity = b""

    def receive(self, frame: Frame) -> bytes | None:
        """Take HELLO and return ATTEST; or take PROOF, set `session` and `identity`, and return None.

        Raises:
            HandshakeRefused: the client broke the protocol, or the frame was modified.
            HeteeError: other refusals of frames and messages. After any refusal the handshake is unusable.
        """
        state, self._state = self._state, State.DEAD
        try:
            if state is State.NEW:
                answer = self._greet(frame)
                self._state = State.WAITING
                return answer
            if state is not State.WAITING:
                raise refusal(Refusal.UNEXPECTED, f"{frame.header.kind.name}, which this handshake does not expect now")
            self._admit_client(frame)
            self._state = State.DONE
        finally:
            if self._state is not State.WAITING:
                self.wipe()
        return None

    def _greet(self, frame: Frame) -> bytes:
        check_kind(frame, Kind.HELLO)
        hello = bytes(frame.payload)
        if hello[:2] != SUITE_NUMBER:
            raise refusal(Refusal.BAD_SUITE, f"suite {int.from_bytes(hello[:2])}, this side has suite 1")
        share, handshake = answer_share(hello[2 + NONCE_BYTES :])
        opening = secrets.token_bytes(NONCE_BYTES) + share
        th1 = digest(PROLOGUE, hello, opening)
        self._keys = keys = HandshakeKeys(handshake, th1)
        evidence = self._attest(attest_nonce(th1))
        self._th2 = digest(th1, len(evidence).to_bytes(4), evidence)
        self._finished = mac(keys.mac_k, self._th2)
        offer = encode(Offer(evidence=evidence, finished=self._finished))
        return seal_once(keys.seal_k, Header(Kind.ATTEST, 0, session=keys.session_id), opening, offer)

    def _admit_client(self, frame: Frame) -> None:
        check_kind(frame, Kind.PROOF)
        keys = self._keys
        assert keys is not None
        check_session(frame, keys.session_id)
        proof = open_once(keys.seal_c, frame.header, frame.payload, Proof)
        th3 = digest(self._th2, self._finished, proof.identity)
        try:
            identity = Ed25519PublicKey.from_public_bytes(proof.identity)
            identity.verify(proof.signature, b"sectum1 client proof\0" + th3)
        except (InvalidSignature, ValueError):
            raise refusal(Refusal.BAD_SIGNATURE, "the client's signature over the handshake is wrong") from None
        if not hmac.compare_digest(proof.finished, mac(keys.mac_c, digest(th3, proof.signature))):
            raise refusal(Refusal.BAD_FINISHED, "the client's MAC over the handshake is wrong")
        if not self._admit(proof.identity):
            raise refusal(Refusal.NOT_ADMITTED, f"the identity {proof.identity.hex()[:16]}... is not on the list")
        self.identity = proof.identity
        th4 = digest(th3, proof.signature, proof.finished)
        self.session = EstablishedSession(Role.CONTROLLER, keys.session_id, th4, keys.session(th4))

    def wipe(self) -> None:
        """Overwrite the keys of an unfinished handshake."""
        if self._keys is not None:
            self._keys.wipe()
