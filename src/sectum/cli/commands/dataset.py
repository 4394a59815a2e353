"""``sectum dataset``: collect measured networks, and show what was collected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.options import examples, json_option
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.measure.engines import Engine

FOLDER = Path("data/networks")


@click.group(epilog=examples("sectum dataset collect --networks 100 --folder mine"))
def dataset() -> None:
    """Measure thousands of networks in the enclave, and show what was measured."""


@dataset.command(epilog=examples("sectum dataset collect --networks 100 --folder mine --cpu 1"))
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=FOLDER, show_default=True)
@click.option(
    "--networks",
    type=click.IntRange(1, 1_000_000),
    default=6700,
    show_default=True,
    help="Stop when the folder holds so many; those that it holds already count.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides which networks.")
@click.option("--machine", default=None, metavar="NAME", help="This machine's name in the dataset.  [default: its CPU]")
@click.option("--cpu", type=click.IntRange(0), default=None, help="Pin the networks to this CPU.")
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="Measure N networks of the folder again, drawn at random: how much do two measurements differ?",
)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", default="local", show_default=True, help="Of the Ray cluster.")
@json_option
def collect(
    *, folder: Path, networks: int, seed: int, machine: str | None, cpu: int | None, repeat: int | None,
    engine: str, address: str, as_json: bool,
) -> None:  # fmt: skip
    """Measure networks until the folder holds as many as asked for.

    A network takes a few seconds. It may be stopped at any moment and started again with the same command: what
    was measured is kept. Nothing else should run on the machine meanwhile.
    """
    from sectum.cli.output import print_json
    from sectum.cli.progress import progress_bar
    from sectum.cli.show import say
    from sectum.measure.campaign import collect as collect_networks
    from sectum.measure.campaign import repeated, tasks
    from sectum.measure.context import machine_context
    from sectum.measure.dataset import DatasetWriter, read

    context = machine_context()
    failures = measured = 0
    with DatasetWriter(folder, machine or machine_name(str(context["cpu_model"])), context) as writer:
        if repeat is None:
            planned: Any = tasks(seed)
        else:
            planned = repeated(
                read(folder, ["key", "family", "source", "seed", "width", "resolution", "batch", "error"]), repeat, seed
            )
            networks = len(writer.keys | {task.key for task in planned})
        where = _engine(engine, address, writer.machine, cpu)
        before = len(writer.keys)
        with progress_bar() as progress:
            progress("starting", 0.0)
            for record in collect_networks(writer, planned, where, networks):
                measured += 1
                failures += bool(record["error"])
                progress(_line(record), (len(writer.keys) - before) / max(1, networks - before))
        held = len(writer.keys)
    if as_json:
        print_json({"folder": str(folder), "measured": measured, "failed": failures, "networks": held})
    else:
        say(f"{measured} networks measured, {failures} of them failed; {folder} holds {held}.")


def machine_name(cpu_model: str) -> str:
    """Make a name of the processor's: small letters, digits and dashes."""
    kept = "".join(c if c.isalnum() else "-" for c in cpu_model.lower() if c.isascii())
    return "-".join(part for part in kept.split("-") if part)[:32].strip("-") or "machine"


def _engine(name: str, address: str, machine: str, cpu: int | None) -> Engine:
    from sectum.measure.engines import LocalEngine, RayEngine

    if name == "ray":
        if cpu is not None:
            raise UsageError("--cpu is for the local engine: on a cluster each network has its node for itself")
        return RayEngine(machine, address)
    return LocalEngine(machine, None if cpu is None else (cpu,))


def _line(record: dict[str, Any]) -> str:
    if record["error"]:
        return f"{record['key']}: {record['error']}"
    native = record["runs"][0]
    return f"{record['key']}: {native['latency'] * native['reference_ms']:.1f} ms, {record['seconds']:.1f} s"
