"""``sectum dataset``: collect measured networks, and show what was collected."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.command_group import FullSentenceGroup
from sectum.cli.options import examples, folder_option, json_option
from sectum.cli.render.output import print_json
from sectum.cli.render.show import say
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.lab.dataset.engines import Engine

FOLDER = Path("data/networks")


@click.group(
    cls=FullSentenceGroup,
    epilog=examples("sectum dataset collect --networks 100 --folder mine", "sectum dataset show mine"),
)
def dataset() -> None:
    """Measure thousands of networks in the enclave, and show what was measured."""


@dataset.command(epilog=examples("sectum dataset collect --networks 100 --folder mine --cpu 1"))
@folder_option("--folder", "Folder of the dataset; made if it is missing.", FOLDER)
@click.option(
    "--networks",
    type=click.IntRange(1, 1_000_000),
    default=6700,
    show_default=True,
    help="Stop when the folder holds this many networks, those that it holds already included.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed that decides which networks are drawn."
)
@click.option("--machine", default=None, metavar="NAME", help="This machine's name in the dataset.  [default: its CPU]")
@click.option(
    "--cpu",
    "cpus",
    type=click.IntRange(0),
    multiple=True,
    help="Pin the networks to this CPU. Give it several times to measure one network at a time on each.",
)
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="Measure N networks of this machine again, drawn at random, to see how much two measurements differ.",
)
@click.option(
    "--family", "families", multiple=True, metavar="NAME", help="Measure only this family; repeat it for others."
)
@click.option(
    "--heavy",
    "only_heavy",
    is_flag=True,
    help="Measure only networks with 48 MiB of weights or more, however long they take.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the runtime.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Measure on this machine, or on the nodes of a Ray cluster.",
)
@click.option(
    "--address",
    default="local",
    show_default=True,
    metavar="ADDRESS",
    help="Address of the Ray cluster; local starts one here.",
)
@json_option
def collect(
    *, folder: Path, networks: int, seed: int, machine: str | None, cpus: tuple[int, ...], repeat: int | None,
    families: tuple[str, ...], only_heavy: bool, threads: int, engine: str, address: str, as_json: bool,
) -> None:  # fmt: skip
    """Measure networks until the folder holds as many as asked for.

    A network takes a few seconds. You may stop at any moment and go on with the same command: what was measured is
    kept. Nothing else should run on the machine meanwhile.
    """
    from sectum.cli.dataset.collecting import collected, kept
    from sectum.lab.dataset import campaign
    from sectum.lab.dataset.dataset import DatasetWriter
    from sectum.lab.dataset.shards import machine_name
    from sectum.measure.context import machine_context
    from sectum.zoo import families as zoo_families
    from sectum.zoo import program_families

    every = [*zoo_families(), *program_families()]
    if unknown := sorted(set(families) - set(every)):
        raise UsageError(f"'{unknown[0]}' is no family of networks: give one of {', '.join(every)}")
    if threads > 1 and cpus:
        raise UsageError("--cpu gives each network one CPU: leave it out with --threads")
    name = machine or machine_name(str(machine_context()["cpu_model"]))
    where = _engine(engine, address, name, cpus)
    context = where.context()
    with kept(folder), DatasetWriter(folder, name, context) as writer:
        planned: Any = campaign.tasks(seed, writer.keys, families=families, only_heavy=only_heavy, threads=threads)
        if repeat is not None:
            writer.flush()
            planned = campaign.to_repeat(folder, context.get("nodes", {name}), repeat, seed)
            networks = len(writer.keys | {task.key for task in planned})
        records = campaign.collect(writer, planned, where, networks)
        measured, failures = collected(writer, records, networks - len(writer.keys))
        held = len(writer.keys)
    if as_json:
        print_json({"folder": str(folder), "measured": measured, "failed": failures, "networks": held})
    else:
        say(f"{measured} networks measured, {failures} of them failed; {folder} holds {held}.")


@dataset.command(epilog=examples("sectum dataset show", "sectum dataset show mine"))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=FOLDER)
@json_option
def show(*, folder: Path, as_json: bool) -> None:
    """Show what FOLDER holds, data/networks if not given.

    A row is a network at one EPC size. It is over-committed where a steady-state inference loads more than
    0.1 % of its working set's pages, and a boundary row where the working set is 0.8 to 1.25 times the EPC.
    """
    from sectum.cli.dataset.show import print_summary
    from sectum.lab.dataset.summary import summary, survey

    found = summary(folder, survey(folder))
    if as_json:
        print_json(found)
    else:
        print_summary(found)


def _engine(name: str, address: str, machine: str, cpus: tuple[int, ...]) -> Engine:
    from sectum.lab.dataset.engines import LocalEngine, RayEngine

    if name == "ray":
        if cpus:
            raise UsageError("--cpu is for the local engine: on a cluster each network has its node for itself")
        return RayEngine(machine, address)
    if strange := sorted(set(cpus) - os.sched_getaffinity(0)):
        here = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise UsageError(f"--cpu {strange[0]} may not be used here: give some of {here}")
    if len(set(cpus)) < len(cpus):
        raise UsageError(f"--cpu {max(cpus, key=cpus.count)} is given twice: give each CPU once")
    return LocalEngine(machine, [(cpu,) for cpu in cpus] or (None,))
