"""A worker gets the secret that was sealed to it, once."""

from __future__ import annotations

import pytest

from hetee_session_pair import bytes_of, connect
from sectum.hetee.channel.release import release
from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane.release_key import WorkerKey
from sectum.hetee.errors import HandshakeRefused, RecordRefused, Refusal

SESSION = b"s" * 16


def test_a_released_secret_arrives_and_is_forgotten() -> None:
    """The worker gets the bytes; the controller's copy is wiped."""
    key, secret = WorkerKey(), Secret(b"w" * 32)
    sealed = release(secret, key.public, SESSION, 3)
    assert len(sealed) == 80
    assert secret.wiped
    assert bytes_of(key.accept(sealed, SESSION, 3)) == b"w" * 32


def test_a_worker_takes_one_session_in_its_life() -> None:
    """A second release is refused, also after a first one that failed."""
    for first in (b"x" * 80, None):
        key = WorkerKey()
        sealed = release(Secret(b"w" * 32), key.public, SESSION, 0)
        if first:
            with pytest.raises(RecordRefused):
                key.accept(first, SESSION, 0)
        else:
            key.accept(sealed, SESSION, 0)
        with pytest.raises(RecordRefused) as caught:
            key.accept(sealed, SESSION, 0)
        assert caught.value.code is Refusal.WIPED


@pytest.mark.parametrize(("session", "index"), [(b"t" * 16, 0), (SESSION, 1)])
def test_a_release_is_for_one_enclave_of_one_session(session: bytes, index: int) -> None:
    """Another session or index does not open it."""
    key = WorkerKey()
    sealed = release(Secret(b"w" * 32), key.public, SESSION, 0)
    with pytest.raises(RecordRefused) as caught:
        key.accept(sealed, session, index)
    assert caught.value.code is Refusal.NOT_AUTHENTIC


def test_another_worker_cannot_open_it() -> None:
    """Only the key that was vouched for opens it."""
    sealed = release(Secret(b"w" * 32), WorkerKey().public, SESSION, 0)
    with pytest.raises(RecordRefused):
        WorkerKey().accept(sealed, SESSION, 0)


@pytest.mark.parametrize("key", [bytes(32), b"short"])
def test_bad_worker_keys_are_refused(key: bytes) -> None:
    """A key of low order or wrong length gets nothing sealed to it."""
    with pytest.raises(HandshakeRefused) as caught:
        release(Secret(b"w" * 32), key, SESSION, 0)
    assert caught.value.code is Refusal.BAD_SHARE


def test_workers_of_a_session_have_keys_of_their_own() -> None:
    """Each enclave of a session has another secret, and both sides find the same one in the same order."""
    pair = connect()
    found = set()
    for _ in range(4):
        client, controller = pair.client.worker_secret(b"vouch"), pair.controller.worker_secret(b"vouch")
        assert client == controller
        found.add(bytes_of(client))
    assert len(found) == 4


def test_a_vouch_that_was_changed_gives_other_keys() -> None:
    """Who saw another VOUCH than was sent cannot talk to the worker."""
    pair = connect()
    assert pair.client.worker_secret(b"vouch") != pair.controller.worker_secret(b"vouch!")


def test_the_nonce_of_a_worker_binds_everything() -> None:
    """Session, index and both keys of the worker are in what its evidence answers."""
    pair, other = connect(), connect()
    a, b = b"a" * 32, b"b" * 32
    nonces = [
        pair.client.worker_nonce(0, a, b),
        pair.client.worker_nonce(1, a, b),
        pair.client.worker_nonce(0, b, a),
        pair.client.worker_nonce(0, a, a),
        other.client.worker_nonce(0, a, b),
    ]
    assert len(set(nonces)) == 5
    assert pair.controller.worker_nonce(0, a, b) == nonces[0]
