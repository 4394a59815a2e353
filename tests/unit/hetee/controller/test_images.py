"""A controller starts workers from a signed image only."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.reference import MANIFEST, SIGNER
from sectum.hetee.errors import EvidenceRefused
from sectum.hetee.image import measurement
from sectum.hetee.installation.controller_options import parser, start
from sectum.hetee.signing import sign_reference


@pytest.mark.parametrize(
    ("words", "command"), [((), "'sectum hetee sign'"), (("--training",), "'sectum hetee sign --training'")]
)
def test_an_unsigned_image_names_the_command_that_signs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], command: str
) -> None:
    """A rack that was made without --training is told to sign the worker that trains, and not the other one again."""
    key, folder = Ed25519PrivateKey.generate(), tmp_path / "reference"
    folder.mkdir()
    (folder / MANIFEST).write_bytes(sign_reference(key, [bytes(32)]))
    (folder / SIGNER).write_text(key.public_key().public_bytes_raw().hex())
    monkeypatch.setattr(measurement, "in_image", lambda _image: ())
    monkeypatch.setattr(measurement, "measure", lambda _files: b"1" * 32)
    needed = ["--socket", "s", "--endorsement", "e", "--reference", "r"]
    begun = start(parser().parse_args([*needed, *words]), tmp_path, 0, 0, 0)
    controller = importlib.import_module("sectum.hetee.controller.__main__")
    with pytest.raises(EvidenceRefused, match=f"run {command}"):
        controller._workers(begun, "software")
