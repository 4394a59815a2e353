"""The handshake: both sides agree, and nobody between them has a say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_session_pair import connect, one_frame
from sectum.hetee.channel.handshake import ControllerHandshake
from sectum.hetee.client.handshake import ClientHandshake
from sectum.hetee.errors import (
    FrameRefused,
    HandshakeRefused,
    HeteeError,
    PolicyRefused,
    RecordRefused,
    Refusal,
    refusal,
)
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind

IDENTITY = Ed25519PrivateKey.from_private_bytes(b"i" * 32)
Change = Callable[[bytes], bytes]


def parties() -> tuple[ClientHandshake, ControllerHandshake]:
    return ClientHandshake(IDENTITY, lambda _e, _n: None), ControllerHandshake(lambda _n: b"evidence", lambda _i: True)


def flip(at: int) -> Change:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_both_sides_agree() -> None:
    """Session id, transcript, control channel in both directions, identity."""
    pair = connect()
    assert pair.client.session_id == pair.controller.session_id != bytes(16)
    assert pair.client.th4 == pair.controller.th4
    assert pair.controller.opener.open(*one_frame(pair.client.sealer.seal(Kind.PING, b"up"))) == b"up"
    assert pair.client.opener.open(*one_frame(pair.controller.sealer.seal(Kind.PONG, b"down"))) == b"down"
    assert len(pair.identity) == 32


def test_no_two_sessions_are_alike() -> None:
    """The same parties never have the same session, keys or evidence nonce twice."""
    nonces: list[bytes] = []

    def attest(nonce: bytes) -> bytes:
        nonces.append(nonce)
        return b"evidence"

    pairs = [connect(attest=attest) for _ in range(3)]
    assert len(set(nonces)) == len({pair.client.session_id for pair in pairs}) == 3


def test_the_client_checks_evidence_for_the_same_nonce() -> None:
    """What the client has verified is what the controller made, for the nonce that binds their key exchange."""
    made, checked = [], []

    def attest(nonce: bytes) -> bytes:
        made.append((b"evidence of a controller", nonce))
        return b"evidence of a controller"

    connect(attest=attest, check_evidence=lambda evidence, nonce: checked.append((evidence, nonce)))
    assert made == checked


def test_identity_is_not_shown_to_an_unattested_controller() -> None:
    """A client that refuses the evidence sends no PROOF; its identity is in nothing that it sent."""

    def check(_evidence: bytes, _nonce: bytes) -> None:
        raise refusal(Refusal.POLICY, "not accepted")

    client, controller = ClientHandshake(IDENTITY, check), parties()[1]
    hello = client.hello()
    answer = controller.receive(one_frame(hello))
    assert answer is not None
    with pytest.raises(PolicyRefused):
        client.receive(one_frame(answer))
    assert IDENTITY.public_key().public_bytes_raw() not in hello
    assert client.session is None
    with pytest.raises(FrameRefused):
        client.receive(one_frame(answer))


def test_identities_are_not_in_clear() -> None:
    """Neither the client's identity nor the controller's evidence can be read on the way."""
    client, controller = parties()
    answer = controller.receive(one_frame(client.hello()))
    assert answer is not None
    assert b"evidence" not in answer
    assert IDENTITY.public_key().public_bytes_raw() not in client.receive(one_frame(answer))


# Offsets: header 64; HELLO: suite, nonce, ML-KEM key, X25519; ATTEST: nonce, ciphertext, X25519, sealed.
@pytest.mark.parametrize("at", [64, 65])
def test_another_suite_is_refused(at: int) -> None:
    """There is one suite."""
    with pytest.raises(HandshakeRefused) as caught:
        connect(hello=flip(at))
    assert caught.value.code is Refusal.BAD_SUITE


@pytest.mark.parametrize("at", [66, 97, 98, 700, 1281, 1282, 1313])
def test_a_changed_hello_is_refused(at: int) -> None:
    """Nonce and shares of the client are bound: whoever changes them ends the handshake."""
    with pytest.raises(HeteeError):
        connect(hello=flip(at))


@pytest.mark.parametrize("at", [16, 31, 64, 95, 96, 600, 1183, 1184, 1215, 1216, 1230, -1])
def test_a_changed_attest_is_refused(at: int) -> None:
    """Session id, nonce, shares and sealed part of the controller are bound."""
    with pytest.raises(HeteeError):
        connect(answer=lambda data: flip(at % len(data))(data))


@pytest.mark.parametrize("at", [16, 31, 64, 100, 150, -17, -1])
def test_a_changed_proof_is_refused(at: int) -> None:
    """Session id and sealed part of the client's proof are bound."""
    with pytest.raises(HeteeError):
        connect(proof=lambda data: flip(at % len(data))(data))


