"""``sectum hetee bench lifecycle``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.options import SOFTWARE, need_extra
from sectum.cli.options import examples, json_option, whole
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.bench.lifecycle import LifecycleCell

_NETWORKS = ("VGG16", "GoogLeNet", "ResNet50", "ResNet101", "ResNet152")
_FEWEST = 2


@click.command(epilog=examples("sectum hetee bench lifecycle", "sectum hetee bench lifecycle --count 20 --json"))
@click.option(
    "--network",
    type=click.Choice(_NETWORKS, case_sensitive=False),
    default="ResNet50",
    show_default=True,
    help="Whose model is loaded.",
)
@click.option("--count", callback=whole(1000), default="5", show_default=True, metavar="N", help="Lives to measure.")
@json_option
def lifecycle(*, network: str, count: int, as_json: bool) -> None:
    """Measure what happens around batches in the life of an enclave.

    Attestation, creation with a clean worker at hand and without one, upload of a model, growth, shrinkage with its
    reset, and cleaning. HETEE's paper says of these that cleaning takes tens of seconds. One step is paced, and says
    so. Run nothing else meanwhile. It takes about a minute. Ctrl-C stops and prints what was measured so far.
    """
    need_extra()
    from sectum.cli.render.output import print_json
    from sectum.cli.render.progress import progress_bar
    from sectum.hetee.bench.lifecycle import LifecyclePlan, about, run

    if count < _FEWEST:
        raise UsageError(f"{count} life is too few for a median: give --count {_FEWEST} or more")
    plan = LifecyclePlan(network, count)
    with progress_bar() as progress:
        known = about(plan)
        cells = run(plan, progress)
    if as_json:
        print_json({"context": known, "cells": [cell.json() for cell in cells]})
    else:
        _show(cells, known)


def _show(cells: list[LifecycleCell], known: dict[str, Any]) -> None:
    from sectum.cli.render.figures import milliseconds
    from sectum.cli.render.show import paragraph, rows
    from sectum.hetee.bench.lifecycle import HETEE, STEPS

    lines = [
        (cell.step, milliseconds(cell.ms.value), f"±{cell.ms.half_width:.1f} ms", HETEE.get(cell.step, ""))
        for cell in cells
    ]
    rows(lines, right=(1, 2), header=("step", "measured", "", "HETEE, published"))
    click.echo()
    for cell in cells:
        click.echo(f"{cell.step}: {STEPS[cell.step]}")
    click.echo()
    paragraph(
        f"Measured on {known['machine']}, {known['cores']} cores; medians of {known['count']} lives, ± is half of a "
        f"95 % interval; the model is {known['network']}, computed on CPU accelerators."
    )
    paragraph(f"{SOFTWARE}.")
