"""``sectum measure``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.measure.measuring import RUNNERS
from sectum.cli.measure.measuring import measure as measure_model
from sectum.cli.options import (
    Inputs,
    deadline_option,
    epc_option,
    examples,
    json_option,
    model_argument,
    runs_option,
    shape_options,
    threads_option,
)
from sectum.cli.plan.planning import is_plan
from sectum.cli.render.figures import count, milliseconds
from sectum.cli.render.measurements import OUTPUTS, measurement_json, predicted_sentence, prediction_json
from sectum.cli.render.output import print_json
from sectum.cli.render.progress import progress_bar
from sectum.cli.render.show import paragraph, remarks, rows, say
from sectum.errors import ModelError, UsageError
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.cli.predict.source import Source
    from sectum.measure.measurement import Measurement
    from sectum.predict.prediction import Prediction

_STOPPED = {
    "precise": "the uncertainty was small enough",
    "runs": "as many as --runs asked for",
    "samples": "the maximum number was reached",
    "deadline": "the deadline passed",
    "ended": "the deadline passed during an inference, which was ended",
}
"""Why sampling ended, by `Measurement.stopped_because`."""


@click.command(
    epilog=examples(
        "sectum measure resnet50.onnx --epc 93MiB",
        "sectum measure zoo:alexnet --enclave native --threads 2 --runs 20 --json",
    )
)
@model_argument
@click.option(
    "--enclave",
    type=click.Choice(RUNNERS),
    default="softepc",
    show_default=True,
    help="Where to run; native is outside an enclave.",
)
@epc_option
@shape_options
@threads_option
@runs_option
@deadline_option("120", "Stop measuring after so many seconds.")
@click.option(
    "--policy",
    type=click.Choice(["second-chance", "fifo"]),
    default="second-chance",
    show_default=True,
    help="Page-replacement policy of the software EPC.",
)
@click.option("--as-loaded", is_flag=True, help="Keep the pages that loading the model left in the EPC.")
@click.option("--no-predict", is_flag=True, help="Measure only, without a prediction.")
@json_option
def measure(
    *,
    model: str,
    enclave: str,
    epc_bytes: int | None,
    batch: int | None,
    inputs: Inputs,
    no_predict: bool,
    as_json: bool,
    **conditions: Any,
) -> None:
    """Run MODEL in an enclave and measure what one inference costs.

    MODEL is an ONNX file, zoo:NAME (see 'sectum zoo list'), or a plan (.json, see 'sectum plan'), which says the EPC
    and the threads and is measured beside the native run. The outputs are compared with the native run's, bit
    for bit. Measuring ends when the uncertainty is small or the deadline has passed.

    All pages are evicted once before measuring, so that the steady state depends only on MODEL and EPC. Without
    that, an enclave may page less, even for hundreds of inferences, if the EPC is up to a tenth smaller than the
    working set; --as-loaded measures this.
    """
    from sectum.cli.predict.predicting import Request, load_profile, predict
    from sectum.cli.predict.source import Source

    if is_plan(model):
        from sectum.cli.plan.measuring import measure_file

        if enclave != "softepc" or epc_bytes is not None or batch is not None or inputs or conditions["threads"] != 1:
            raise UsageError("a plan says the enclave, the EPC, the batch, the inputs and the threads: leave these out")
        if no_predict or conditions["as_loaded"] or conditions["policy"] != "second-chance":
            raise UsageError(
                "a plan is measured in the steady state, as it was planned, and with its prediction: leave --policy, "
                "--as-loaded and --no-predict out"
            )
        measure_file(Path(model), as_json=as_json, runs=conditions["runs"], deadline_s=conditions["deadline_s"])
        return
    if enclave == "native" and epc_bytes is not None:
        raise UsageError("there is no EPC outside an enclave: leave --epc out, or measure with --enclave softepc")
    if enclave == "softepc" and epc_bytes is None:
        epc_bytes = load_profile(enclave, None).epc_bytes
    source = Source(model, batch=batch, inputs=inputs)
    with progress_bar() as progress:
        measured = measure_model(source, enclave, epc_bytes=epc_bytes, progress=progress, **conditions)
    predicted, why_not = None, ""
    if not no_predict and enclave != "gramine":
        request = Request(model=model, enclave=enclave, epc_bytes=epc_bytes, threads=conditions["threads"])
        try:
            predicted = predict(request, source).prediction
        except ModelError as error:  # the measurement is good all the same
            why_not = str(error)
    if as_json:
        print_json({**_to_json(source, measured, predicted), "not_predicted": why_not or None})
        return
    _show(source, enclave, epc_bytes, measured, predicted)
    if why_not:
        remarks([f"Not predicted: {why_not}."])


def _to_json(source: Source, measured: Measurement, predicted: Prediction | None) -> dict[str, Any]:
    prediction = None
    if predicted is not None:
        prediction = prediction_json(
            predicted,
            measured.latency_ms,
            calibrated=predicted.calibrated,
            machine=predicted.machine,
            loads=predicted.memory.loads,
        )
    return {**measurement_json(measured, source.text, source.sha256), "prediction": prediction}


def _show(
    source: Source, enclave: str, epc_bytes: int | None, measured: Measurement, predicted: Prediction | None
) -> None:
    where = "outside an enclave" if enclave == "native" else f"in {enclave}"
    if epc_bytes is not None:
        where += f" with an EPC of {format_bytes(epc_bytes)}"
    paragraph(f"{source.name} takes {milliseconds(measured.latency_ms)} {where}; {_paging(measured)}.")
    say("")
    rows(_facts(measured), right=(1,))
    if predicted is not None:
        remarks([predicted_sentence(predicted, measured.latency_ms, calibrated=predicted.calibrated)])
    if measured.context["kind"] == "unverified":
        remarks(["Note: this runner has never been tried on the hardware that it is for."])


def _paging(measured: Measurement) -> str:
    if measured.loads is None:
        return "pages cannot be counted there"
    if not measured.over_committed:
        return "it does not page"
    return f"it pages, with {count(measured.loads)} page loads per inference"


def _facts(measured: Measurement) -> list[tuple[str, str, str]]:
    kind = str(measured.context["kind"])
    used = sum(1 for sample in measured.samples if sample["used"])
    spread = "a single sample, so the uncertainty is unknown"
    if measured.uncertainty is not None:
        spread = f"± {100 * measured.uncertainty:.1f} % (95 % interval)"
    facts = [
        ("latency", milliseconds(measured.latency_ms), f"{kind}; {spread}"),
        ("samples", count(len(measured.samples)), f"{used} used; {_STOPPED[measured.stopped_because]}"),
    ]
    names = {
        "faults": "page faults per inference",
        "loads": "pages loaded per inference",
        "evictions": "pages evicted per inference",
    }
    for name, meaning in names.items():
        value = getattr(measured, name)
        if value is not None:
            unsettled = "" if measured.settled else "; it varies between inferences"
            facts.append((name, count(value), f"{kind}; {meaning}{unsettled}"))
    native = measured.context["runner"] == "native"  # it measures the whole process, not an enclave's memory
    live = "allocated by the process" if native else "allocated in the enclave"
    resident = "of the process, with its code, in memory" if native else "of that in the EPC"
    facts += [
        ("live", format_bytes(measured.live_bytes), f"{kind}; {live}"),
        ("resident", format_bytes(measured.resident_bytes), f"{kind}; {resident}"),
    ]
    compared = f"{kind}; compared with the native run's, bit for bit"
    equal = measured.outputs_equal_native
    facts.append(("outputs", OUTPUTS[equal], "the deadline passed" if equal is None else compared))
    speed = "calibrated" if measured.reference_source == "calibration" else "at its speed during this run"
    facts.append(("machine", "", f"{measured.context['cpu_model']}; {speed}"))
    return facts
