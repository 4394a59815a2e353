"""What the benchmarks that measure cell after cell share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from sectum.cli.render.progress import Progress

NETWORKS = ("VGG16", "GoogLeNet", "ResNet50", "ResNet101", "ResNet152")

network_option = click.option(
    "--network",
    "networks",
    type=click.Choice(NETWORKS, case_sensitive=False),
    multiple=True,
    help="Repeat it for several.  [default: all]",
)


def batch_option(sizes: tuple[str, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option for batch sizes, one or several of these."""
    return click.option(
        "--batch",
        "sizes",
        type=click.Choice(sizes),
        multiple=True,
        help="Batch size in images; repeat it for several.  [default: all]",
    )


class Cell(Protocol):
    """What was measured of one cell."""

    def json(self) -> dict[str, Any]:
        """As part of the output of ``--json``."""


C = TypeVar("C", bound=Cell)


def measure_cells(
    run: Callable[[Progress], Iterator[C]],
    about: dict[str, Any],
    show: Callable[[list[C], dict[str, Any]], None],
    draw: Callable[[list[C], dict[str, Any]], bytes],
    *,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Measure cells, print them and draw them. Ctrl-C ends the measurement; what was measured so far is printed.

    Args:
        run: yields each cell as soon as it is measured.
        about: machine and settings.
        show: prints cells as a table.
        draw: makes a PNG of cells.
        picture: file of the PNG; None for no picture.
        as_json: whether to print JSON in place of the table.

    Raises:
        KeyboardInterrupt: the measurement was interrupted.
    """
    from sectum.cli.render.output import print_json, write_file
    from sectum.cli.render.progress import progress_bar

    cells: list[C] = []
    interrupted = False
    with progress_bar() as progress:
        try:
            for cell in run(progress):
                cells.append(cell)
        except KeyboardInterrupt:
            interrupted = True
    if as_json:
        print_json({"context": about, "interrupted": interrupted, "cells": [cell.json() for cell in cells]})
    else:
        show(cells, about)
    if picture is not None and cells:
        write_file(picture, draw(cells, about))
        if not as_json:
            click.echo(f"drawn: {picture}")
    if interrupted:
        raise KeyboardInterrupt
