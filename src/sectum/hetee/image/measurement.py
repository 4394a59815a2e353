"""Measures the image of a role: one SHA-256 over a manifest of its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from sectum.hetee.errors import Refusal, refusal


def measure(files: Mapping[str, Path]) -> bytes:
    """SHA-256 of the manifest of these files, 32 bytes."""
    return digest(manifest(files))


def digest(lines: list[str]) -> bytes:
    """SHA-256 of a manifest, 32 bytes."""
    return hashlib.sha256("\n".join(lines).encode()).digest()


def manifest(files: Mapping[str, Path]) -> list[str]:
    """One line for each file, sorted by its path in the image: SHA-256, size in bytes, path."""
    return [_line(label, files[label]) for label in sorted(files)]


def _line(label: str, path: Path) -> str:
    with path.open("rb") as file:
        hashed = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{hashed} {file.tell()} {label}"


def in_image(image: Path) -> dict[str, Path]:
    """All files of an image, by their path in it.

    Raises:
        EvidenceRefused: it holds something that is neither a file nor a folder, such as a link that leads elsewhere.
    """
    found = {}
    for folder, _, names in os.walk(image):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                raise refusal(Refusal.NOT_GENUINE, f"{path} in a software image is not a file")
            found[path.relative_to(image).as_posix()] = path
    return found
