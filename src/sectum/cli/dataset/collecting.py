"""What the commands share that measure for long and store as they go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from sectum.errors import UsageError


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Say what became of the measurements when the work ends early."""
    same = "what was measured is kept, and the same command goes on from here"
    try:
        yield
    except KeyboardInterrupt:
        say_aside(f"Stopped; {same}.")
        raise
    except OSError as error:
        raise UsageError(f"collecting into {folder} ended: {error}. Put that right; {same}") from error


def say_aside(text: str) -> None:
    """Print a line for people on stderr."""
    click.echo(text, err=True)


def duration(seconds: float) -> str:
    """Write how long work will take, roughly."""
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min" if seconds >= 90 else "1 min"
