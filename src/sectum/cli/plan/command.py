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
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.cli.plan.planning import PlanResult
    from sectum.measure.measurement import Measurement


@click.command(
    epilog=examples(
        "sectum plan zoo:vgg16 --epc 93MiB",
        "sectum plan resnet50.onnx --epc 32MiB -o plan.json",
        "sectum plan zoo:alexnet --epc 93MiB --threads 2 --measure --json",
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
    help="What to make small: the time of one inference, or the time for each sample, by the best batch.",
)
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
    """
    from sectum.cli.plan.planning import RUNNERS, fastest_batch, make_plan, measure_plan
    from sectum.cli.render.output import check_writable, print_json, write_file
    from sectum.cli.render.progress import progress_bar

    if measured and options["enclave"] not in RUNNERS:
        raise UsageError(
            f"plans are measured in the software enclave: leave --measure or --enclave {options['enclave']} out"
        )
    if output is not None:
        check_writable(output)
    result = make_plan(model, **options) if goal == "latency" else fastest_batch(model, **options)
    if output is not None:
        import json

        write_file(output, json.dumps(result.to_json(), indent=1, allow_nan=False).encode())
    if pictures is not None:
        from sectum.cli.plan.pictures import draw

        draw(result, pictures)
    with_plan = without = None
    if measured:
        with progress_bar() as progress:
            conditions = {"runs": runs, "deadline_s": deadline_s, "progress": progress}
            with_plan = measure_plan(result, conditions)
            without = measure_plan(result, conditions, planned=False)
    if as_json:
        data = result.to_json()
        if with_plan is not None and without is not None:
            data["measured"] = {"planned": with_plan.as_dict(), "unplanned": without.as_dict()}
        print_json(data)
        return
    _show(result, with_plan, without, stages=show_stages, output=output)


def _show(
    result: PlanResult,
    measured: Measurement | None,
    unplanned: Measurement | None,
    *,
    stages: bool,
    output: Path | None,
) -> None:
    from sectum.cli.plan.words import facts, stage_rows, verdict
    from sectum.cli.render.figures import milliseconds, times
    from sectum.cli.render.show import paragraph, rows, say

    paragraph(verdict(result))
    say("")
    rows(facts(result), right=(1,))
    if stages:
        say("")
        rows(stage_rows(result), right=range(6),
             header=("#", "opening", "computing", "paging", "weights MiB", "operators", "what"))  # fmt: skip
    if measured is not None and unplanned is not None:
        say("")
        paragraph(
            f"Measured: {milliseconds(measured.latency_ms)} with the plan, {milliseconds(unplanned.latency_ms)} "
            f"without it: {times(unplanned.latency_ms / measured.latency_ms)} faster.",
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
