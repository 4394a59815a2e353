"""Compiles libstreaming for this machine at its first use; see ``native/streaming``."""

from __future__ import annotations

from pathlib import Path

from sectum.compiling import PRELOADED, compiled, sources_of


def streaming_library() -> Path:
    """Return the compiled library; compile it if it is not in the cache yet.

    Raises:
        EnclaveUnavailable: no compiler, no sources, or no cache folder.
        EnclaveFailed: the compiler refused the sources.
    """
    folder = sources_of("streaming", __file__, "streaming.h")
    return compiled("streaming", folder, sorted(folder.glob("*.[ch]")), PRELOADED, ("-ldl",))
