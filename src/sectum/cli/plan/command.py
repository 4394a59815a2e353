"""``sectum plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.options import (
    deadline_option,
    epc_option,
    examples,
    json_option,
    model_argument,
    output_option,
    shape_options,
    threads_option,
    whole,
)
from sectum.cli.plan.link_options import DEFAULT_BITS_PER_S, DEFAULT_DELAY_MS, link_options
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.cli.plan.chain import ChainResult
    from sectum.cli.plan.planning import PlanResult


@click.command(
    epilog=examples(
        "sectum plan zoo:vgg16 --epc 93MiB",
        "sectum plan resnet50.onnx --epc 32MiB -o plan.json",
        "sectum plan zoo:alexnet --epc 93MiB --threads 2 --measure --json",
        "sectum plan zoo:resnet152 --epc 93MiB --enclaves 4 --goal throughput",
    )
)
@model_argument
@click.option(
    "--enclave",
    default="softepc",
    show_default=True,
    metavar="PROFILE",
    help="Enclave profile: a name that 'sectum profiles' lists, or a JSON file.",
)
@epc_option
@shape_options
@threads_option
@click.option(
    "--goal",
    type=click.Choice(["latency", "throughput"]),
    default="latency",
    show_default=True,
    help="What to make small: the time of one inference, or the time for each sample: by the best batch or, with "
    "several enclaves, by a pipeline.",
)
@link_options
@click.option(
    "--pictures", type=click.Path(path_type=Path), metavar="FOLDER", help="Draw memory and time as PNG files."
)
@click.option("--stages", "show_stages", is_flag=True, help="List every stage with its cost.")
@click.option(
    "--measure", "measured", is_flag=True, help="Measure the plan in the software enclave, and no plan beside it."
)
@click.option(
    "--runs", callback=whole(100_000), metavar="N", help="Inferences to time.  [default: until it is precise]"
)
@deadline_option("120", "Stop each measurement after so many seconds.")
@output_option("Write the plan to this file, for 'sectum run' and 'sectum measure'.")
@json_option
def plan(
    *,
    model: str,
    goal: str,
    enclaves: int | None,
    bits_per_s: float | None,
    delay_ms: float | None,
    pictures: Path | None,
    show_stages: bool,
    measured: bool,
    runs: int | None,
    deadline_s: float,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find how to run MODEL in an enclave that is too small for it.

    MODEL is an ONNX file, or zoo:NAME (see 'sectum zoo list'). The plan cuts the network into stages. The weights of
    some stay in the enclave. Those of the others lie sealed outside, and are opened just before use, which costs a
    tenth of paging. Outputs stay the same, bit for bit.

    With --enclaves, stages are shared among enclaves, and sealed links carry what crosses between them.
    """
    from sectum.cli.plan.planning import RUNNERS, fastest_batch, make_plan
    from sectum.cli.render.output import check_writable, print_json, write_file

    if measured and options["enclave"] not in RUNNERS:
        raise UsageError(
            f"plans are measured in the software enclave: leave --measure or --enclave {options['enclave']} out"
        )
    if output is not None:
        check_writable(output)
    if enclaves is None and (bits_per_s is not None or delay_ms is not None):
        raise UsageError("--bandwidth and --delay are those of links between enclaves: give --enclaves, too")
    result: PlanResult | ChainResult
    if enclaves is not None:
        from sectum.cli.plan.chain import make_chain
        from sectum.enclave.runners.relay import Pace

        link = Pace(
            DEFAULT_BITS_PER_S if bits_per_s is None else bits_per_s,
            DEFAULT_DELAY_MS if delay_ms is None else delay_ms,
        )
        result = make_chain(model, enclaves=enclaves, goal=goal, link=link, **options)
    else:
        result = make_plan(model, **options) if goal == "latency" else fastest_batch(model, **options)
    if output is not None:
        import json

        write_file(output, json.dumps(result.to_json(), indent=1, allow_nan=False).encode())
    if pictures is not None:
        _draw(result, pictures)
    figures = _measured(result, runs, deadline_s) if measured else None
    if as_json:
        data = result.to_json()
        if figures is not None:
            data["measured"] = figures
        print_json(data)
        return
    _show(result, figures, stages=show_stages, output=output)


def _measured(result: PlanResult | ChainResult, runs: int | None, deadline_s: float) -> dict[str, Any]:
    """Measure the plan, and no plan beside it."""
    from sectum.cli.plan.chain import ChainResult
    from sectum.cli.plan.chain_measuring import measured as measured_chain
    from sectum.cli.plan.planning import measure_plan
    from sectum.cli.render.progress import progress_bar

    with progress_bar() as progress:
        conditions = {"runs": runs, "progress": progress}
        if isinstance(result, ChainResult):
            planned = measured_chain(result, conditions, deadline_s)
        else:
            planned = measure_plan(result, conditions | {"deadline_s": deadline_s}).as_dict()
        unplanned = measure_plan(result, conditions | {"deadline_s": deadline_s}, planned=False).as_dict()
    return {"planned": planned, "unplanned": unplanned}


def _draw(result: PlanResult | ChainResult, folder: Path) -> None:
    from sectum.cli.plan import chain_pictures, pictures
    from sectum.cli.plan.chain import ChainResult

    if isinstance(result, ChainResult):
        chain_pictures.draw(result, folder)
    else:
        pictures.draw(result, folder)


def _show(
    result: PlanResult | ChainResult, measured: dict[str, Any] | None, *, stages: bool, output: Path | None
) -> None:
    from sectum.cli.plan.chain import ChainResult
    from sectum.cli.render.figures import milliseconds, times
    from sectum.cli.render.show import paragraph, rows, say

    if isinstance(result, ChainResult):
        from sectum.cli.plan.chain_words import show as show_chain

        show_chain(result, stages=stages)
    else:
        from sectum.cli.plan.words import facts, stage_rows, verdict

        paragraph(verdict(result))
        say("")
        rows(facts(result), right=(1,))
        if stages:
            say("")
            rows(stage_rows(result), right=range(6),
                 header=("#", "opening", "computing", "paging", "weights MiB", "operators", "what"))  # fmt: skip
    if measured is not None:
        with_plan, without = (measured[name]["latency_ms"] for name in ("planned", "unplanned"))
        say("")
        paragraph(
            f"Measured: {milliseconds(with_plan)} with the plan, {milliseconds(without)} without it: "
            f"{times(without / with_plan)} faster.",
            hanging="  ",
        )
    if output is not None:
        say("")
        paragraph(f"The plan is in {output}: 'sectum run {output}' and 'sectum measure {output}' follow it.")
    if not result.calibrated:
        say("")
        paragraph(
            f"Note: not calibrated; times are those of {result.machine}. Run 'sectum calibrate' to predict those "
            "of this machine.",
            hanging="  ",
        )
