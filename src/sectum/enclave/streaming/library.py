"""Compiles libstreaming for this machine at its first use; see ``native/streaming``."""

from __future__ import annotations

from pathlib import Path

from sectum.compiling import compiled
from sectum.errors import EnclaveUnavailable

_FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread", "-shared", "-Wl,-z,now")
_LIBRARIES = ("-ldl",)
_HEADER = "streaming.h"


def source_folder() -> Path:
    """Find the C sources: beside this module, or in a checkout at ``native/streaming``.

    Raises:
        EnclaveUnavailable: neither is there.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "native", here.parents[4] / "native" / "streaming"):
        if (folder / _HEADER).is_file():
            return folder
    raise EnclaveUnavailable("the C sources of libstreaming are missing from this installation: install sectum again")


def streaming_library() -> Path:
    """Return the compiled library; compile it if it is not in the cache yet.

    Raises:
        EnclaveUnavailable: no compiler, no sources, or no cache folder.
        EnclaveFailed: the compiler refused the sources.
    """
    folder = source_folder()
    return compiled("streaming", folder, sorted(folder.glob("*.[ch]")), _FLAGS, _LIBRARIES)
