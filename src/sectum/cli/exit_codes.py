"""Exit codes, and how an error becomes a message and an exit code."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from sectum import errors
from sectum.cli.render.untrusted import printable
from sectum.errors import SectumError
from sectum.hetee import errors as service_errors

if TYPE_CHECKING:
    from types import TracebackType

DEFECT = 1
INTERRUPTED = 130
READER_GONE = 141
_MESSAGE_LIMIT = 4000


def exit_codes() -> Iterator[tuple[int, str, str]]:
    """Every exit code with the name of its error and what it means, in rising order."""
    yield 0, "", "Success"
    yield DEFECT, "", "A defect of Sectum itself, or not enough memory"
    leaves = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass) + inspect.getmembers(service_errors, inspect.isclass)
        if issubclass(kind, SectumError) and "exit_code" in vars(kind) and kind is not SectumError
    ]
    for kind in sorted(leaves, key=lambda kind: kind.exit_code):
        yield kind.exit_code, kind.__name__, (inspect.getdoc(kind) or "").splitlines()[0].rstrip(".")
    yield INTERRUPTED, "", "Ctrl-C"
    yield READER_GONE, "", "The reader of the output closed it"


def fail(kind: str, message: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """Print an error on stderr, and as JSON on stdout where that was asked for; then exit."""
    message = printable(message, limit=_MESSAGE_LIMIT, keep="\n")
    if as_json:
        error = {"type": kind, "message": message, "exit_code": exit_code}
        try:
            click.echo(json.dumps({"error": error}))  # one line: some commands print a line for each event
        except OSError:  # closed or full: the exit code remains
            discard(sys.stdout)
    try:
        click.echo(f"sectum: {message}", err=True)
    except OSError:
        discard(sys.stderr)
    sys.exit(exit_code)


def report_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error in one line, as `sys.excepthook`; with SECTUM_TRACEBACK=1 print its traceback."""
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    if os.environ.get("SECTUM_TRACEBACK"):
        sys.__excepthook__(kind, error, trace)
        return
    message = (
        f"this is a defect of Sectum, not of your input: {kind.__name__}: {error}. "
        "Please report it with the traceback that SECTUM_TRACEBACK=1 prints."
    )
    try:
        fail("Defect", message, DEFECT, as_json="--json" in sys.argv)
    except SystemExit:
        return  # the interpreter exits with 1 after its hook has run


def discard(stream: TextIO) -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush does not fail again."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, stream.fileno())
    os.close(sink)
