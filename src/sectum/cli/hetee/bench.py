"""``sectum hetee bench``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.command_group import FullSentenceGroup
from sectum.cli.hetee.bench_cells import NETWORKS, batch_option, measure_cells, network_option
from sectum.cli.hetee.bench_lifecycle import lifecycle
from sectum.cli.hetee.bench_scaling import scaling
from sectum.cli.hetee.options import SOFTWARE, F, need_extra, need_pytorch
from sectum.cli.options import examples, json_option, whole
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.bench.cell import Cell
    from sectum.hetee.bench.overheads import BootstrapEstimate
    from sectum.hetee.bench.workload import Mode
    from sectum.hetee.worker.accelerators.published import Task

_BATCHES = ("4", "8", "16", "32", "64")
_FEWEST = 4


@click.group(cls=FullSentenceGroup, epilog=examples("sectum hetee bench inference --picture figures.png"))
def bench() -> None:
    """Measure what confidentiality costs, beside HETEE's published numbers."""


def _cell_options(command: F) -> F:
    """Add the options that say what to measure."""
    options = (
        network_option,
        batch_option(_BATCHES),
        click.option(
            "--batches",
            callback=whole(10_000),
            default="24",
            show_default=True,
            metavar="N",
            help="Batches to measure in each cell, for the baseline and for the service.",
        ),
        click.option("--real-decode", is_flag=True, help="Send JPEG files and really decode them."),
        click.option("--real-compute", is_flag=True, help="Really prepare the inputs and compute the networks."),
        click.option(
            "--accelerator",
            type=click.Choice(["cpu", "cuda"]),
            help="Accelerator for --real-compute.  [default: cuda if ONNX Runtime supports it, else cpu]",
        ),
        click.option(
            "--threads",
            callback=whole(256),
            default="1",
            show_default=True,
            metavar="N",
            help="Threads of one cpu accelerator.",
        ),
        click.option(
            "--seed",
            callback=whole(2**31),
            default="1",
            show_default=True,
            metavar="N",
            help="Seed of the images and of the order.",
        ),
        click.option(
            "--picture",
            type=click.Path(path_type=Path),
            metavar="FILE.png",
            help="Also draw the figures into this file.",
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@bench.command(
    epilog=examples(
        "sectum hetee bench inference --picture figures.png",
        "sectum hetee bench inference --network GoogLeNet --batch 4 --batch 64 --batches 12",
        "sectum hetee bench inference --real-compute --network ResNet50 --json",
    )
)
@_cell_options
def inference(**options: Any) -> None:
    """Measure HETEE's figures 7a and 8a.

    They have five networks, in batches of 4 to 64 images, on one accelerator.

    The confidential service takes turns with a plain baseline, which is the same worker without sealing, attestation
    and host. By default both wait for the published times of HETEE's GPU instead of preprocessing and computing. Then
    they do equal work, and the difference is the cost of the service. Every cell says whether it is paced or real.
    Run nothing else meanwhile. All 25 cells take about 10 minutes. Ctrl-C stops and prints what was measured so far.
    """
    _measure("inference", **options)


@bench.command(
    epilog=examples(
        "sectum hetee bench training --picture figures.png",
        "sectum hetee bench training --network GoogLeNet --batch 4 --batches 12",
        "sectum hetee bench training --real-compute --network ResNet50 --batch 4 --batches 4 --json",
    )
)
@_cell_options
def training(**options: Any) -> None:
    """Measure HETEE's figures 7b and 8b.

    They are those of 'bench inference' for steps of training: a batch of images with labels goes to the enclave, and
    its loss comes back. With --real-compute the networks are really trained, which needs PyTorch. All 25 cells take
    about 25 minutes.
    """
    if options["real_compute"]:
        need_pytorch()
    _measure("training", **options)


for _command in (scaling, lifecycle):
    bench.add_command(_command)


def _measure(task: Task, *, picture: Path | None, as_json: bool, **options: Any) -> None:
    need_extra()
    from sectum.cli.hetee.bench_picture import check_drawable, draw
    from sectum.hetee.bench.context import context
    from sectum.hetee.bench.inference import BenchPlan, run

    if picture is not None:
        check_drawable(picture)
    if options["batches"] < _FEWEST:
        raise UsageError(f"{options['batches']} batches are too few for a median: give --batches {_FEWEST} or more")
    mode = _mode(options["real_decode"], options["real_compute"], options["accelerator"])
    networks = tuple(name for name in NETWORKS if name in options["networks"]) or NETWORKS
    sizes = tuple(int(size) for size in _BATCHES if size in options["sizes"]) or tuple(map(int, _BATCHES))
    plan = BenchPlan(networks, sizes, mode, options["batches"], options["threads"], options["seed"], task)
    measure_cells(partial(run, plan), context(plan), _show, draw, picture=picture, as_json=as_json)


def _mode(real_decode: bool, real_compute: bool, accelerator: str | None) -> Mode:
    from sectum.hetee.bench.workload import Mode

    if not real_compute:
        if accelerator is not None:
            raise UsageError("--accelerator needs --real-compute")
        return Mode(real_decode=real_decode)
    import onnxruntime

    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if accelerator == "cuda" and not has_cuda:
        raise UsageError("this ONNX Runtime was not built for CUDA: install onnxruntime-gpu, or use --accelerator cpu")
    kind = "cuda" if has_cuda and accelerator != "cpu" else "cpu"
    return Mode(real_decode=real_decode, real_compute=True, kind=kind)  # type: ignore[arg-type]  # one of two


def _show(cells: list[Cell], about: dict[str, Any]) -> None:
    from sectum.cli.render.show import paragraph, rows

    if not cells:
        click.echo("nothing was measured")
        return
    lines: list[tuple[str, ...]] = []
    for cell in cells:
        theirs = cell.published
        lines.append(
            (
                cell.network,
                str(cell.batch),
                _with_noise(cell.throughput_overhead_pct),
                f"{theirs.throughput_overhead_pct:.2f}",
                _with_noise(cell.latency_overhead_pct),
                f"{theirs.latency_overhead_pct:.2f}",
                _with_noise(cell.over_baseline_pct),
                f"{cell.added_ms_per_image.value:.3f}",
                f"{theirs.encryption_and_transfer_ms / cell.batch:.2f}",
                cell.preprocess,
                cell.compute,
            )
        )
    header = (
        "network",
        "batch",
        "throughput %",
        "HETEE",
        "latency %",
        "HETEE",
        "vs baseline %",
        "added ms/image",
        "HETEE",
    )
    rows(lines, right=range(1, 9), header=(*header, "preprocess", "compute"))
    click.echo()
    lines = []
    for cell in cells:
        ours, theirs = cell.breakdown, cell.published
        steps = (ours.preprocess_ms, ours.compute_ms, ours.encryption_ms, ours.transfer_ms, ours.total_ms)
        published_steps = (theirs.preprocess_ms, theirs.compute_ms, theirs.encryption_and_transfer_ms)
        lines.append(
            (
                cell.network,
                str(cell.batch),
                *(f"{ms:.2f}" for ms in steps),
                *(f"{ms:.0f}" for ms in published_steps),
                f"{sum(published_steps):.0f}",
            )
        )
    ours_header = ("preprocess", "compute", "encryption", "transfer", "total ms")
    theirs_header = ("HETEE: preprocess", "compute", "encryption and transfer", "total ms")
    rows(lines, right=range(1, 11), header=("network", "batch", *ours_header, *theirs_header))
    click.echo()
    paragraph(
        f"Measured on {about['machine']}, {_cores(about)}; medians of {about['batches']} batches, ± is half of "
        "a 95 % interval. Throughput: baseline / service - 1, with several batches in flight. Latency: (encryption "
        "+ transfer) / (preprocess + compute), with one batch in flight. vs baseline: latency of the service / that "
        "of the baseline - 1. HETEE: published numbers, read off the figures where the paper prints none."
    )
    if any("paced" in (cell.preprocess, cell.compute) for cell in cells):
        paragraph("paced: nothing was computed; the program waited for the published time of HETEE's GPU.")
    paragraph(f"{SOFTWARE}.")


def _cores(about: dict[str, Any]) -> str:
    return "1 core" if about["cores"] == 1 else f"{about['cores']} cores"


def _with_noise(found: BootstrapEstimate) -> str:
    return f"{found.value:.2f} ±{found.half_width:.2f}"