@pytest.mark.parametrize("low_order", [bytes(32), bytes([1]) + bytes(31)])
def test_shares_of_low_order_are_refused(low_order: bytes) -> None:
    """A share that would give an all-zero secret is refused by either side."""
    for kwargs in ({"hello": lambda d: d[:1282] + low_order}, {"answer": lambda d: d[:1184] + low_order + d[1216:]}):
        with pytest.raises(HandshakeRefused) as caught:
            connect(**kwargs)  # type: ignore[arg-type]
        assert caught.value.code is Refusal.BAD_SHARE


def test_a_replayed_attest_or_proof_is_refused() -> None:
    """Messages of one handshake are of no use in another."""
    first_client, first_controller = parties()
    answer = first_controller.receive(one_frame(first_client.hello()))
    assert answer is not None
    proof = first_client.receive(one_frame(answer))
    with pytest.raises(RecordRefused) as caught:
        connect(answer=lambda _data: answer)
    assert caught.value.code is Refusal.WRONG_SESSION
    with pytest.raises(RecordRefused):
        connect(proof=lambda _data: proof)


def test_somebody_between_cannot_take_part() -> None:
    """Who answers the client itself cannot pass on the controller's evidence: it is for another key exchange."""
    nonces = []
    genuine = ControllerHandshake(lambda nonce: nonce, lambda _i: True)
    middle_client = ClientHandshake(IDENTITY, lambda evidence, _nonce: nonces.append(evidence))
    answer = genuine.receive(one_frame(middle_client.hello()))
    assert answer is not None
    middle_client.receive(one_frame(answer))
    (relayed,) = nonces

    def check(evidence: bytes, nonce: bytes) -> None:
        if evidence != nonce:
            raise refusal(Refusal.STALE, "made for something else")

    with pytest.raises(HeteeError) as caught:
        connect(attest=lambda _nonce: relayed, check_evidence=check)
    assert caught.value.code is Refusal.STALE


def test_a_client_without_its_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names an identity has to hold its key."""

    class Impostor:
        def public_key(self) -> object:
            return IDENTITY.public_key()

        def sign(self, data: bytes) -> bytes:
            return Ed25519PrivateKey.generate().sign(data)

    client = ClientHandshake(Impostor(), lambda _e, _n: None)  # type: ignore[arg-type]
    controller = parties()[1]
    answer = controller.receive(one_frame(client.hello()))
    assert answer is not None
    proof = client.receive(one_frame(answer))
    with pytest.raises(HandshakeRefused) as caught:
        controller.receive(one_frame(proof))
    assert caught.value.code is Refusal.BAD_SIGNATURE
    assert controller.session is None


def test_who_is_not_admitted_has_no_session() -> None:
    """Admission is by key, after the client has proved that it holds it."""
    with pytest.raises(HandshakeRefused) as caught:
        connect(admit=lambda _identity: False)
    assert caught.value.code is Refusal.NOT_ADMITTED


def test_states_are_kept() -> None:
    """Each side takes its messages once and in order; after a refusal it takes none."""
    client, controller = parties()
    hello = client.hello()
    answer = controller.receive(one_frame(hello))
    assert answer is not None
    with pytest.raises(FrameRefused):
        controller.receive(one_frame(hello))
    with pytest.raises(FrameRefused):
        controller.receive(one_frame(client.receive(one_frame(answer))))
    with pytest.raises(FrameRefused):
        client.receive(one_frame(answer))
    with pytest.raises(FrameRefused):
        parties()[0].receive(one_frame(answer))
    with pytest.raises(FrameRefused):
        parties()[1].receive(one_frame(plain_frame(Kind.PROOF, b"x" * 100, session=b"s" * 16)))


def test_a_short_attest_is_refused() -> None:
    """An answer too short for its fixed part is refused before anything is computed from it."""
    with pytest.raises(FrameRefused) as caught:
        connect(answer=lambda data: plain_frame(Kind.ATTEST, data[64:1200], session=data[16:32]))
    assert caught.value.code is Refusal.BAD_LENGTH


def test_keys_of_a_failed_handshake_are_wiped() -> None:
    """Whatever ends a handshake, its keys do not stay."""

    def attest(_nonce: bytes) -> bytes:
        raise RuntimeError("the provider failed")

    client, controller = ClientHandshake(IDENTITY, lambda _e, _n: None), ControllerHandshake(attest, lambda _i: True)
    with pytest.raises(RuntimeError):
        controller.receive(one_frame(client.hello()))
    assert controller._keys is not None
    assert controller._keys.seal_k.wiped
    assert controller._keys.mac_c.wiped
