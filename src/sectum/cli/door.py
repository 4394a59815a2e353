"""Between every command and the shell: errors become a sentence and an exit code, never a traceback."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from sectum import errors
from sectum.cli.render.untrusted import printable
from sectum.errors import SectumError
from sectum.hetee import errors as refusals

if TYPE_CHECKING:
    from types import TracebackType

DEFECT = 1
INTERRUPTED = 130
READER_GONE = 141
_MESSAGE_LIMIT = 4000


def exit_codes() -> Iterator[tuple[int, str, str]]:
    """Every exit code with the name of its error and what it means, in rising order."""
    yield 0, "", "It went well"
    yield DEFECT, "", "A defect of Sectum itself, or no memory left"
    leaves = {
        kind.exit_code: (name, (inspect.getdoc(kind) or "").splitlines()[0].rstrip("."))
        for name, kind in inspect.getmembers(errors, inspect.isclass) + inspect.getmembers(refusals, inspect.isclass)
        if issubclass(kind, SectumError) and "exit_code" in vars(kind) and kind is not SectumError
    }
    for code in sorted(leaves):
        yield code, *leaves[code]
    yield INTERRUPTED, "", "Ctrl-C"
    yield READER_GONE, "", "The program that read the output went away"


def exit_code_lines() -> str:
    """Write the exit codes as lines for a help text."""
    return "\n".join(f"  {code:>3}  {meaning}" for code, _, meaning in exit_codes())


def fail(kind: str, message: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """Say what went wrong on stderr, as JSON on stdout too where that was asked for, and leave."""
    message = printable(message, limit=_MESSAGE_LIMIT, keep="\n")
    if as_json:
        error = {"type": kind, "message": message, "exit_code": exit_code}
        try:
            click.echo(json.dumps({"error": error}))  # one line: some commands print a line for each event
        except OSError:  # nobody reads it, or there is no room: the exit code says it all the same
            _discard(sys.stdout)
    try:
        click.echo(f"sectum: {message}", err=True)
    except OSError:
        _discard(sys.stderr)
    sys.exit(exit_code)


class Door(click.Group):
    """The group of all commands; its `main` never lets an error of the user's become a traceback."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the words; leave quietly when whoever was to read the help has left."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            _discard(sys.stdout)
            raise click.exceptions.Exit(READER_GONE) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; leave quietly when whoever reads the output has left."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard(sys.stdout)
            ctx.exit(READER_GONE)
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002 - however it is started, it is called sectum
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - click's signature; this group always stands alone
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and leave with a documented exit code."""
        words = list(sys.argv[1:] if args is None else args)
        if sys.stdout is None:  # closed by whoever started it
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
        as_json = "--json" in words
        try:
            code = super().main(
                words,
                "sectum",
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except SectumError as error:
            fail(type(error).__name__, str(error), error.exit_code, as_json=as_json)
        except click.UsageError as error:
            hint = f"\nTry '{error.ctx.command_path} --help'." if error.ctx is not None else ""
            fail("UsageError", error.format_message() + hint, errors.UsageError.exit_code, as_json=as_json)
        except click.ClickException as error:
            fail("UsageError", error.format_message(), errors.UsageError.exit_code, as_json=as_json)
        except click.Abort:
            sys.exit(INTERRUPTED)
        except OSError as error:
            if error.filename is not None:  # then it is not standard output that failed
                raise
            _discard(sys.stdout)
            message = (
                f"the output cannot be written: {error.strerror or error}; make room for it, or name another place"
            )
            fail("UsageError", message, errors.UsageError.exit_code, as_json=as_json)
        except MemoryError:
            fail(
                "MemoryError",
                "there is not enough memory for this model on this machine",
                DEFECT,
                as_json=as_json,
            )
        sys.exit(code if isinstance(code, int) else 0)


def report_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Name a defect in one line, as `sys.excepthook`; SECTUM_TRACEBACK=1 asks for the trace."""
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    if os.environ.get("SECTUM_TRACEBACK"):
        sys.__excepthook__(kind, error, trace)
        return
    message = (
        f"a defect of Sectum, not of your input: {kind.__name__}: {error}. "
        "Please report it with the trace that SECTUM_TRACEBACK=1 prints."
    )
    try:
        fail("Defect", message, DEFECT, as_json="--json" in sys.argv)
    except SystemExit:
        return  # the interpreter leaves with 1 after its hook has run


def _discard(stream: TextIO) -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush does not fail again."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, stream.fileno())
    os.close(sink)
