"""Measures the software of a role: one SHA-256 over a manifest of its files."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import sectum


@dataclass(frozen=True)
class Software:
    """The software of a role: parts of this package, and installed distributions."""

    parts: tuple[str, ...]
    distributions: tuple[str, ...]


_CORE = ("__init__.py", "errors.py", "hetee")
_BASE = ("cbor2", "cryptography", "msgspec")
CONTROLLER = Software(_CORE, _BASE)
WORKER = Software((*_CORE, "units.py", "graph"), (*_BASE, "numpy", "onnx", "onnxruntime", "pillow"))


class Measurer:
    """Measures software. It reads a file again only when its inode, size or time has changed.

    Args:
        package: folder of this package.
    """

    def __init__(self, package: Path | None = None) -> None:
        self._package = package or Path(sectum.__file__).parent
        self._distributions: dict[str, list[tuple[str, Path]]] = {}
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def measure(self, software: Software) -> bytes:
        """SHA-256 of the manifest, 32 bytes."""
        return hashlib.sha256("\n".join(self.manifest(software)).encode()).digest()

    def manifest(self, software: Software) -> list[str]:
        """One line for each file, sorted by path: SHA-256, size in bytes, path; then the interpreter."""
        lines = [
            self._line(f"sectum/{path.relative_to(self._package).as_posix()}", path) for path in self._own(software)
        ]
        for name in software.distributions:
            files = self._distributions.get(name)
            if files is None:
                files = self._distributions[name] = list(_files_of(name))
            lines += [self._line(label, path) for label, path in files] or [f"- 0 {name} is not installed"]
        interpreter = f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"
        return [*sorted(lines, key=lambda line: line.split(" ", 2)[2]), interpreter]

    def _own(self, software: Software) -> Iterator[Path]:
        for part in software.parts:
            path = self._package / part
            found: Iterable[Path] = path.rglob("*") if path.is_dir() else [path]
            yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)

    def _line(self, label: str, path: Path) -> str:
        stat = path.stat()
        state = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        known = self._known.get(path)
        if known is None or known[0] != state:
            with path.open("rb") as file:
                known = self._known[path] = state, hashlib.file_digest(file, "sha256").hexdigest()
        return f"{known[1]} {stat.st_size} {label}"


def _files_of(name: str) -> Iterator[tuple[str, Path]]:
    """The files of a distribution, without its tests, caches and the metadata that pip writes."""
    try:
        files = metadata.distribution(name).files
    except metadata.PackageNotFoundError:
        files = None
    for file in files or ():
        own = file.parts[0] != ".." and not {"__pycache__", "test", "tests"}.intersection(file.parts)
        if own and not file.parts[0].endswith((".dist-info", ".egg-info")):
            yield file.as_posix(), Path(str(file.locate()))
