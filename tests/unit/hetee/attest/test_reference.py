"""The reference manifest names the worker images that a controller boots, and is signed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sectum.errors import UsageError
from sectum.hetee import signing
from sectum.hetee.attest.reference import open_reference, read_reference
from sectum.hetee.data_plane.receipts import Receipt, ReceiptSigner
from sectum.hetee.errors import EvidenceRefused, Refusal
from sectum.hetee.signing import sign_reference

KEY = Ed25519PrivateKey.generate()
SIGNER = KEY.public_key().public_bytes_raw()
IMAGES = [b"a" * 32, b"b" * 32]


def test_what_was_signed_is_what_may_be_booted() -> None:
    """The measurements come back as they were signed, and nothing else."""
    assert open_reference(sign_reference(KEY, IMAGES), SIGNER) == frozenset(IMAGES)


def test_only_its_signer_s_manifest_is_accepted() -> None:
    """A manifest of another key, one with a changed byte, and another record of the same key are refused."""
    token = sign_reference(KEY, IMAGES)
    other = Ed25519PrivateKey.generate()
    with pytest.raises(EvidenceRefused) as caught:
        open_reference(sign_reference(other, IMAGES), SIGNER)
    assert caught.value.code is Refusal.NOT_GENUINE
    for at in range(len(token)):
        with pytest.raises(EvidenceRefused):
            open_reference(token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :], SIGNER)
    signer = ReceiptSigner()
    times_ns = dict.fromkeys(("preprocess", "compute", "encryption", "transfer"), 0)
    receipt = signer.sign(Receipt(bytes(16), 0, 1, bytes(32), bytes(32), times_ns, False, 1, "software"))
    with pytest.raises(EvidenceRefused):
        open_reference(receipt, signer.public_key)


def test_a_folder_is_signed_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing makes a key that others cannot read and keeps it; another key replaces manifest and public key."""
    monkeypatch.setattr(signing, "files", lambda *_: {"file": Path(__file__)})
    folder = tmp_path / "reference"
    measurement = signing.sign_worker(folder)
    assert read_reference(folder) == {measurement}
    own, public = (folder / "signer.key").read_bytes(), (folder / "signer.pub").read_text()
    assert (folder / "signer.key").stat().st_mode & 0o077 == 0
    signing.sign_worker(folder)
    assert ((folder / "signer.key").read_bytes(), (folder / "signer.pub").read_text()) == (own, public)
    key = tmp_path / "other.pem"
    key.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signing.sign_worker(folder, key=key)
    assert (folder / "signer.pub").read_text().strip() == SIGNER.hex()
    assert read_reference(folder) == {measurement}
    (folder / "signer.pub").write_text(public)
    with pytest.raises(EvidenceRefused):
        read_reference(folder)


def test_what_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a manifest, and a file that is no key, are errors that say what to do."""
    monkeypatch.setattr(signing, "files", lambda *_: {})
    with pytest.raises(EvidenceRefused) as missing:
        read_reference(tmp_path)
    assert "sectum hetee sign" in str(missing.value)
    (tmp_path / "no.pem").write_text("no key")
    with pytest.raises(UsageError) as wrong:
        signing.sign_worker(tmp_path / "reference", key=tmp_path / "no.pem")
    assert "Ed25519" in str(wrong.value)
