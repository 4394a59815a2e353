"""Measurements beside predictions, as JSON and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sectum.cli.render.figures import interval, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sectum.measure.measurement import Measurement
    from sectum.plan.planned import Planned
    from sectum.plan.planned_chain import PlannedChain
    from sectum.predict.prediction import Prediction

    Predicted = Prediction | Planned | PlannedChain

OUTPUTS = {True: "equal", False: "DIFFERENT", None: "not compared"}
"""Words for ``outputs_equal_native``."""


def outputs_row(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """What ``sectum measure`` of a plan says of its outputs."""
    if found["largest_difference"] is not None:
        return "outputs", "differ", f"measured; weights are int8; off by {found['largest_difference']:.3g} at most"
    words = OUTPUTS[found["outputs_equal_native"]]
    return "outputs", words, "measured; compared with the native run's, bit for bit"


def measurement_json(measured: Measurement, model: str, sha256: str | None) -> dict[str, Any]:
    """A measurement as JSON types, with what was measured: the model's name and the digest of its file."""
    return {
        **measured.as_dict(),
        "over_committed": measured.over_committed,
        "kind": measured.context["kind"],
        "source": {"model": model, "sha256": sha256},
    }


def prediction_json(
    predicted: Predicted, measured_ms: float, *, calibrated: bool, machine: str, **more: Any
) -> dict[str, Any]:
    """A prediction beside a measurement as JSON types; ``more`` is what else is predicted."""
    return {
        "kind": "predicted",
        "latency_ms": predicted.latency_ms,
        "interval_ms": [predicted.interval_ms.low, predicted.interval_ms.high],
        **more,
        "error": predicted.latency_ms / measured_ms - 1,
        "calibrated": calibrated,
        "machine": machine,
    }


def predicted_sentence(predicted: Predicted, measured_ms: float, *, calibrated: bool) -> str:
    """A prediction beside a measurement in words."""
    error = f"{predicted.latency_ms / measured_ms - 1:+.0%}".replace("%", " %")
    other = "" if calibrated else ". Not calibrated: the prediction is in another machine's milliseconds"
    return (
        f"Predicted: {milliseconds(predicted.latency_ms)} ({interval(predicted.interval_ms)}), off by {error}{other}."
    )
