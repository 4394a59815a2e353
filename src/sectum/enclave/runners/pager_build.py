"""Compiles the pager for this machine at its first use."""

from __future__ import annotations

import platform
from pathlib import Path

from sectum.compiling import PRELOADED, compiled, sources_of
from sectum.errors import EnclaveUnavailable


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
    folder = sources_of("softepc", __file__, "softepc.h")
    return compiled("softepc", folder, [folder / "softepc.h", *sorted(folder.glob("src/*.[ch]"))], PRELOADED, ("-ldl",))
