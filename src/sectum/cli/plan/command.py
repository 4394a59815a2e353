"""``sectum plan``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sectum.cli.options import (
    check_measurable,
    deadline_option,
    enclave_options,
    examples,
    json_option,
    model_argument,
    output_option,
    runs_option,
    shape_options,
    threads_option,
)
from sectum.cli.plan import chain_measuring, chain_pictures, chain_words, words
from sectum.cli.plan import pictures as plan_pictures
from sectum.cli.plan.chain import ChainResult, best_of, make_chain
from sectum.cli.plan.link_options import link_options, pace
from sectum.cli.plan.planning import AnyPlan, PlanResult, check_plan_path, fastest_batch, make_plan, measure_plan
from sectum.cli.render.figures import milliseconds, times
from sectum.cli.render.output import print_json, write_file
from sectum.cli.render.progress import progress_bar
from sectum.cli.render.show import paragraph, remarks, say
from sectum.errors import UsageError

_CHANGES_OUTPUTS = (
    "Note: streamed weights are stored as int8, so outputs are not those of the network without a plan. "
    "'sectum run' and 'sectum measure' tell the largest difference; whether it matters, your own data have to show."
)


@click.command(
    epilog=examples(
        "sectum plan zoo:vgg16 --epc 93MiB",
        "sectum plan resnet50.onnx --epc 32MiB -o plan.json",
        "sectum plan zoo:alexnet --epc 93MiB --threads 2 --measure --json",
        "sectum plan zoo:resnet152 --epc 93MiB --enclaves 4 --goal throughput",
    )
)
@model_argument
@enclave_options
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
    "--weights",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="How streamed weights are stored: as they are, or as int8, which is opened faster and changes outputs.",
)
@click.option(
    "--pictures", type=click.Path(path_type=Path), metavar="FOLDER", help="Draw memory and time as PNG files."
)
@click.option("--stages", "show_stages", is_flag=True, help="List every stage with its cost.")
@click.option(
    "--measure", "measured", is_flag=True, help="Measure the plan in the software enclave, and no plan beside it."
)
@runs_option
@deadline_option("120", "Stop each measurement after so many seconds.")
@output_option("Write the plan to this .json file, for 'sectum run' and 'sectum measure'.")
@json_option
def plan(
    *,
    model: str,
    goal: str,
    enclaves: int | None,
    bits_per_s: float | None,
    delay_ms: float | None,
    weights: str,
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
    tenth of paging. Outputs stay the same, bit for bit, unless --weights int8 is given.

    With --enclaves, stages are shared among enclaves, and sealed links carry what crosses between them.
    """
    if measured:
        check_measurable("plans", options["enclave"])
    if output is not None:
        check_plan_path(output)
    if enclaves is None and (bits_per_s is not None or delay_ms is not None):
        raise UsageError("--bandwidth and --delay are those of links between enclaves: give --enclaves, too")
    options["int8"] = weights == "int8"
    result: PlanResult | ChainResult
    if enclaves is not None:
        chain = make_chain(model, enclaves=enclaves, goal=goal, link=pace(bits_per_s, delay_ms), **options)
        result = best_of(chain, int8=options["int8"])
    else:
        result = make_plan(model, **options) if goal == "latency" else fastest_batch(model, **options)
    if output is not None:
        write_file(output, json.dumps(result.to_json(), indent=1, allow_nan=False).encode())
    if pictures is not None:
        if isinstance(result, ChainResult):
            chain_pictures.draw(result, pictures)
        else:
            plan_pictures.draw(result, pictures)
    figures = _measured(result, runs, deadline_s) if measured else None
    if as_json:
        data = result.to_json()
        if figures is not None:
            data["measured"] = figures
        print_json(data)
        return
    if isinstance(result, ChainResult):
        chain_words.show(result, stages=show_stages)
    else:
        words.show(result, stages=show_stages)
    _show(result, figures, output)


def _measured(result: AnyPlan, runs: int | None, deadline_s: float) -> dict[str, Any]:
    """Measure the plan, and no plan beside it."""
    with progress_bar() as progress:
        conditions = {"runs": runs, "progress": progress}
        limited = conditions | {"deadline_s": deadline_s}
        if isinstance(result, ChainResult):
            planned = chain_measuring.measured(result, conditions, deadline_s)
        else:
            planned = measure_plan(result, limited).as_dict()
        return {"planned": planned, "unplanned": measure_plan(result, limited, planned=False).as_dict()}


def _show(result: PlanResult | ChainResult, measured: dict[str, Any] | None, output: Path | None) -> None:
    if measured is not None:
        with_plan, without = (measured[name]["latency_ms"] for name in ("planned", "unplanned"))
        remarks(
            [
                f"Measured: {milliseconds(with_plan)} with the plan, {milliseconds(without)} without it: "
                f"{times(without / with_plan)} faster."
            ]
        )
    if output is not None:
        say("")
        paragraph(f"The plan is in {output}: 'sectum run {output}' and 'sectum measure {output}' follow it.")
    if result.planned.changes_outputs:
        remarks([_CHANGES_OUTPUTS])
    if not result.calibrated:
        from sectum.predict.calibration import uncalibrated_note

        remarks([f"Note: {uncalibrated_note(result.machine)}."])
