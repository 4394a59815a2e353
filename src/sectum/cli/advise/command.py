"""``sectum advise``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sectum.cli.options import (
    LARGEST_THREADS,
    Inputs,
    check_measurable,
    deadline_option,
    enclave_options,
    examples,
    json_option,
    model_argument,
    read_latency,
    runs_option,
    shape_options,
    threads_option,
    whole,
)
from sectum.cli.plan.link_options import MOST_ENCLAVES, pace, pace_options
from sectum.cli.render.output import print_json
from sectum.cli.render.progress import progress_bar
from sectum.cli.render.show import paragraph, remarks, rows, say

if TYPE_CHECKING:
    from sectum.cli.advise.answering import Answer

_ANOTHER_NETWORK = (
    "smaller images or fewer channels make another network: it has to be trained, and may be less accurate"
)


@click.command(
    epilog=examples(
        "sectum advise zoo:vgg16 --latency 500ms --epc 93MiB",
        "sectum advise resnet50.onnx --latency 0.1s --epc 32MiB --measure",
        "sectum advise zoo:mobilenet_v2 --latency 5ms --epc 8MiB --json",
    )
)
@model_argument
@click.option("--latency", "bound_ms", required=True, callback=read_latency, metavar="TIME",
              help="The most that one inference may take, such as 150ms or 0.15s.")  # fmt: skip
@click.option(
    "--by",
    type=click.Choice(["interval", "latency"]),
    default="interval",
    show_default=True,
    help="What must meet it: the upper end of the 90 % interval, or the predicted latency.",
)
@enclave_options
@shape_options
@threads_option
@click.option(
    "--most-threads",
    callback=whole(LARGEST_THREADS),
    metavar="N",
    help="Threads that there may be.  [default: the processors of this machine]",
)
@click.option(
    "--most-enclaves",
    callback=whole(MOST_ENCLAVES),
    default="8",
    show_default=True,
    metavar="N",
    help="Enclaves that may share the network, each with an EPC and threads of its own.",
)
@pace_options
@click.option("--measure", "measures", is_flag=True, help="Measure the first three in the software enclave.")
@runs_option
@deadline_option("120", "Stop each measurement after so many seconds.")
@json_option
def advise(
    *,
    model: str,
    bound_ms: float,
    by: str,
    enclave: str,
    epc_bytes: int | None,
    batch: int | None,
    inputs: Inputs,
    threads: int,
    most_threads: int | None,
    most_enclaves: int,
    bits_per_s: float | None,
    delay_ms: float | None,
    measures: bool,
    runs: int | None,
    deadline_s: float,
    as_json: bool,
) -> None:
    """Find the cheapest changes with which one inference of MODEL meets a latency bound.

    MODEL is an ONNX file, or zoo:NAME (see 'sectum zoo list'). From the cheapest to the dearest, the changes are: a
    plan (see 'sectum plan'), a smaller batch, more threads, a larger EPC, several enclaves, smaller images, fewer
    channels; of several together the dearest counts first, then how many they are. The last two are tried for image
    classifiers of the zoo: they make another network, which has to be trained.
    """
    from sectum.cli.advise.answering import Answer, measured
    from sectum.cli.advise.asking import question_about, source_of
    from sectum.cli.predict.predicting import load_profile
    from sectum.plan.advising import meet_bound
    from sectum.plan.latency import ChainedLatency, PlannedLatency
    from sectum.predict import load_predictor

    if measures:
        check_measurable("choices", enclave)
    source = source_of(model, batch=batch, inputs=inputs)
    profile = load_profile(enclave, epc_bytes)
    predictor = load_predictor()
    predictor.with_measured_costs(profile, threads)  # refuses unknown costs before long work
    link = pace(bits_per_s, delay_ms)
    question = question_about(
        source,
        profile,
        ChainedLatency(PlannedLatency(predictor), most_enclaves, link),
        threads=threads,
        most_threads=most_threads,
        most_enclaves=most_enclaves,
    )
    with progress_bar() as progress:
        found = meet_bound(question, bound_ms, surely=by == "interval", progress=progress)
        answer = Answer(source, question, found, bound_ms, by == "interval", enclave, predictor, link)
        if measures:
            answer = measured(answer, runs=runs, deadline_s=deadline_s, progress=progress)
    if as_json:
        from sectum.cli.advise.as_json import to_json

        print_json(to_json(answer))
        return
    _show(answer)


def _show(answer: Answer) -> None:
    from sectum.cli.advise.words import command, header_of, rows_of, tried, verdict
    from sectum.plan.advising import RESOLUTION, WIDTH
    from sectum.predict.calibration import uncalibrated_note

    paragraph(verdict(answer))
    if answer.shown:
        say("")
        titles = header_of(answer)
        rows(rows_of(answer), right=range(len(titles) - 1), header=titles)
        say("")
        say(f"Next: {command(answer, answer.shown[0])}")
    if not answer.advised.meets:
        say("")
        paragraph(tried(answer))
    notes = []
    if any({RESOLUTION, WIDTH} & set(one.setup.changed(answer.question.base)) for one in answer.shown):
        notes.append(_ANOTHER_NETWORK)
    if answer.predictor.calibration is None:
        notes.append(uncalibrated_note(answer.predictor.machine))
    remarks(f"Note: {note}." for note in notes)
