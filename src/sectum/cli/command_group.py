"""Groups of commands. That of all commands prints them in sections, and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from sectum.cli.exit_codes import DEFECT, INTERRUPTED, READER_GONE, discard, fail
from sectum.errors import SectumError, UsageError


class FullSentenceGroup(click.Group):
    """A group whose help shows the whole first sentence of each command."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for every command."""
        self.write_commands(formatter, "Commands", [self.commands[name] for name in self.list_commands(ctx)])

    def write_commands(self, formatter: click.HelpFormatter, title: str, commands: Sequence[click.Command]) -> None:
        """Write a line for each of these commands under a title."""
        widest = max(map(len, self.commands), default=0)
        with formatter.section(title):
            formatter.write_dl([(f"{one.name or '':<{widest}}", one.get_short_help_str(300)) for one in commands])


class CommandGroup(FullSentenceGroup):
    """Commands in sections. Its `main` exits with a documented code and never shows a traceback for a user's error."""

    def __init__(self, *args: Any, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.sections: dict[str, tuple[click.Command, ...]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands that the help shows under a title of their own."""
        self.sections[title] = commands
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the sections, each with a line for every command."""
        for title, commands in self.sections.items():
            self.write_commands(formatter, title, commands)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments; exit quietly when the reader of the help has closed it."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            discard(sys.stdout)
            raise click.exceptions.Exit(READER_GONE) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit quietly when the reader of the output has closed it."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            discard(sys.stdout)
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
        """Run the command line and exit with a documented code."""
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
        except click.ClickException as error:
            ctx = error.ctx if isinstance(error, click.UsageError) else None
            hint = f"\nTry '{ctx.command_path} --help'." if ctx is not None else ""
            fail("UsageError", error.format_message() + hint, UsageError.exit_code, as_json=as_json)
        except click.Abort:
            sys.exit(INTERRUPTED)
        except OSError as error:
            if error.filename is not None:  # then it is not standard output that failed
                raise
            discard(sys.stdout)
            message = f"the output cannot be written: {error.strerror or error}; free some space, or write elsewhere"
            fail("UsageError", message, UsageError.exit_code, as_json=as_json)
        except MemoryError:
            message = "this machine does not have enough memory for this model"
            fail("MemoryError", message, DEFECT, as_json=as_json)
        sys.exit(code if isinstance(code, int) else 0)
