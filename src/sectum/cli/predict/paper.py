"""``sectum predict --method paper``: the only part of the command that imports the laboratory, when it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.predict.predicting import Request, load_profile
from sectum.cli.predict.source import Source
from sectum.cli.render.figures import milliseconds, percent, plural
from sectum.cli.render.show import paragraph, remarks, rows, say
from sectum.cli.render.untrusted import printable
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.lab.paper import PaperPrediction


def predict(request: Request) -> tuple[PaperPrediction, dict[str, Any]]:
    """Make the prediction; returns it with its JSON.

    Raises:
        UsageError: an option that the method cannot use.
    """
    from sectum.lab.paper import PaperMethod
    from sectum.predict import load_predictor

    source = Source(request.model, batch=request.batch, inputs=request.inputs)
    profile = load_profile(request.enclave, request.epc_bytes)
    found = PaperMethod(load_predictor()).predict(
        source.graph, profile, threads=request.threads, native_ms=request.native_ms, strict=request.strict
    )
    found = replace(found, model=source.name)
    origin = {"model": request.model, "sha256": source.sha256}
    return found, {"method": PaperMethod.name, **found.to_json(), "source": origin, "sectum": __version__}


def show(found: PaperPrediction) -> None:
    """Print the verdict, and the numbers of the method."""
    name = printable(found.model, limit=60) or "The network"
    working_set, latency = format_bytes(found.memory.working_set_bytes), milliseconds(found.latency_ms)
    takes = f"One inference takes about {latency}."
    if found.memory.epc_bytes is None:
        paragraph(f"{name} has a working set of about {working_set}. {takes}")
    else:
        verdict = "does not fit" if found.overcommit.predicted else "fits"
        epc = format_bytes(found.memory.epc_bytes)
        paragraph(f"{name} {verdict}: its working set is about {working_set} and the EPC holds {epc}. {takes}")
    say("")
    conditions = f"batch {found.batch}, {plural(found.threads, 'thread')}, {found.enclave}"
    rows(
        [
            ("method", "paper", "a graph neural network's verdict, then a linear regression for its regime"),
            ("latency", latency, f"predicted; {conditions}"),
            ("outside an enclave", milliseconds(found.native_ms), "predicted"),
            ("working set", working_set, "predicted"),
            ("over-commitment", percent(found.overcommit.probability), "predicted probability"),
            ("machine", "", found.machine + ("" if found.calibrated else "; not calibrated")),
        ],
        right=(1,),
    )
    remarks(f"Note: {note}." for note in found.notes)
