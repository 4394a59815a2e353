"""``sectum report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sectum.cli.options import examples, json_option, model_argument, positive, prediction_options


@click.command(
    epilog=examples(
        "sectum report resnet50.onnx --epc 93MiB",
        "sectum report zoo:vgg16 --measure -o report.html",
    )
)
@model_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page to write.  [default: the model's name with .html]",
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
def report(*, output: Path | None, measure: bool, deadline_s: float, as_json: bool, **options: Any) -> None:
    """Write a page about MODEL in an enclave: one HTML file that needs no network.

    The verdict in a sentence, memory over the layers against the EPC, the cost of each layer, latency
    against the size of the EPC, and what to change.
    """
    from sectum.cli.predict.predicting import Request
    from sectum.cli.predict.source import Source
    from sectum.cli.predict.verdict import verdict
    from sectum.cli.render.output import check_writable, print_json, write_file
    from sectum.cli.render.progress import progress_bar
    from sectum.cli.render.show import paragraph, say
    from sectum.cli.render.untrusted import printable
    from sectum.cli.report.findings import investigate
    from sectum.cli.report.page import page
    from sectum.errors import UsageError

    path = output or Path(f"{Source(options['model']).name}.html")
    check_writable(path)
    model = Path(options["model"])
    if model.exists() and path.exists() and path.samefile(model):
        raise UsageError(f"the page would be written over the model {model}: name another file")
    with progress_bar() as progress:
        findings = investigate(Request(**options), measure=measure, deadline_s=deadline_s, progress=progress)
    write_file(path, page(findings).encode())
    if as_json:
        print_json({"path": str(path), **findings.to_json()})
        return
    paragraph(verdict(findings.prediction))
    say(f"Written to {printable(str(path))}")
