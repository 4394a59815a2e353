"""Tables for people. Everything printed here is plain data: no markup of rich's is read from it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from sectum.cli.untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 120


def say(text: str) -> None:
    """Print a sentence; it may hold names from a model."""
    click.echo(printable(text, limit=4000, keep="\n"))


def rows(entries: Iterable[Sequence[str]], *, right: Iterable[int] = (), header: Sequence[str] = ()) -> None:
    """Print a table without rules.

    Args:
        entries: the cells of each row, as many in each.
        right: columns that are set flush right.
        header: titles of the columns; none if empty.
    """
    from rich.table import Table
    from rich.text import Text

    entries = list(entries)
    flush = set(right)
    table = Table(box=None, show_header=bool(header), padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for index in range(len(header) or len(entries[0])):
        title = header[index] if header else ""
        last = index == (len(header) or len(entries[0])) - 1
        table.add_column(
            Text(title),
            justify="right" if index in flush else "left",
            no_wrap=not last,
            overflow="fold" if last else "ellipsis",
        )
    for entry in entries:
        table.add_row(*(Text(printable(cell, limit=400)) for cell in entry))
    console = _console()
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
    return Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False)
