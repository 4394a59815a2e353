"""Advice on a latency bound as JSON types."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.advise.words import changes, command

if TYPE_CHECKING:
    from sectum.cli.advise.answering import Answer
    from sectum.plan.advising import Choice

_MEASURED = ("latency_ms", "uncertainty", "loads", "resident_bytes", "outputs_equal_native", "stopped_because")


def to_json(answer: Answer) -> dict[str, Any]:
    """Give an answer as JSON types."""
    advised = answer.advised
    entries = [_entry(answer, choice, place) for place, choice in enumerate(answer.shown)]
    return {
        "kind": "predicted",
        "model": answer.source.name,
        "enclave": answer.enclave,
        "bound_ms": answer.bound_ms,
        "by": "interval" if answer.surely else "latency",
        "meets_now": advised.meets,
        "met": advised.meets or bool(advised.choices),
        "now": _numbers(advised.now),
        "advice": entries if advised.choices else [],
        "nearest": entries[0] if entries and not advised.choices else None,
        "calibrated": answer.predictor.calibration is not None,
        "machine": answer.predictor.machine,
        "source": {"model": answer.source.text, "sha256": answer.source.sha256},
        "sectum": __version__,
    }


def _numbers(choice: Choice) -> dict[str, Any]:
    estimate = choice.estimate
    return {
        **asdict(choice.setup),
        "latency_ms": estimate.latency_ms,
        "ms_per_sample": estimate.latency_ms / choice.setup.batch,
        "interval_ms": [estimate.interval_ms.low, estimate.interval_ms.high],
        "native_ms": estimate.native_ms,
        "working_set_bytes": estimate.working_set_bytes,
        "opened_bytes": 0 if estimate.plan is None else estimate.plan.opened_bytes,
    }


def _entry(answer: Answer, choice: Choice, place: int) -> dict[str, Any]:
    base, measured = answer.question.base, answer.measured.get(place)
    found = None
    if measured is not None:
        found = {name: measured[name] for name in _MEASURED}
        found["meets"] = found["latency_ms"] <= answer.bound_ms
    return {
        "changes": list(choice.setup.changed(base)),
        "text": changes(choice.setup, base),
        **_numbers(choice),
        "speedup": answer.speedup(choice),
        "command": command(answer, choice),
        "measured": found,
    }
