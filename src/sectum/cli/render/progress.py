"""A progress bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sectum.cli.render.untrusted import printable

Progress = Callable[[str, float], None]
"""Called with what is being done, and the share that is done, from 0 to 1."""


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar while the body runs; nothing if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    bar = Bars(
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True, markup=False, emoji=False, highlight=False),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)  # the bar pulses until the share that is done is known

        def show(what: str, share: float) -> None:
            bar.update(task, description=printable(what, limit=60), completed=share, total=1.0 if share else None)

        yield show
