"""``sectum dataset``: collect measured networks, and show what was collected."""

from __future__ import annotations

import os
import time
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.options import examples, json_option
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.lab.dataset.campaign import Task
    from sectum.lab.dataset.engines import Engine

FOLDER = Path("data/networks")


@click.group(epilog=examples("sectum dataset collect --networks 100 --folder mine", "sectum dataset show mine"))
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
@click.option(
    "--cpu",
    "cpus",
    type=click.IntRange(0),
    multiple=True,
    help="Pin the networks to this CPU. May be given more than once: one network at a time on each.",
)
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="Measure N networks that this machine measured again, drawn at random: how much do two measurements differ?",
)
@click.option(
    "--family", "families", multiple=True, metavar="NAME", help="Keep to this family. May be given more than once."
)
@click.option(
    "--heavy",
    "only_heavy",
    is_flag=True,
    help="Keep to networks with 48 MiB of weights or more, however long they take.",
)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", default="local", show_default=True, help="Of the Ray cluster; local starts one here.")
@json_option
def collect(
    *, folder: Path, networks: int, seed: int, machine: str | None, cpus: tuple[int, ...], repeat: int | None,
    families: tuple[str, ...], only_heavy: bool, engine: str, address: str, as_json: bool,
) -> None:  # fmt: skip
    """Measure networks until the folder holds as many as asked for.

    A network takes a few seconds. It may be stopped at any moment and started again with the same command: what
    was measured is kept. Nothing else should run on the machine meanwhile.
    """
    from sectum.cli.dataset.collecting import duration, kept, say_aside
    from sectum.cli.render.output import print_json
    from sectum.cli.render.progress import progress_bar
    from sectum.cli.render.show import say
    from sectum.lab.dataset.campaign import collect as collect_networks
    from sectum.lab.dataset.campaign import tasks
    from sectum.lab.dataset.dataset import DatasetWriter, machine_name
    from sectum.measure.context import machine_context
    from sectum.zoo import families as zoo_families

    if unknown := sorted(set(families) - set(zoo_families())):
        raise UsageError(f"'{unknown[0]}' is no family of networks: give one of {', '.join(zoo_families())}")
    name = machine or machine_name(str(machine_context()["cpu_model"]))
    where = _engine(engine, address, name, cpus)
    failures = measured = 0
    context = where.context()
    with kept(folder), DatasetWriter(folder, name, context) as writer:
        if writer.cut_off_bytes:
            say_aside("The last record was cut off when its process ended: its network is measured again.")
        planned: Any = tasks(seed, writer.keys, families=families, only_heavy=only_heavy)
        if repeat is not None:
            writer.flush()
            planned = _measured_by(context.get("nodes", {name}), folder, repeat, seed)
            networks = len(writer.keys | {task.key for task in planned})
        before, begin_s = len(writer.keys), time.monotonic()
        with progress_bar() as progress:
            progress("starting", 0.0)
            for record in collect_networks(writer, planned, where, networks):
                measured += 1
                failures += bool(record["error"])
                left_s = (time.monotonic() - begin_s) / measured * (networks - len(writer.keys))
                share = (len(writer.keys) - before) / max(1, networks - before)
                progress(f"{networks - len(writer.keys)} left, {duration(left_s)}; {_line(record)}", share)
        held = len(writer.keys)
    if as_json:
        print_json({"folder": str(folder), "measured": measured, "failed": failures, "networks": held})
    else:
        say(f"{measured} networks measured, {failures} of them failed; {folder} holds {held}.")


@dataset.command(epilog=examples("sectum dataset show", "sectum dataset show mine --pictures mine/pictures"))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=FOLDER)
@click.option(
    "--pictures",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Draw PNG files into this folder: native latencies, working sets against EPC, loads, slowdowns.",
)
@json_option
def show(*, folder: Path, pictures: Path | None, as_json: bool) -> None:
    """Show what FOLDER holds, data/networks if not given.

    A row is a network under one size of EPC. It is over-committed where a steady-state inference loads more than
    0.1 % of its working set's pages, and a boundary row where the working set is 0.8 to 1.25 times the EPC.
    """
    from sectum.cli.dataset.pictures import draw
    from sectum.cli.dataset.show import print_summary
    from sectum.cli.dataset.summary import summary, survey
    from sectum.cli.render.output import print_json
    from sectum.cli.render.show import say

    found = survey(folder)
    told = summary(folder, found)
    drawn = [] if pictures is None else draw(found, pictures)
    if as_json:
        print_json(told | {"pictures": [str(path) for path in drawn]})
        return
    print_summary(told)
    for path in drawn:
        say(f"drawn: {path}")


def _measured_by(machines: Container[str], folder: Path, networks: int, seed: int) -> list[Task]:
    """Networks to measure again. Those of other machines are left out: they would differ by more than noise."""
    from sectum.lab.dataset.campaign import repeated
    from sectum.lab.dataset.dataset import read

    fields = ["key", "family", "source", "seed", "width", "resolution", "batch", "error", "machine"]
    planned = repeated((row for row in read(folder, fields) if row["machine"] in machines), networks, seed)
    if not planned:
        raise UsageError(f"{folder} holds no network that this machine measured: give its --machine, or collect first")
    return planned


def _engine(name: str, address: str, machine: str, cpus: tuple[int, ...]) -> Engine:
    from sectum.lab.dataset.engines import LocalEngine, RayEngine

    if name == "ray":
        if cpus:
            raise UsageError("--cpu is for the local engine: on a cluster each network has its node for itself")
        return RayEngine(machine, address)
    if strange := sorted(set(cpus) - os.sched_getaffinity(0)):
        here = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise UsageError(f"--cpu {strange[0]} is none that may be used here: those are {here}")
    if len(set(cpus)) < len(cpus):
        raise UsageError(f"--cpu {max(cpus, key=cpus.count)} is given twice: two networks would take turns on it")
    return LocalEngine(machine, [(cpu,) for cpu in cpus] or (None,))


def _line(record: dict[str, Any]) -> str:
    if record["error"]:
        return f"{record['key']}: {record['error']}"
    from sectum.lab.dataset.dataset import run_ms

    native = record["runs"][0]
    return f"{record['key']}: {run_ms(native):.1f} ms"
