"""Compiles the package's C sources at their first use and keeps the libraries.

The package contains no binaries. A library is stored in a cache folder (``$SECTUM_CACHE``, ``$XDG_CACHE_HOME/sectum``
or ``~/.cache/sectum``). Its name is a hash of the sources, the flags and the compiler, so a change of any of them
compiles it again. It is written to a temporary file and renamed, so that two processes may compile it at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sectum.errors import EnclaveFailed, EnclaveUnavailable

PRELOADED = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread", "-shared", "-Wl,-z,now")
"""Flags for a library that is loaded into processes which run models."""
_COMPILERS = ("cc", "gcc", "clang")
_COMPILE_DEADLINE_S = 120.0
_NO_COMPILER = (
    "the software enclave is compiled at its first use, and this machine has no C compiler (cc, gcc, clang): "
    "install one, on Debian and Ubuntu with 'apt-get install gcc libc6-dev'. Predicting works without it"
)


def cache_folder() -> Path:
    """Return the folder where compiled libraries are kept; it may not exist yet."""
    if named := os.environ.get("SECTUM_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "sectum"
    return Path.home() / ".cache" / "sectum"


def _compiler() -> tuple[str, str]:
    """Find a C compiler: its path, and the version that it prints."""
    for name in _COMPILERS:
        if path := shutil.which(name):
            try:
                said = subprocess.run(
                    [path, "--version"], capture_output=True, text=True, errors="replace", timeout=20, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise EnclaveUnavailable(f"the C compiler {path} does not work ({error}): install another") from error
            return path, said.stdout
    raise EnclaveUnavailable(_NO_COMPILER)


def _private(folder: Path) -> Path:
    """Create the cache folder if it is missing; refuse one in which other users could replace the library."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except OSError as error:
        raise EnclaveUnavailable(
            f"the pager cannot be stored in {folder} ({error.strerror}): set SECTUM_CACHE to a folder of your own"
        ) from error
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EnclaveUnavailable(
            f"{folder} belongs to another user or can be written by others, who could replace the pager: "
            "set SECTUM_CACHE to a folder that only you can write (chmod 700)"
        )
    if any(character in str(folder) for character in " :\t\n$"):
        raise EnclaveUnavailable(
            f"the dynamic loader cannot preload from {folder}, because its path contains a space, a colon or a "
            "dollar sign: set SECTUM_CACHE to a path without them"
        )
    return folder.resolve()


def sources_of(name: str, module: str, header: str) -> Path:
    """Find C sources: in ``native`` beside a module, or in a checkout at ``native/NAME``.

    Args:
        name: of the folder in a checkout.
        module: the module's file.
        header: a file among the sources.

    Raises:
        EnclaveUnavailable: they are in neither place.
    """
    for folder in (Path(module).resolve().parent / "native", Path(__file__).resolve().parents[2] / "native" / name):
        if (folder / header).is_file():
            return folder
    raise EnclaveUnavailable(f"the C sources of {name} are missing from this installation: install sectum again")


def run_tool(command: Sequence[str], deadline_s: float, too_long: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it prints is kept.

    Args:
        command: the program and its arguments.
        deadline_s: after so many seconds it is stopped.
        too_long: what to say then.
        more: keyword arguments of ``subprocess.run``.

    Raises:
        EnclaveFailed: it did not end in time.
    """
    try:
        return subprocess.run(
            list(command), capture_output=True, text=True, errors="replace", timeout=deadline_s, check=False, **more
        )
    except subprocess.TimeoutExpired as error:
        raise EnclaveFailed(too_long) from error


def compiled(
    name: str, folder: Path, sources: Sequence[Path], flags: Sequence[str], libraries: Sequence[str] = ()
) -> Path:
    """Return a compiled library; compile it if it is not in the cache yet.

    Args:
        name: name of the library.
        folder: folder of the sources.
        sources: C files, and the headers that they include.
        flags: flags for the compiler.
        libraries: libraries to link with.

    Raises:
        EnclaveUnavailable: no compiler, or no cache folder.
        EnclaveFailed: the compiler refused the sources.
    """
    compiler, version = _compiler()
    key = hashlib.sha256("\0".join((*flags, *libraries, compiler, version)).encode())
    for path in sources:
        key.update(f"\0{path.relative_to(folder)}\0".encode())
        key.update(path.read_bytes())
    cache = _private(cache_folder())
    library = cache / f"lib{name}-{key.hexdigest()[:24]}.so"
    if not library.is_file():
        _compile([compiler, *flags], [path for path in sources if path.suffix == ".c"], libraries, library)
    return library


def _compile(compiler: Sequence[str], sources: Sequence[Path], libraries: Sequence[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="compile-", dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [*compiler, "-o", str(made), *map(str, sources), *libraries]
        too_long = (
            f"{compiler[0]} took over {_COMPILE_DEADLINE_S:g} s to compile: try again when the machine is less busy"
        )
        ended = run_tool(command, _COMPILE_DEADLINE_S, too_long)
        if ended.returncode != 0 or not made.is_file():
            raise EnclaveFailed(
                f"{compiler[0]} could not compile the pager; if headers are missing, install libc6-dev and "
                f"linux-libc-dev. It said: {ended.stderr.strip()[-1500:]}"
            )
        made.replace(library)
