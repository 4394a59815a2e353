"""``sectum report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sectum.cli.options import examples, json_option, model_argument, positive, prediction_options


@click.command(
    epilog=examples(
        "sectum report resnet50.onnx -o report.html",
        "sectum report zoo:vgg16 --epc 93MiB --measure -o vgg16.html",
    )
)
@model_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The page to write, such as report.html.",
)
@prediction_options
@click.option("--measure", is_flag=True, help="Measure too, and put the measured points beside the predicted ones.")
@click.option(
    "--deadline",
    "deadline_s",
    callback=positive("seconds", 86_400),
    default="60",
    show_default=True,
    metavar="S",
    help="With --measure: seconds for each point.",
)
@json_option
def report(*, output: Path, measure: bool, deadline_s: float, as_json: bool, **options: Any) -> None:
    """Write a page about MODEL in an enclave: one HTML file that needs no network.

    The verdict in a sentence, memory over the layers against the EPC, the cost of each layer, latency
    against the size of the EPC, and what to change.
    """
    from sectum.cli.output import check_writable, print_json, write_file
    from sectum.cli.predicting import Request
    from sectum.cli.progress import progress_bar
    from sectum.cli.report import investigate
    from sectum.cli.report_page import page
    from sectum.cli.show import say
    from sectum.cli.verdict import verdict

    check_writable(output)
    with progress_bar() as progress:
        findings = investigate(Request(**options), measure=measure, deadline_s=deadline_s, progress=progress)
    write_file(output, page(findings).encode())
    if as_json:
        print_json({"path": str(output), **findings.to_json()})
        return
    say(f"{verdict(findings.prediction)}\nWritten to {output}")
