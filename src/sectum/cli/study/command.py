"""``sectum study``: what over-commitment does to latency, measured on synthetic networks."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sectum.cli.command_group import FullSentenceGroup
from sectum.cli.options import LARGEST_THREADS, examples, folder_option, json_option, whole
from sectum.cli.render.output import print_json
from sectum.cli.render.show import say
from sectum.errors import UsageError

FOLDER = Path("data/study")


@click.group(cls=FullSentenceGroup, epilog=examples("sectum study run --folder mine --cpu 1", "sectum study show mine"))
def study() -> None:
    """Measure how latency depends on working set and EPC, and show the results."""


@study.command(epilog=examples("sectum study run --cpu 1", "sectum study run --folder mine --limit 5"))
@folder_option("--folder", "Folder of the measurements; made if it is missing.", FOLDER)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the networks' weights.")
@click.option(
    "--threads",
    callback=whole(LARGEST_THREADS),
    default="1",
    show_default=True,
    metavar="N",
    help="Compute threads, each on an idle CPU. With more than one, only cases that depend on threads are measured.",
)
@click.option(
    "--cpu", "cpus", type=click.IntRange(0), multiple=True, help="Pin the threads to this CPU; repeat it for others."
)
@click.option("--machine", default=None, metavar="NAME", help="This machine's name in the folder.  [default: its CPU]")
@click.option("--limit", type=click.IntRange(1), default=None, metavar="N", help="Measure at most N cases.")
@json_option
def run(
    *, folder: Path, seed: int, threads: int, cpus: tuple[int, ...], machine: str | None, limit: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure the cases that the folder does not hold yet.

    All of them take about ten minutes. You may stop at any moment and go on with the same command: what was measured
    is kept. Nothing else should run on the machine meanwhile.
    """
    from sectum.cli.dataset.collecting import collected, kept
    from sectum.lab.dataset.engines import LocalEngine
    from sectum.lab.dataset.shards import machine_name
    from sectum.lab.study.cases import plan
    from sectum.lab.study.measuring import collect, measure_case
    from sectum.lab.study.store import StudyWriter
    from sectum.measure.context import machine_context

    if threads > (usable := len(cpus) or len(os.sched_getaffinity(0))):
        raise UsageError(f"{threads} threads need as many CPUs of their own, and {usable} may be used: give more --cpu")
    name = machine or machine_name(str(machine_context()["cpu_model"]))
    engine = LocalEngine(name, [cpus or None], measure_case)
    planned = plan(seed, threads)
    with kept(folder), StudyWriter(folder, name, engine.context() | {"seed": seed, "cpus": cpus}) as writer:
        to_do = min(sum(case.key not in writer.keys for case in planned), limit or len(planned))
        measured, failures = collected(writer, collect(writer, planned, engine, to_do), to_do)
        left = sum(case.key not in writer.keys for case in planned)
    if as_json:
        print_json({"folder": str(folder), "measured": measured, "failed": failures, "left": left})
    else:
        say(f"{measured} cases measured, {failures} of them failed; {left} of the study's are left.")


@study.command(epilog=examples("sectum study show", "sectum study show mine --only cliff"))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=FOLDER)
@click.option(
    "--only",
    metavar="NAME",
    multiple=True,
    help="Show only this observation; repeat it for others. The output has the names in brackets.",
)
@click.option("--markdown", is_flag=True, help="Print the page docs/study.md.")
@folder_option("--pictures", "Draw PNG files into this folder.")
@json_option
def show(*, folder: Path, only: tuple[str, ...], markdown: bool, pictures: Path | None, as_json: bool) -> None:
    """Show what was found, from the measurements in FOLDER, data/study if not given."""
    from sectum.cli.study.page import page, print_study
    from sectum.cli.study.words import in_words
    from sectum.lab.study.observations import OBSERVATIONS, about
    from sectum.lab.study.points import load

    if unknown := set(only) - set(OBSERVATIONS):
        raise UsageError(f"there is no observation '{min(unknown)}': name some of {', '.join(OBSERVATIONS)}")
    if markdown and as_json:
        raise UsageError("--markdown and --json are two ways to print: give one of them")
    measured = load(folder)
    observed = {name: observe(measured) for name, observe in OBSERVATIONS.items() if not only or name in only}
    drawn: list[Path] = []
    if pictures is not None:
        from sectum.cli.study.pictures import draw

        drawn = draw(measured, observed, pictures)
    facts = about(measured)
    words = [in_words(name, numbers) for name, numbers in observed.items()]
    if as_json:
        print_json({"folder": str(folder), **facts, "observations": observed, "pictures": [str(p) for p in drawn]})
    elif markdown:
        click.echo(page(facts, words), nl=False)
    else:
        print_study(facts, words)
        for path in drawn:
            say(f"drawn: {path}")
