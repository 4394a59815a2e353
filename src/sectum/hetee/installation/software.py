"""Which files each role can run: interpreter, standard library, dependencies, parts of this package, libraries."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import sectum
from sectum.hetee.image.running import INTERPRETER, LIBRARY, LOADER, NATIVE, PACKAGES
from sectum.hetee.installation.libraries import with_needed


@dataclass(frozen=True)
class Software:
    """The software of a role beside the interpreter: parts of this package, and installed distributions."""

    parts: tuple[str, ...]
    distributions: tuple[str, ...]


_HETEE = ("__init__", "errors", "role_log", "attest", "channel", "confinement", "image", "wire")
_PARTS = ("__init__.py", "errors.py", *(f"hetee/{part}" for part in _HETEE))
_BASE = ("cbor2", "cffi", "cryptography", "msgspec")
CONTROLLER = Software((*_PARTS, "hetee/controller"), _BASE)
WORKER = Software(
    (*_PARTS, "hetee/data_plane", "hetee/training", "hetee/worker", "units.py", "graph"),
    (*_BASE, "blake3", "numpy", "onnxruntime", "pillow"),
)
# A worker that also trains.
TRAINER = Software((*WORKER.parts, "extras.py", "zoo"), (*WORKER.distributions, "torch", "typing-extensions"))

# Parts of the standard library and of packages that no role imports.
_LEFT_OUT = frozenset(
    ("__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3",
     "ensurepip", "venv", "distutils", "pydoc_data", "msilib", "sqlite3", "curses", "dbm", "wsgiref", "xmlrpc",
     "transformers", "quantization", "tools", "datasets", "backend", "f2py", "_pyinstaller", "include"),
)  # fmt: skip
# PyTorch imports all of its own parts, and looks for a program that it runs only to share memory.
_LEFT_OUT_OF_TORCH = frozenset(("__pycache__", "bin", "include", "share", "test"))
_LEFT_OUT_NAMES = ("_test", "_xxtest", "xxlimited", "_ctypes_test", "_tkinter", "_curses", "readline", "_sqlite3",
                   "_ssl", "_dbm", "_gdbm", "nis", "ossaudiodev", "sitecustomize", "usercustomize")  # fmt: skip


def files(software: Software, package: Path | None = None) -> dict[str, Path]:
    """Where each file of a role is installed, by its path in an image.

    Args:
        software: the role's software.
        package: folder of this package.
    """
    found = {INTERPRETER: Path(sys._base_executable).resolve()}  # type: ignore[attr-defined]
    library = Path(sysconfig.get_path("stdlib"))
    found |= {f"{LIBRARY}/{label}": path for label, path in _tree(library) if path.suffix in (".py", ".so")}
    for name in software.distributions:
        found |= {f"{PACKAGES}/{label}": path for label, path in _of_distribution(name)}
    package = package or Path(sectum.__file__).parent
    for part in software.parts:
        path = package / part if (package / part).exists() else package / f"{part}.py"
        own = _tree(path) if path.is_dir() else [("", path)]
        base = path.relative_to(package).as_posix()
        found |= {f"{PACKAGES}/sectum/{base}/{label}".rstrip("/"): file for label, file in own}
    loader, libraries = with_needed(
        path for label, path in found.items() if label == INTERPRETER or ".so" in path.suffixes
    )
    found |= {f"{NATIVE}/{name}": path for name, path in libraries.items()}
    return found | ({LOADER: loader} if loader is not None else {})


def copy(files: Mapping[str, Path], image: Path) -> None:
    """Copy files to a new image, readable for everyone and writable for nobody.

    Raises:
        OSError: a file cannot be read, or the image cannot be written.
    """
    for label, path in files.items():
        target = image / label
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o555 if os.access(path, os.X_OK) else 0o444)


def _tree(top: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in set(folders) - _LEFT_OUT if not name.startswith("config-"))
        relative = Path(folder).relative_to(top)
        for name in sorted(names):
            if not name.startswith(_LEFT_OUT_NAMES):
                yield (relative / name).as_posix(), Path(folder, name)


def _left_out(relative: Path) -> bool:
    if relative.parts[0] == "torch":
        return relative.parts[1] in _LEFT_OUT_OF_TORCH and relative.name != "torch_shm_manager"
    return bool(_LEFT_OUT.intersection(relative.parts)) or relative.name.startswith(_LEFT_OUT_NAMES)


def _of_distribution(name: str) -> Iterator[tuple[str, Path]]:
    """The files of an installed distribution, without what its installer wrote."""
    for file in _listed(name) or _listed(f"{name}-gpu"):  # onnxruntime-gpu takes the place of onnxruntime
        ours = file.parts[0] != ".." and not file.parts[0].endswith((".dist-info", ".egg-info"))
        if ours and not _left_out(Path(*file.parts)) and file.suffix not in (".pth", ".pyi", ".pyc"):
            yield file.as_posix(), Path(str(file.locate()))


def _listed(name: str) -> list[metadata.PackagePath]:
    try:
        return metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return []
