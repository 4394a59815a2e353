"""Paragraphs and tables on the terminal. All text is printed as it is: no markup is interpreted."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

import click

from sectum.cli.render.figures import join_units
from sectum.cli.render.untrusted import printable

_WIDTH_WITHOUT_TERMINAL = 120
_LEAST_ROOM = 24
"""Columns that the text at the end of a row needs; with fewer it goes on lines of its own."""
_GAP = "  "


def say(text: str) -> None:
    """Print a line; it may contain untrusted names."""
    click.echo(printable(text, limit=4000, keep="\n"))


def paragraph(text: str, *, hanging: str = "") -> None:
    """Print sentences, wrapped to the width of the terminal; all lines but the first begin with ``hanging``."""
    lines = _wrapped(join_units(printable(text, limit=4000)), _width(), hanging)
    click.echo("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "))


def remarks(lines: Iterable[str]) -> None:
    """Print each as a paragraph of its own, with an empty line before it."""
    for line in lines:
        say("")
        paragraph(line, hanging="  ")


def rows(entries: Iterable[Sequence[str]], *, right: Iterable[int] = (), header: Sequence[str] = ()) -> None:
    """Print a table. Only the text after the last number is wrapped, and nothing is cut off.

    Args:
        entries: the cells of each row, the same number in each.
        right: columns to align right: the numbers.
        header: titles of the columns; none if empty.
    """
    from rich.cells import cell_len

    flush = frozenset(right)
    table = [[printable(cell, limit=400) for cell in entry] for entry in ([header] if header else []) + list(entries)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    room = _width() - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    below = room < min(widths[-1], _LEAST_ROOM)
    fixed = max(flush) + 1 if below and flush else len(widths) - 1
    for number, row in enumerate(table):
        padding = [" " * (width - cell_len(cell)) for width, cell in zip(widths, row, strict=True)]
        padded = [
            space + cell if column in flush else cell + space
            for column, (space, cell) in enumerate(zip(padding, row, strict=True))
        ]
        start = _GAP.join(padded[:fixed])
        if below:
            lines = [start, *_wrapped(f"    {_GAP.join(row[fixed:])}", _width(), "    ")]
        else:
            first, *others = _wrapped(row[-1], room, "") or [""]
            lines = [start + _GAP + first, *(" " * (_width() - room) + line for line in others)]
        for line in lines:
            click.secho(line.rstrip(), bold=(bool(header) and number == 0) or None)


def _wrapped(text: str, width: int, hanging: str) -> list[str]:
    return textwrap.wrap(
        text, max(width, _LEAST_ROOM), subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )


def _width() -> int:
    """Columns of the terminal, or a generous width without one."""
    if not sys.stdout.isatty():
        return _WIDTH_WITHOUT_TERMINAL
    return shutil.get_terminal_size((_WIDTH_WITHOUT_TERMINAL, 1)).columns
