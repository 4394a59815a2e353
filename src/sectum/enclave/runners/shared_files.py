"""Files that a session and its process share: the model, values of inputs, outputs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO


class SharedFiles:
    """Files that this process makes and another one opens by their path.

    They have no name, so nothing is left of them however the two processes end: the other one opens them through this
    one's descriptors. A process that cannot see those, as in Gramine, needs a folder.

    Args:
        folder: where the files get names; None for files without.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}

    def new(self, name: str) -> IO[bytes]:
        """Make an empty file for reading and writing, in place of an earlier one of this name."""
        self.remove(name)
        if self._folder is None:
            self._files[name] = tempfile.TemporaryFile(prefix="sectum-")  # noqa: SIM115 - `close` closes it
        else:
            self._files[name] = (self._folder / name).open("w+b")
        return self._files[name]

    def path(self, name: str) -> str:
        """The path by which the other process opens a file."""
        file = self._files[name]
        file.flush()
        return f"/proc/{os.getpid()}/fd/{file.fileno()}" if self._folder is None else str(self._folder / name)

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        if (file := self._files.pop(name, None)) is not None:
            file.close()
            if self._folder is not None:
                (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all files. May be called again."""
        for name in list(self._files):
            self.remove(name)
