"""Files and JSON that commands write."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import click

from sectum.errors import UsageError


def print_json(data: Any) -> None:
    """Print JSON for programs: indented, without NaN, escaped to ASCII."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


def print_line(data: Any, out: TextIO | None = None) -> None:
    """Print JSON on one line, on standard output or ``out``: an event of a command that is still running."""
    click.echo(json.dumps(data, allow_nan=False), out)


def check_writable(path: Path) -> None:
    """Check that a file can be written, before long work is done for it.

    Raises:
        UsageError: it is a folder or standard output, its folder is missing, or writing is not permitted.
    """
    if str(path) == "-":
        raise UsageError("this cannot be written to standard output: name a file")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}: create it, or choose another")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"no permission to write {path}: name another file")


def make_folder(folder: Path) -> None:
    """Make a folder for several files, unless it is there.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror or error}; name another folder") from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely, or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    check_writable(path)
    if path.exists() and not path.is_file():  # a device or a pipe is written in place
        try:
            path.write_bytes(content)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
        return
    partial = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            partial = file.name
            file.write(content)
        Path(partial).chmod(0o666 & ~_umask())
        Path(partial).replace(path)
    except OSError as error:
        if partial:
            with suppress(OSError):
                Path(partial).unlink()
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
