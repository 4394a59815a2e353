"""Files and JSON that commands write."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from sectum.errors import UsageError


def print_json(data: Any) -> None:
    """Print JSON for programs: indented, without NaN, escaped to ASCII."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


def print_line(data: Any) -> None:
    """Print JSON on one line, for programs that read a command's events while it runs."""
    click.echo(json.dumps(data, allow_nan=False))


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written, before any long work is done for it.

    Raises:
        UsageError: it is a folder or standard output, its folder is missing, or it may not be written.
    """
    if str(path) == "-":
        raise UsageError("nothing is written to standard output: name a file")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}: make it, or name another")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} may not be written: name another file")


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    check_writable(path)
    if path.exists() and not path.is_file():  # a device or a pipe is written as it is
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
