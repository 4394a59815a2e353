"""``sectum report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sectum.cli.options import (
    deadline_option,
    examples,
    json_option,
    model_argument,
    output_option,
    prediction_options,
)
from sectum.cli.render.command_line import unbroken
from sectum.cli.render.output import check_writable, print_json, write_file
from sectum.cli.render.progress import progress_bar
from sectum.cli.render.show import paragraph, say
from sectum.errors import UsageError


@click.command(
    epilog=examples("sectum report resnet50.onnx --epc 93MiB", "sectum report zoo:vgg16 --measure -o report.html")
)
@model_argument
@output_option("HTML file to write.  [default: the model's name with .html]")
@prediction_options
@click.option("--measure", is_flag=True, help="Measure as well, and show both.")
@deadline_option("60", "Seconds for each measurement, with --measure.")
@json_option
def report(*, output: Path | None, measure: bool, deadline_s: float, as_json: bool, **options: Any) -> None:
    """Write a report about MODEL in an enclave, as a single HTML file.

    It shows the verdict, the memory of the layers against the EPC, the cost of each layer, the latency against the
    EPC size, the best plan where the model pages, and what to change. The page loads nothing from the network.
    """
    from sectum.cli.predict.predicting import Request
    from sectum.cli.predict.source import Source
    from sectum.cli.predict.verdict import verdict
    from sectum.cli.report.findings import gather
    from sectum.cli.report.page import page

    path = output or Path(f"{Source(options['model']).name}.html")
    check_writable(path)
    model = Path(options["model"])
    if model.exists() and path.exists() and path.samefile(model):
        raise UsageError(f"the report would overwrite the model {model}: name another file")
    with progress_bar() as progress:
        findings = gather(Request(**options), measure=measure, deadline_s=deadline_s, progress=progress)
    write_file(path, page(findings).encode())
    if as_json:
        print_json({"path": str(path), **findings.to_json()})
        return
    paragraph(verdict(findings.prediction))
    say(f"Wrote {path}.")
    if findings.plan is not None:
        paragraph(unbroken(findings.plan.sentence, findings.plan.command))
