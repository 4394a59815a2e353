"""``sectum hetee train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.opened import close_pool, open_session, pool_json, show_pool, tell_unproven
from sectum.cli.hetee.options import (
    SOFTWARE,
    enclave_options,
    racks_options,
    service_options,
)
from sectum.cli.options import examples, json_option, positive, whole
from sectum.errors import SectumError, UsageError

if TYPE_CHECKING:
    from sectum.cli.hetee.training_run import Run

_SHOWN = 10


def _share(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not 0 <= value < 1:
        raise click.BadParameter(f"{value} is out of range: write a number from 0 to below 1.")
    return value


@click.command(
    epilog=examples(
        "sectum hetee train cnn --data digits --plot loss.png",
        "sectum hetee train zoo:squeezenet1_1 --data photos --resolution 32 --optimiser adam --rate 0.001",
        "sectum hetee train cnn --data digits --resume digits.safetensors --epochs 5 --compare",
        "sectum hetee train mine.onnx --weights mine.safetensors --data pictures.npz --checkpoint trained.safetensors",
        "sectum hetee train cnn --data digits --pool 127.0.0.1:18600 --racks 2",
        "sectum hetee train cnn --data digits --racks 2 --rack hetee://10.0.0.7:7625 --rack hetee://10.0.0.8:7625",
    )
)
@click.argument("network", metavar="NETWORK")
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="'digits' or 'photos', which scikit-learn ships, or an .npz file with images [n, c, h, w] and labels [n].",
)
@click.option(
    "--epochs", callback=whole(10_000), default="10", show_default=True, metavar="N", help="Passes over the data."
)
@click.option(
    "--batch", callback=whole(4096), default="64", show_default=True, metavar="N", help="Batch size in pictures."
)
@click.option(
    "--optimiser",
    type=click.Choice(["sgd", "adam"]),
    default="sgd",
    show_default=True,
    help="How parameters are changed.",
)
@click.option(
    "--rate", callback=positive("a rate", 1000), metavar="R", help="Learning rate.  [default: sgd 0.05, adam 0.001]"
)
@click.option(
    "--momentum", type=float, callback=_share, default=0.9, show_default=True, metavar="M", help="Momentum; sgd only."
)
@click.option(
    "--weight-decay", type=float, callback=_share, default=0.0, show_default=True, metavar="D", help="Weight decay."
)
@click.option("--resolution", callback=whole(8192), metavar="N", help="Height and width that pictures are brought to.")
@click.option(
    "--seed", callback=whole(2**31), default="1", show_default=True, metavar="N", help="Seed of weights and order."
)
@click.option(
    "--weights", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Initial weights: safetensors."
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Go on from this checkpoint; --epochs counts from the beginning.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a checkpoint here after each pass: safetensors.",
)
@click.option(
    "--receipts",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the receipt of each step, with its evidence, to this folder; 'sectum hetee verify' checks it.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Draw the loss of each batch, and the accuracy after each pass.",
)
@click.option("--compare", is_flag=True, help="Train outside of the enclave as well, and compare. It needs PyTorch.")
@click.option(
    "--racks",
    "together",
    callback=whole(16),
    default="1",
    show_default=True,
    metavar="N",
    help="Number of racks that train together, of those that --pool or --rack names.",
)
@enclave_options
@racks_options
@service_options
@json_option
def train(*, network: str, plot: Path | None, compare: bool, as_json: bool, **options: Any) -> None:
    """Train NETWORK in an enclave, and check the signed receipt of each step.

    NETWORK is 'mlp' or 'cnn' (small ones), zoo:NAME, or an ONNX file. The rack needs 'sectum hetee up --training'. A
    fifth of the pictures is held out, and scored after each pass. Ctrl-C ends it, and shows the passes that were done;
    --checkpoint keeps what the last of them reached, and --resume goes on from there.
    """
    from sectum.cli.hetee.prepared_training import prepare
    from sectum.cli.hetee.training_run import Run, outside, run_inside
    from sectum.cli.render.output import check_writable, print_json, write_file
    from sectum.cli.render.progress import progress_bar

    for path in (plot, options["checkpoint"]):
        if path is not None:
            check_writable(path)
    if compare:
        from sectum.cli.hetee.options import need_pytorch

        need_pytorch()
    work = prepare(network, options)
    if options["together"] > 1:
        _check_racks(options, work.smallest)
    from sectum.cli.hetee.resizable import resizable

    inside = Run.of(work)
    try:
        with progress_bar() as progress:
            with open_session(options) as session, resizable("train", session.resize):
                run_inside(session, work, inside, options, progress)
                unproven = close_pool(session)
            other = outside(work, progress) if compare else None
    except (KeyboardInterrupt, SectumError):
        if not as_json and inside.losses:
            _show_reached(inside, options["checkpoint"])
        raise
    if plot is not None:
        write_file(plot, _drawn(inside))
    if as_json:
        print_json(_json(inside, other) | pool_json(session))
    else:
        _show(inside, other)
        if options["pool"] is None and not options["racks"]:
            click.secho(SOFTWARE, bold=True)
        show_pool(session, "steps")
        if plot is not None:
            click.echo(f"drawn: {plot}")
    if other is not None and inside.racks == 1 and not inside.equals(other):
        raise UsageError(
            "the losses outside differ: other libraries or another processor compute them in another order"
        )
    tell_unproven(unproven, as_json=as_json)


def _check_racks(options: dict[str, Any], items: int) -> None:
    """Check that several racks can train together.

    Raises:
        UsageError: no pool is named, or a batch has fewer pictures than there are racks.
    """
    racks = options["together"]
    if options["pool"] is None and len(set(options["racks"])) < racks:
        raise UsageError(f"{racks} racks are to train together: name a pool with --pool, or each of them with --rack")
    if items < racks:
        raise UsageError(f"a batch has {items} pictures, fewer than {racks} racks: choose another --batch")


def _json(inside: Run, other: Run | None) -> dict[str, Any]:
    found = inside.json()
    if other is not None:
        found["outside"] = other.json() | {"equal": inside.equals(other)}
    return found


def _show_passes(inside: Run, other: Run | None) -> None:
    from sectum.cli.render.show import rows

    lines = [
        (str(number), f"{loss:.4f}", f"{accuracy:.2%}", *((f"{other.accuracies[at]:.2%}",) if other else ()))
        for at, (number, loss, accuracy) in enumerate(inside.passes())
    ]
    header = ("pass", "mean loss", "accuracy", *(("outside",) if other else ()))
    rows(lines[-_SHOWN:], right=range(len(header)), header=header)


def _show(inside: Run, other: Run | None) -> None:
    from sectum.cli.render.show import say

    _show_passes(inside, other)
    say(f"\n{len(inside.losses)} steps; each has a receipt that was checked; state {inside.state[:16]}")
    if inside.racks > 1:
        say(f"{inside.racks} racks trained together, with {inside.accelerators} accelerators")
    elif inside.accelerators > 1:
        say(f"{inside.accelerators} accelerators shared the steps")
    if other is not None and inside.equals(other):
        how = "bit for bit" if inside.accelerators == 1 else "to 1 % of their mean"
        say(f"outside of the enclave: the same {len(other.losses)} losses, {how}")


def _show_reached(inside: Run, checkpoint: Path | None) -> None:
    """What a training reached that ended early, and how to go on."""
    from sectum.cli.render.show import say

    if inside.ends:
        _show_passes(inside, None)
    say(f"\nended after step {inside.begun + len(inside.losses)} of {inside.total}")
    if inside.saved:
        say(f"{checkpoint} has done {inside.saved} steps: go on with --resume {checkpoint}")
    elif checkpoint is not None:
        say(f"no pass was finished, so {checkpoint} was not written")


def _drawn(inside: Run) -> bytes:
    from sectum.cli.render.pictures import png
    from sectum.extras import require

    figures = require("matplotlib.figure", "pictures are drawn by matplotlib", "train")
    figure = figures.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    steps = range(inside.begun + 1, inside.begun + 1 + len(inside.losses))
    axes.plot(steps, inside.losses, color="#3b6fb6", linewidth=1, label="loss of a batch")
    axes.set_xlabel("step")
    axes.set_ylabel("loss of a batch")
    axes.set_ylim(bottom=0)
    right = axes.twinx()
    ends = [inside.begun + at for at in inside.ends]
    right.plot(ends, [100 * a for a in inside.accuracies], "o-", color="#c8452f", markersize=3, label="accuracy")
    right.set_ylabel("accuracy on what is held out, %", color="#c8452f")
    right.set_ylim(0, 100)
    axes.set_title(f"Training of {inside.name} in an enclave: measured; software evidence", fontsize=10)
    axes.spines["top"].set_visible(False)
    right.spines["top"].set_visible(False)
    return png(figure)
