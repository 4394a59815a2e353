"""``sectum measure``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sectum.cli.options import (
    InputShapes,
    epc_option,
    examples,
    json_option,
    model_argument,
    positive,
    shape_options,
    threads_option,
    whole,
)
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.cli.predict.source import Source
    from sectum.measure.latency import Measurement
    from sectum.predict.prediction import Prediction


@click.command(
    epilog=examples(
        "sectum measure resnet50.onnx --epc 93MiB",
        "sectum measure zoo:alexnet --enclave native --threads 2 --runs 20 --json",
    )
)
@model_argument
@click.option(
    "--enclave",
    type=click.Choice(["native", "softepc", "gramine"]),
    default="softepc",
    show_default=True,
    help="Where to run: native is outside any enclave.",
)
@epc_option
@shape_options
@threads_option
@click.option(
    "--runs",
    callback=whole(100_000),
    metavar="N",
    help="Inferences to time.  [default: until the number is certain]",
)
@click.option(
    "--deadline",
    "deadline_s",
    callback=positive("seconds", 86_400),
    default="120",
    show_default=True,
    metavar="S",
    help="Seconds after which measuring ends.",
)
@click.option(
    "--policy",
    type=click.Choice(["second-chance", "fifo"]),
    default="second-chance",
    show_default=True,
    help="How the software enclave chooses the pages to evict.",
)
@click.option(
    "--as-loaded",
    is_flag=True,
    help="Go on from the pages that loading left in the EPC, in place of putting all out once.",
)
@click.option("--no-predict", is_flag=True, help="Leave out the prediction beside the measurement.")
@json_option
def measure(
    *,
    model: str,
    enclave: str,
    epc_bytes: int | None,
    batch: int | None,
    inputs: InputShapes,
    threads: int,
    runs: int | None,
    deadline_s: float,
    policy: str,
    as_loaded: bool,
    no_predict: bool,
    as_json: bool,
) -> None:
    """Run MODEL in an enclave and measure what one inference costs.

    MODEL is an ONNX file, or zoo:NAME (see 'sectum zoo list'). The outputs are compared with those outside
    the enclave, bit for bit. Measuring goes on until the uncertainty is small or the deadline passes.

    Before, all pages are put out of the EPC once, so that the steady state depends on MODEL and EPC alone. An
    enclave that was loaded under its limit may page less, for hundreds of inferences at least, where the EPC is up
    to a tenth smaller than the working set: --as-loaded measures that.
    """
    from sectum.cli.measure.measuring import measure as measure_model
    from sectum.cli.predict.predicting import load_profile
    from sectum.cli.predict.source import Source
    from sectum.cli.render.progress import progress_bar

    if enclave == "native" and epc_bytes is not None:
        raise UsageError("there is no EPC outside an enclave: leave --epc out, or measure with --enclave softepc")
    if enclave == "softepc" and epc_bytes is None:
        epc_bytes = load_profile(enclave, None).epc_bytes
    source = Source(model, batch=batch, inputs=inputs)
    with progress_bar() as progress:
        progress(f"measuring in {enclave}, at most {deadline_s:g} s", 0.0)
        measured = measure_model(
            source,
            enclave,
            epc_bytes=epc_bytes,
            threads=threads,
            policy=policy,
            as_loaded=as_loaded,
            runs=runs,
            deadline_s=deadline_s,
        )
    predicted = None if no_predict or enclave == "gramine" else _predict(source, enclave, epc_bytes, threads)
    if as_json:
        from sectum.cli.render.output import print_json

        print_json(_to_json(source, measured, predicted))
        return
    _show(source, enclave, epc_bytes, measured, predicted)


def _predict(source: Source, enclave: str, epc_bytes: int | None, threads: int) -> Prediction:
    from sectum.cli.predict.predicting import load_profile
    from sectum.predict import load_predictor

    return load_predictor().predict(source.graph, load_profile(enclave, epc_bytes), threads=threads)


def _to_json(source: Source, measured: Measurement, predicted: Prediction | None) -> dict[str, Any]:
    data: dict[str, Any] = measured.as_dict()
    data["over_committed"] = measured.over_committed
    data["kind"] = measured.context["kind"]
    data["source"] = {"model": source.text, "sha256": source.sha256}
    data["prediction"] = None
    if predicted is not None:
        data["prediction"] = {
            "kind": "predicted",
            "latency_ms": predicted.latency_ms,
            "interval_ms": [predicted.interval_ms.low, predicted.interval_ms.high],
            "loads": predicted.memory.loads,
            "error": predicted.latency_ms / measured.latency_ms - 1,
            "calibrated": predicted.calibrated,
            "machine": predicted.machine,
        }
    return data


def _show(
    source: Source, enclave: str, epc_bytes: int | None, measured: Measurement, predicted: Prediction | None
) -> None:
    from sectum.cli.render.figures import mebibytes, milliseconds
    from sectum.cli.render.show import paragraph, rows, say

    where = "outside an enclave" if enclave == "native" else f"in {enclave}"
    if epc_bytes is not None:
        where += f" with {mebibytes(epc_bytes)} of protected memory"
    paragraph(f"{source.name} takes {milliseconds(measured.latency_ms)} {where}: {_paging(measured)}.")
    say("")
    rows(_facts(measured), right=(1,))
    if predicted is not None:
        low, high = milliseconds(predicted.interval_ms.low), milliseconds(predicted.interval_ms.high)
        error = f"{predicted.latency_ms / measured.latency_ms - 1:+.0%}".replace("%", " %")
        unlike = "" if predicted.calibrated else "; not calibrated: these are another machine's milliseconds"
        say("")
        paragraph(f"predicted {milliseconds(predicted.latency_ms)} [{low}, {high}], off by {error}{unlike}")
    if measured.context["kind"] == "unverified":
        say("")
        paragraph("Note: this way of running was never tried on the hardware it is for.")


def _paging(measured: Measurement) -> str:
    from sectum.cli.render.figures import count

    if measured.loads is None:
        return "pages cannot be counted there"
    if not measured.over_committed:
        return "it does not page"
    return f"it pages, {count(measured.loads)} loads an inference"


def _facts(measured: Measurement) -> list[tuple[str, str, str]]:
    from sectum.cli.render.figures import count, mebibytes, milliseconds

    kind = str(measured.context["kind"])
    used = sum(1 for sample in measured.samples if sample["used"])
    spread = "one sample, so its uncertainty is not known"
    if measured.uncertainty is not None:
        spread = f"within {100 * measured.uncertainty:.1f} % (95 % interval)"
    whose = (
        f"milliseconds of {measured.context['cpu_model']}, "
        + ("calibrated" if measured.reference_source == "calibration" else "at its speed in this run")
    )  # fmt: skip
    facts = [
        ("latency", milliseconds(measured.latency_ms), f"{kind}; {spread}"),
        ("samples", count(len(measured.samples)), f"{used} used; ended because: {measured.stopped_because}"),
    ]
    names = {
        "faults": "page faults of an inference",
        "loads": "pages brought back into protected memory",
        "evictions": "pages sealed and moved out",
    }
    for name, meaning in names.items():
        value = getattr(measured, name)
        if value is not None:
            unsettled = "" if measured.settled else ", not settled: it varies"
            facts.append((name, count(value), f"{kind}; {meaning}{unsettled}"))
    whole = measured.context["runner"] == "native"  # no enclave's memory, but that of the process
    facts += [
        ("live", mebibytes(measured.live_bytes), f"{kind}; allocated{' by the process' if whole else ''}"),
        (
            "resident",
            mebibytes(measured.resident_bytes),
            f"{kind}; {'with its code' if whole else 'of that'}, in memory",
        ),
    ]
    if measured.outputs_equal_native is not None:
        equal = "equal" if measured.outputs_equal_native else "DIFFERENT"
        facts.append(("outputs", equal, f"{kind}; compared with those outside the enclave, bit for bit"))
    facts.append(("time", "", whose))
    return facts
