"""``sectum search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.options import (
    LARGEST_BATCH,
    check_measurable,
    enclave_options,
    examples,
    json_option,
    read_latency,
    threads_option,
    whole,
)
from sectum.cli.render.output import print_json
from sectum.cli.render.progress import progress_bar
from sectum.cli.render.show import paragraph, remarks, rows, say

if TYPE_CHECKING:
    from sectum.cli.search.searching import Searched


@click.command(
    epilog=examples(
        "sectum search --latency 200ms --epc 93MiB --space resnet --trials 500 -o found",
        "sectum search --latency 50ms --epc 8MiB --space mobilenet_v3 --plans --compare -o found",
        "sectum search --latency 20ms --epc 16MiB --space my_space.toml --storage sqlite:///study.db --workers 2",
        "sectum search --latency 5ms --space tiny --objective digits --trials 30 --json",
    )
)
@click.option(
    "--latency",
    "bound_ms",
    required=True,
    callback=read_latency,
    metavar="TIME",
    help="Bound on the upper end of the 90 % interval of the latency, such as 200ms.",
)
@enclave_options
@click.option(
    "--space",
    default="mobilenet_v3",
    show_default=True,
    metavar="NAME|FILE|module:function",
    help="What to choose from: mobilenet_v2, mobilenet_v3, resnet, tiny, vgg, a TOML file, or a function from an "
    "Optuna trial to a network.",
)
@click.option(
    "--objective",
    default="synflow",
    show_default=True,
    metavar="NAME|images:FOLDER|module:function",
    help="Score to maximize: synflow or naswot (no training), digits (trains on scikit-learn's digits), images:FOLDER "
    "(trains on images, one folder for each class), or a function from a network to a number.",
)
@click.option(
    "--trials", callback=whole(1_000_000), default="200", show_default=True, metavar="N", help="Trials of the study."
)
@click.option(
    "--batch",
    callback=whole(LARGEST_BATCH),
    default="1",
    show_default=True,
    metavar="N",
    help="Images in one inference.",
)
@threads_option
@click.option(
    "--plans",
    is_flag=True,
    help="A network that pages runs by its best plan, if that is faster; plans are written beside the ONNX files.",
)
@click.option(
    "--sampler",
    type=click.Choice(["nsga2", "tpe", "random"]),
    default="nsga2",
    show_default=True,
    help="How Optuna chooses.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the choices.")
@click.option(
    "--storage",
    metavar="URL",
    help="Database of the study, such as sqlite:///study.db; a study that is there goes on.  [default: memory]",
)
@click.option("--study", default="sectum", show_default=True, metavar="NAME", help="Name of the study in the database.")
@click.option(
    "--workers",
    callback=whole(256),
    default="1",
    show_default=True,
    metavar="N",
    help="Processes that look at networks.",
)
@click.option(
    "--compare",
    "compared",
    is_flag=True,
    help="Search once more by a predictor that does not know the EPC, and without plans.",
)
@click.option(
    "--measure",
    "measured",
    callback=whole(1000),
    metavar="N",
    help="Measure N networks of the front in the software enclave, by their plans if they have some; with --compare "
    "also those chosen in their place.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Write the front as ONNX files with their plans, as a picture (front.png) and as front.json.",
)  # fmt: skip
@json_option
def search(*, output: Path | None, measured: int | None, compared: bool, as_json: bool, **options: Any) -> None:
    """Search architectures that stay under a latency in an enclave.

    Optuna chooses networks from a space. Their latency in the enclave is predicted, and those under the bound get a
    score. The front is printed: the networks of which no other is both faster and of a higher score. A search with
    --storage goes on after it was killed; several at once share their trials.
    """
    from sectum.cli.search.searching import Request, run
    from sectum.cli.search.writing import prepare_folder, write

    request = Request(**options)
    if measured:
        check_measurable("networks", request.enclave)
    if output is not None:
        prepare_folder(output)
    with progress_bar() as progress:
        result = run(request, compared=compared, measured=measured or 0, progress=progress)
    if output is not None:
        result = write(result, output)
    if as_json:
        print_json(result.to_json())
        return
    _show(result, output)


def _show(result: Searched, output: Path | None) -> None:
    from sectum.cli.search import words

    paragraph(words.verdict(result))
    say("")
    rows(words.front_rows(result), right=range(1, 5), header=words.HEADER)
    if result.choices is not None:
        say("")
        paragraph(words.comparison(result))
        if result.choices:
            say("")
            rows(words.choice_rows(result), right=range(1, 5), header=words.CHOICE_HEADER)
    if result.measurements:
        say("")
        rows(words.measured_rows(result), right=range(1, 5), header=words.MEASURED_HEADER)
    if output is not None:
        say("")
        paragraph(f"Written to {output}: {words.files(result)}, front.png and front.json.")
    remarks(f"Note: {note}." for note in words.notes(result))
