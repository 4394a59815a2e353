"""``sectum hetee bench scaling``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.bench_cells import NETWORKS, batch_option, measure_cells, network_option
from sectum.cli.hetee.options import SOFTWARE, need_extra
from sectum.cli.options import examples, json_option, whole
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.bench.scaling import ScalingCell

_BATCHES, _NUMBERS = ("4", "8", "16"), ("1", "2", "4", "8")
_FEWEST = 2
_OURS, _THEIRS, _BASELINE = "#3b6fb6", "#9aa3b0", "#c8452f"


@click.command(
    epilog=examples(
        "sectum hetee bench scaling --picture scaling.png",
        "sectum hetee bench scaling --network ResNet50 --batch 8 --accelerators 2 --accelerators 4 --json",
    )
)
@network_option
@batch_option(_BATCHES)
@click.option(
    "--accelerators",
    "numbers",
    type=click.Choice(_NUMBERS),
    multiple=True,
    help="Number of accelerators; repeat it for several.  [default: all]",
)
@click.option(
    "--rounds",
    callback=whole(1000),
    default="6",
    show_default=True,
    metavar="N",
    help="Blocks of batches for each number, for the baseline and for the service.",
)
@click.option(
    "--seed",
    callback=whole(2**31),
    default="1",
    show_default=True,
    metavar="N",
    help="Seed of the images and of the order.",
)
@click.option(
    "--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Also draw the speedups into this file."
)
@json_option
def scaling(*, picture: Path | None, as_json: bool, **options: Any) -> None:
    """Measure HETEE's table III, with several accelerators in one enclave.

    The enclave of one session has 1, 2, 4 and 8 accelerators in turn: it grows and shrinks while the session lasts. It
    takes turns with the plain baseline with as many. Preprocessing and computing are paced: both wait for the published
    times of HETEE's GPU. The paper has no numbers for 8. Run nothing else meanwhile. All 60 cells take about 12
    minutes. Ctrl-C stops and prints what was measured so far.
    """
    need_extra()
    from sectum.cli.hetee.bench_picture import check_drawable
    from sectum.hetee.bench.scaling import ScalingPlan, about, run

    if picture is not None:
        check_drawable(picture)
    if options["rounds"] < _FEWEST:
        raise UsageError(f"{options['rounds']} round is too few for a median: give --rounds {_FEWEST} or more")
    networks = tuple(name for name in NETWORKS if name in options["networks"]) or NETWORKS
    sizes = tuple(int(size) for size in _BATCHES if size in (options["sizes"] or _BATCHES))
    numbers = tuple(int(number) for number in _NUMBERS if number in (options["numbers"] or _NUMBERS))
    plan = ScalingPlan(networks, sizes, numbers, options["rounds"], options["seed"])
    measure_cells(partial(run, plan), about(plan), _show, _drawn, picture=picture, as_json=as_json)


def _show(cells: list[ScalingCell], known: dict[str, Any]) -> None:
    from sectum.cli.render.show import paragraph, rows
    from sectum.hetee.bench.scaling import averages

    if not cells:
        click.echo("nothing was measured")
        return
    lines: list[tuple[str, ...]] = []
    for cell in cells:
        theirs = cell.published()
        lines.append(
            (
                cell.network,
                str(cell.batch),
                str(cell.accelerators),
                f"{cell.speedup.value:.2f} ±{cell.speedup.half_width:.2f}",
                _number(theirs["speedup"]),
                f"{cell.vs_baseline.value:.3f} ±{cell.vs_baseline.half_width:.3f}",
                _number(theirs["vs_baseline"]),
                f"{cell.baseline_speedup.value:.2f}",
                _number(theirs["baseline_speedup"]),
            )
        )
    for number, (speedup, ratio, *theirs_too) in averages(cells).items():
        shown = (_number(value) for value in theirs_too)
        lines.append(("average", "", str(number), f"{speedup:.2f}", next(shown), f"{ratio:.3f}", next(shown), "", ""))
    rows(
        lines,
        right=range(1, 9),
        header=(
            *("network", "batch", "accelerators", "speedup", "HETEE", "vs baseline", "HETEE"),
            *("baseline's speedup", "HETEE's"),
        ),
    )
    click.echo()
    paragraph(
        f"Measured on {known['machine']}, {known['cores']} cores; medians of {known['rounds']} rounds, ± is half of a "
        "95 % interval. speedup: throughput over that of the service with one accelerator. vs baseline: throughput "
        "over that of the plain baseline with as many. HETEE: published numbers, from two printed digits."
    )
    paragraph("paced: nothing was computed; the program waited for the published time of HETEE's GPU.")
    paragraph(f"{SOFTWARE}.")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _drawn(cells: list[ScalingCell], known: dict[str, Any]) -> bytes:
    """The speedups of each network: ours, the baseline's and HETEE's, one line for each batch size."""
    from matplotlib.figure import Figure

    from sectum.cli.render.pictures import png

    networks = list(dict.fromkeys(cell.network for cell in cells))
    figure = Figure(figsize=(max(2.9 * len(networks), 7.5), 4.5), layout="constrained")
    panels = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    most = max(cell.accelerators for cell in cells)
    for axes, network in zip(panels, networks, strict=True):
        axes.plot([1, most], [1, most], color="#d9dde3", linewidth=1, label="linear")
        for batch in dict.fromkeys(cell.batch for cell in cells):
            mine = [cell for cell in cells if (cell.network, cell.batch) == (network, batch)]
            at = [cell.accelerators for cell in mine]
            axes.plot(at, [cell.baseline_speedup.value for cell in mine], "--", color=_BASELINE, linewidth=1)
            axes.plot(at, [cell.speedup.value for cell in mine], "o-", color=_OURS, markersize=3, linewidth=1)
            theirs = [(n, value) for n, cell in zip(at, mine, strict=True) if (value := cell.published()["speedup"])]
            axes.plot(*zip(*theirs, strict=True), "s:", color=_THEIRS, markersize=3, linewidth=1)
        axes.set_title(network, fontweight="bold")
        axes.set_xlabel("accelerators")
        axes.set_xticks(sorted({cell.accelerators for cell in cells}))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("throughput over that with one")
    for style, color, label in (
        ("o-", _OURS, "Sectum, measured"),
        ("--", _BASELINE, "plain baseline, measured"),
        ("s:", _THEIRS, "HETEE, published"),
    ):
        panels[0].plot([], [], style, color=color, markersize=3, linewidth=1, label=label)
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"Several accelerators in one enclave, one line for each batch size: paced; {known['machine']}, "
        f"cores: {known['cores']}; SOFTWARE evidence",
        fontsize=10,
    )
    return png(figure)
