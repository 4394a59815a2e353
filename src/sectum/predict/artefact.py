"""Reading what was trained: a manifest in JSON, and files that it names with their SHA-256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sectum.errors import ArtefactInvalid

_MAX_MANIFEST_BYTES = 1 << 20


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        ArtefactInvalid: it is missing, too large, or no JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_MANIFEST_BYTES + 1)
        manifest = json.loads(content)
    except OSError as error:
        raise ArtefactInvalid(f"{path}: {error.strerror}; reinstall Sectum or train again") from error
    except (ValueError, RecursionError) as error:
        raise ArtefactInvalid(f"{path}: not JSON ({error}); reinstall Sectum or train again") from error
    if len(content) > _MAX_MANIFEST_BYTES or not isinstance(manifest, dict):
        raise ArtefactInvalid(f"{path}: not the manifest of trained models; reinstall Sectum or train again")
    return manifest


def read_checked(folder: Path, name: str, sha256: str) -> bytes:
    """Read a file that the folder's manifest names.

    Raises:
        ArtefactInvalid: it lies elsewhere, is missing, or is not the one that the manifest was written for.
    """
    path = folder / name
    if path.parent != folder:
        raise ArtefactInvalid(f"{folder}/manifest.json names '{name}', which lies outside its folder")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtefactInvalid(f"{path}: {error.strerror}; reinstall Sectum or train again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ArtefactInvalid(f"{path}: its SHA-256 is not the manifest's: damaged or exchanged; reinstall Sectum")
    return content


def read_session(folder: Path, name: str, sha256: str) -> Any:
    """Load a network that the folder's manifest names into ONNX Runtime, for one thread; raises as `read_checked`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(read_checked(folder, name, sha256), options, providers=["CPUExecutionProvider"])
