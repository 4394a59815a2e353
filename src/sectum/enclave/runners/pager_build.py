"""Compiles the pager for this machine at its first use."""

from __future__ import annotations

import platform
from pathlib import Path

from sectum.compiling import compiled
from sectum.errors import EnclaveUnavailable

_FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread", "-shared", "-Wl,-z,now")
_LIBRARIES = ("-ldl",)


def source_folder() -> Path:
    """Find the pager's C sources: beside this module, or in a checkout at ``native/softepc``.

    Raises:
        EnclaveUnavailable: neither is there.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "native", here.parents[4] / "native" / "softepc"):
        if (folder / "softepc.h").is_file():
            return folder
    raise EnclaveUnavailable("the pager's C sources are missing from this installation: install sectum again")


def _sources(folder: Path) -> list[Path]:
    return [folder / "softepc.h", *sorted(folder.glob("src/*.[ch]"))]


def pager_library() -> Path:
    """Return the compiled pager; compile it if it is not in the cache yet.

    Raises:
        EnclaveUnavailable: no compiler, no sources, another system than Linux on x86-64, or no cache folder.
        EnclaveFailed: the compiler refused the sources.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise EnclaveUnavailable(
            f"the software enclave needs Linux on x86-64, not {platform.system()} on {platform.machine()}: "
            "predicting works without it"
        )
    folder = source_folder()
    return compiled("softepc", folder, _sources(folder), _FLAGS, _LIBRARIES)
