"""``sectum predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sectum.cli.options import examples, json_option, model_argument, prediction_options

if TYPE_CHECKING:
    from sectum.predict.prediction import Advice, Prediction


@click.command(
    epilog=examples(
        "sectum predict resnet50.onnx --epc 93MiB",
        "sectum predict zoo:vgg16 --batch 4 --threads 2 --layers",
        "sectum predict zoo:alexnet --enclave sgx1 --native-ms 21.5 --json",
    )
)
@model_argument
@prediction_options
@click.option("--layers", is_flag=True, help="Show every operator with its share.")
@json_option
def predict(*, layers: bool, as_json: bool, **options: Any) -> None:
    """Predict what one inference of MODEL costs in an enclave.

    MODEL is an ONNX file, or zoo:NAME (see 'sectum zoo list'). The first line is the verdict; the rest says
    what the latency is made of, whose milliseconds these are, and what to change.
    """
    from sectum.cli.predict.predicting import Request
    from sectum.cli.predict.predicting import predict as make_prediction

    answer = make_prediction(Request(**options))
    advice = answer.advice()
    if as_json:
        from sectum.cli.render.output import print_json

        print_json(answer.to_json(advice))
        return
    _show(answer.prediction, advice, layers=layers)


def _show(prediction: Prediction, advice: list[Advice], *, layers: bool) -> None:
    from sectum.cli.predict.advice import sentence
    from sectum.cli.predict.verdict import verdict
    from sectum.cli.render.show import paragraph, rows, say

    paragraph(verdict(prediction))
    say("")
    rows(_facts(prediction), right=(1,))
    if layers:
        say("")
        rows(
            _layer_rows(prediction),
            right=(0, 1, 2, 3, 4, 5),
            header=("#", "ms", "compute", "memory", "paging", "loads", "operator", "type"),
        )
    for item in advice:
        say("")
        paragraph(f"* {sentence(item)}", hanging="  ")
    for note in prediction.notes:
        say("")
        paragraph(f"Note: {note}.", hanging="  ")


def _facts(prediction: Prediction) -> list[tuple[str, str, str]]:
    from sectum.cli.render.figures import count, mebibytes, milliseconds, percent

    memory, split = prediction.memory, prediction.breakdown_ms
    total = prediction.latency_ms or 1.0
    whose = f"milliseconds of {prediction.machine}" + ("" if prediction.calibrated else ", not calibrated")
    given = prediction.native_source == "given"
    images = f"batch {prediction.batch}, threads {prediction.threads}, in {prediction.enclave}"
    low, high = milliseconds(prediction.interval_ms.low), milliseconds(prediction.interval_ms.high)
    facts = [
        (
            "latency",
            milliseconds(prediction.latency_ms),
            f"predicted; 9 of 10 lie in {low} to {high}; {images}",
        ),
        ("  compute", milliseconds(split.compute), f"predicted; {percent(split.compute / total)}"),
        (
            "  memory",
            milliseconds(split.memory),
            f"predicted; {percent(split.memory / total)}: slower memory inside",
        ),
        (
            "  paging",
            milliseconds(split.paging),
            f"predicted; {percent(split.paging / total)}: {count(memory.loads)} pages loaded an inference",
        ),
        ("outside an enclave", milliseconds(prediction.native_ms), "given by you" if given else "predicted"),
    ]
    weights, activations = mebibytes(memory.weight_bytes), mebibytes(memory.activation_bytes)
    holds = f"predicted; {weights} weights, {activations} activations"
    facts.append(("working set", mebibytes(memory.working_set_bytes), holds))
    if memory.epc_bytes is not None and memory.margin_bytes is not None:
        margin = mebibytes(abs(memory.margin_bytes))
        left = f"{margin} left" if memory.margin_bytes >= 0 else f"{margin} too little"
        chance = percent(prediction.overcommit.probability)
        facts.append(("protected memory", mebibytes(memory.epc_bytes), f"{left}; pages with probability {chance}"))
    covered = prediction.coverage
    missing = ", ".join(f"{n} {kind}" for kind, n in covered.unsupported.items())
    facts.append(
        (
            "operators",
            count(covered.operators),
            f"without a cost of their own, bounded: {missing}" if missing else "all have a cost of their own",
        )
    )
    facts.append(("time", "", whose))
    return facts


def _layer_rows(prediction: Prediction) -> list[tuple[str, ...]]:
    from sectum.cli.render.figures import count, number
    from sectum.cli.render.layers import kind
    from sectum.cli.render.untrusted import printable

    return [
        (
            str(index),
            number(layer.breakdown_ms.total),
            number(layer.breakdown_ms.compute),
            number(layer.breakdown_ms.memory),
            number(layer.breakdown_ms.paging),
            count(layer.loads),
            printable(layer.name, limit=48),
            kind(layer) if layer.supported else f"{kind(layer)} (bounded)",
        )
        for index, layer in enumerate(prediction.layers, 1)
    ]
