"""The reference manifest: the measurements of the worker images that a controller boots, signed by who made them."""

from __future__ import annotations

from pathlib import Path

from sectum.hetee.attest.token import EAT_PROFILE, IAT, PROFILE, SUB, Schema, open_token
from sectum.hetee.errors import Refusal, refusal

MANIFEST, SIGNER = "manifest.cwt", "signer.pub"
IMAGES = -70040
NAME = "worker images"
_SCHEMA: Schema = {SUB: str, IAT: int, EAT_PROFILE: str, IMAGES: list}


def open_reference(token: bytes, signer: bytes) -> frozenset[bytes]:
    """Verify a reference manifest.

    Args:
        token: from `sign_reference`.
        signer: public key of who signed it, 32 bytes.

    Returns:
        The measurements of the images that may be booted, 32 bytes each.

    Raises:
        EvidenceRefused: it is not a manifest that this key has signed.
    """
    claims = open_token(token, signer, _SCHEMA)
    images = claims[IMAGES]
    if (claims[SUB], claims[EAT_PROFILE]) != (NAME, PROFILE) or any(type(image) is not bytes for image in images):
        raise refusal(Refusal.EVIDENCE_MALFORMED, "the signed record is not a reference manifest of worker images")
    return frozenset(images)


def read_reference(folder: Path) -> frozenset[bytes]:
    """Read and verify the manifest in a folder under the signer's public key beside it.

    Raises:
        EvidenceRefused: a file is missing or damaged, or the signature is wrong.
    """
    try:
        signer = bytes.fromhex((folder / SIGNER).read_text(encoding="ascii"))
        token = (folder / MANIFEST).read_bytes()
    except (OSError, ValueError) as error:
        detail = f"no usable reference manifest in {folder}: {error}"
        raise refusal(Refusal.EVIDENCE_MALFORMED, detail, "sign one with 'sectum hetee sign'") from None
    return open_reference(token, signer)
