"""The endorsement of a machine is stored whole, for its owner only, and once."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.endorsement import load
from sectum.hetee.errors import EvidenceRefused
from sectum.hetee.installation.manufacture import manufacture, store


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    """Root, device, certificate and key come back; nobody else can read them."""
    made = manufacture()
    store(made, tmp_path / "a" / "endorsement")
    found = load(tmp_path / "a" / "endorsement")
    assert (found.root, found.certificate, found.device) == (made.root, made.certificate, made.device)
    assert found.key.private_bytes_raw() == made.key.private_bytes_raw()
    assert (tmp_path / "a" / "endorsement").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "a" / "endorsement").iterdir())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["endorsement"]


def test_an_endorsement_is_not_replaced(tmp_path: Path) -> None:
    """Storing over one that is there is refused, and leaves it as it was."""
    store(manufacture(), tmp_path / "e")
    before = load(tmp_path / "e")
    with pytest.raises(EvidenceRefused, match="not empty"):
        store(manufacture(), tmp_path / "e")
    assert load(tmp_path / "e").certificate == before.certificate


@pytest.mark.parametrize("name", ["endorsement.key", "endorsement.cwt", "root.pub"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00", b"zz"])
def test_what_is_damaged_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    """A missing or damaged part is told, with its place."""
    store(manufacture(), tmp_path / "e")
    path = tmp_path / "e" / name
    path.unlink() if content is None else path.write_bytes(content)
    if content is not None:
        path.chmod(0o600)
    with pytest.raises(EvidenceRefused):
        load(tmp_path / "e")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The key is no secret any more if its file was opened to others."""
    store(manufacture(), tmp_path / "e")
    (tmp_path / "e" / "endorsement.key").chmod(0o640)
    with pytest.raises(EvidenceRefused, match="0600"):
        load(tmp_path / "e")


def test_a_key_of_another_machine_is_refused(tmp_path: Path) -> None:
    """Key and certificate have to belong together."""
    for name in "ab":
        store(manufacture(), tmp_path / name)
    key = (tmp_path / "a" / "endorsement.key").read_bytes()
    (tmp_path / "b" / "endorsement.key").write_bytes(key)
    with pytest.raises(EvidenceRefused, match="not the one"):
        load(tmp_path / "b")


def test_a_manufacturer_may_endorse_several_machines() -> None:
    """With a root of its own each machine has another one; with a given root they share it."""
    root = Ed25519PrivateKey.generate()
    assert manufacture(root).root == manufacture(root).root == root.public_key().public_bytes_raw()
    assert manufacture().root != manufacture().root


def test_an_endorsement_does_not_show_its_key() -> None:
    """Neither repr nor str has the private key."""
    made = manufacture()
    for text in (repr(made), str(made)):
        assert made.key.private_bytes_raw().hex() not in text
        assert "key" not in text
