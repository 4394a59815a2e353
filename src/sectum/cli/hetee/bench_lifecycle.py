"""``sectum hetee bench lifecycle``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.options import SOFTWARE, need_extra
from sectum.cli.options import examples, json_option, whole
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.bench.lifecycle import LifecycleCell

_NETWORKS = ("VGG16", "GoogLeNet", "ResNet50", "ResNet101", "ResNet152")
_FEWEST = 2
_OURS, _PACED, _THEIRS = "#3b6fb6", "#9db8dd", "#b9bec7"
_TENS_OF_SECONDS_MS = 1e4, 1e5


@click.command(
    epilog=examples("sectum hetee bench lifecycle --picture life.png", "sectum hetee bench lifecycle --count 20 --json")
)
@click.option(
    "--network",
    type=click.Choice(_NETWORKS, case_sensitive=False),
    default="ResNet50",
    show_default=True,
    help="Whose model is loaded.",
)
@click.option("--count", callback=whole(1000), default="5", show_default=True, metavar="N", help="Lives to measure.")
@click.option(
    "--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Also draw the steps into this file."
)
@json_option
def lifecycle(*, network: str, count: int, picture: Path | None, as_json: bool) -> None:
    """Measure what happens around batches in the life of an enclave.

    Attestation, creation with a clean worker at hand and without one, upload of a model, growth, shrinkage with its
    reset, cleaning, and the switch of an accelerator from a job of the insecure world to an enclave, and back. HETEE's
    paper says of these that cleaning takes tens of seconds. One step is paced, and says so. Run nothing else meanwhile.
    It takes about a minute. Ctrl-C stops and prints what was measured so far.
    """
    need_extra()
    from sectum.cli.hetee.bench_picture import check_drawable
    from sectum.cli.render.output import print_json, write_file
    from sectum.cli.render.progress import progress_bar
    from sectum.hetee.bench.lifecycle import LifecyclePlan, about, run

    if count < _FEWEST:
        raise UsageError(f"{count} life is too few for a median: give --count {_FEWEST} or more")
    if picture is not None:
        check_drawable(picture)
    plan = LifecyclePlan(network, count)
    with progress_bar() as progress:
        known = about(plan)
        cells = run(plan, progress)
    if as_json:
        print_json({"context": known, "cells": [cell.json() for cell in cells]})
    else:
        _show(cells, known)
    if picture is not None:
        write_file(picture, _drawn(cells, known))
        if not as_json:
            click.echo(f"drawn: {picture}")


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


def _drawn(cells: list[LifecycleCell], known: dict[str, Any]) -> bytes:
    """The time of each step as a bar on a logarithmic axis, with its interval, and what the paper says of it."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from sectum.cli.render.figures import milliseconds
    from sectum.cli.render.pictures import png
    from sectum.hetee.bench.lifecycle import HETEE

    figure = Figure(figsize=(9, 0.36 * len(cells) + 1.6), layout="constrained")
    axes = figure.subplots()
    for at, cell in enumerate(cells):
        ms = cell.ms
        axes.barh(at, ms.value, 0.62, color=_PACED if "paced" in cell.step else _OURS)
        axes.plot([ms.low, ms.high], [at, at], color="black", linewidth=1)
        axes.text(ms.high * 1.15, at, milliseconds(ms.value), va="center", fontsize=8, color=_OURS)
        if cell.step in HETEE:
            begin, end = _TENS_OF_SECONDS_MS
            axes.barh(at, end - begin, 0.62, left=begin, color=_THEIRS)
            axes.text((begin * end) ** 0.5, at, HETEE[cell.step], ha="center", va="center", fontsize=7)
    axes.set_xscale("log")
    axes.set_xlim(min(cell.ms.low for cell in cells) / 2, _TENS_OF_SECONDS_MS[1])
    axes.set_xlabel("milliseconds, logarithmic")
    axes.set_yticks(range(len(cells)), [cell.step for cell in cells], fontsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e7e9ee")
    axes.set_axisbelow(True)
    labels = ((_OURS, "Sectum, measured (95 %)"), (_PACED, "Sectum, measured, paced"), (_THEIRS, "HETEE, published"))
    handles = [Patch(color=color, label=label) for color, label in labels]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.02))
    figure.suptitle(
        f"Steps in the life of an enclave: {known['machine']}, cores: {known['cores']}, medians of {known['count']} "
        f"lives, {known['network']}; SOFTWARE evidence",
        fontsize=9,
    )
    return png(figure)
