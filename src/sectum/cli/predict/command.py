"""``sectum predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sectum.cli.options import examples, json_option, model_argument, prediction_options
from sectum.cli.render.command_line import unbroken
from sectum.cli.render.figures import count, number
from sectum.cli.render.layers import kind
from sectum.cli.render.output import print_json
from sectum.cli.render.show import paragraph, remarks, rows, say
from sectum.cli.render.untrusted import printable
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.cli.predict.predicting import Request
    from sectum.predict.prediction import Advice, Prediction


@click.command(
    epilog=examples(
        "sectum predict resnet50.onnx --epc 93MiB",
        "sectum predict zoo:vgg16 --batch 4 --threads 2 --layers",
        "sectum predict zoo:alexnet --enclave sgx1 --native-ms 21.5 --json",
        "sectum predict zoo:vgg16 --epc 256MiB --method paper",
    )
)
@model_argument
@prediction_options
@click.option("--layers", is_flag=True, help="List every operator with its cost.")
@click.option(
    "--method",
    type=click.Choice(["page-model", "paper"]),
    default="page-model",
    show_default=True,
    help="How to predict: with the page-replacement model, or with the two stages of the Sectum paper.",
)
@json_option
def predict(*, layers: bool, method: str, as_json: bool, **options: Any) -> None:
    """Predict what one inference of MODEL costs in an enclave.

    MODEL is an ONNX file, or zoo:NAME (see 'sectum zoo list'). The verdict comes first, then the parts of the
    latency, the memory, what to change, and, where the model pages, the best plan.
    """
    from sectum.cli.predict.best_plan import best_plan
    from sectum.cli.predict.predicting import Request
    from sectum.cli.predict.predicting import predict as make_prediction

    if method == "paper":
        _predict_by_paper(Request(**options), layers=layers, as_json=as_json)
        return
    result = make_prediction(Request(**options))
    advice, plan = result.advice(), best_plan(result)
    if as_json:
        print_json(result.to_json(advice, None if plan is None else plan.to_json()))
        return
    _show(result.prediction, advice, layers=layers)
    if plan is not None:
        say("")
        paragraph(unbroken(plan.sentence, plan.command))


def _predict_by_paper(request: Request, *, layers: bool, as_json: bool) -> None:
    from sectum.cli.predict import paper

    if layers:
        raise UsageError("--method paper predicts no single layers: leave --layers out, or choose --method page-model")
    prediction, as_data = paper.predict(request)
    if as_json:
        print_json(as_data)
        return
    paper.show(prediction)


def _show(prediction: Prediction, advice: list[Advice], *, layers: bool) -> None:
    from sectum.cli.predict.advice import sentence
    from sectum.cli.predict.facts import facts
    from sectum.cli.predict.verdict import verdict
    from sectum.predict.prediction import GUESS

    paragraph(verdict(prediction))
    say("")
    lines = [(fact.label, fact.value, "; ".join(filter(None, fact[2:]))) for fact in facts(prediction)]
    machine = f"{prediction.machine}; {'calibrated' if prediction.calibrated else 'not calibrated'}"
    rows([*lines, ("machine", "", machine), ("runtime", "", prediction.runtime)], right=(1,))
    if layers:
        say("")
        rows(
            _layer_rows(prediction),
            right=range(8),
            header=("#", "ms", "compute", "memory", "paging", "loads", "evictions", "minor faults", "operator", "type"),
        )
    if prediction.grade.word == GUESS:  # the other advice gives times
        advice = [item for item in advice if item.kind == "weights"]
    remarks([*(f"* {sentence(item)}" for item in advice), *(f"Note: {note}." for note in prediction.notes)])


def _layer_rows(prediction: Prediction) -> list[tuple[str, ...]]:
    return [
        (
            str(index),
            number(layer.breakdown_ms.total),
            number(layer.breakdown_ms.compute),
            number(layer.breakdown_ms.memory),
            number(layer.breakdown_ms.paging),
            count(layer.loads),
            count(layer.evictions),
            count(layer.minor_faults),
            printable(layer.name, limit=48),
            kind(layer) if layer.support == "inside" else f"{kind(layer)} (outside: {layer.why_outside})",
        )
        for index, layer in enumerate(prediction.layers, 1)
    ]
