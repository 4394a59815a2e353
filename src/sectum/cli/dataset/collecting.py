"""What the commands share that measure for long and store as they go."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.render.progress import progress_bar
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.lab.dataset.shards import ShardWriter


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Say what became of the measurements when the work ends early."""
    same = "what was measured is kept, and the same command goes on from here"
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Stopped; {same}.", err=True)
        raise
    except OSError as error:
        raise UsageError(f"collecting into {folder} ended: {error}. Put that right; {same}") from error


def collected(writer: ShardWriter, records: Generator[Mapping[str, Any], None, None], to_do: int) -> tuple[int, int]:
    """Go through the records of a campaign and show how far it is. Ctrl-C closes them, so that it leaves shards.

    Returns:
        How many were measured, and how many of these failed.
    """
    if writer.cut_off_bytes:
        click.echo("The last record was cut off when its process ended. It is measured again.", err=True)
    measured = failures = 0
    begin_s = time.monotonic()
    with progress_bar() as progress, closing(records):
        progress("starting", 0.0)
        for record in records:
            measured += 1
            failures += bool(record["error"])
            left_s = (time.monotonic() - begin_s) / measured * (to_do - measured)
            progress(f"{to_do - measured} left, {_duration(left_s)}; {_line(record)}", measured / to_do)
    return measured, failures


def _line(record: Mapping[str, Any]) -> str:
    from sectum.lab.dataset.dataset import run_ms

    outcome = record["error"] or f"{run_ms(record['runs'][0]):.1f} ms"
    return f"{record['key']}: {outcome}"


def _duration(seconds: float) -> str:
    """Write how long work will take, roughly."""
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min" if seconds >= 90 else "1 min"
