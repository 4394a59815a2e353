"""The numbers of a prediction, as a terminal and a report show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sectum.cli.render.figures import count, interval, milliseconds, percent, plural
from sectum.predict.prediction import GUESS
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.predict.prediction import Prediction


class Fact(NamedTuple):
    """One number, with its unit.

    Attributes:
        label: its name; a part of the number above begins with two spaces.
        value: the number.
        kind: whether it is predicted, given, counted, ...
        detail: the rest of what is known about it; it may contain untrusted names.
    """

    label: str
    value: str
    kind: str
    detail: str


def facts(prediction: Prediction) -> list[Fact]:
    """Write the numbers of a prediction."""
    memory, split, covered = prediction.memory, prediction.breakdown_ms, prediction.coverage
    total = prediction.latency_ms or 1.0
    conditions = f"batch {prediction.batch}, {plural(prediction.threads, 'thread')}, {prediction.enclave}"
    weights, activations = format_bytes(memory.weight_bytes), format_bytes(memory.activation_bytes)

    def part(label: str, value_ms: float, *details: str) -> Fact:
        return Fact(label, milliseconds(value_ms), "predicted", "; ".join([percent(value_ms / total), *details]))

    paging = part(
        "  paging", split.paging, f"{count(memory.loads)} page loads, {count(memory.minor_faults)} minor faults"
    )
    if memory.epc_bytes is None and split.paging > 0:
        paging = part(
            "  transfers", split.paging, "entering the enclave, and inputs and outputs that cross its boundary"
        )
    grade = prediction.grade
    guess = grade.word == GUESS
    latency, native = ("a guess" if guess else milliseconds(ms) for ms in (prediction.latency_ms, prediction.native_ms))
    found = [
        Fact("latency", latency, "predicted", f"{interval(prediction.interval_ms)}; {conditions}"),
        part("  compute", split.compute),
        part("  memory", split.memory, "slower memory in the enclave"),
        paging,
        Fact("outside an enclave", native, prediction.native_source, ""),
        Fact(
            "working set",
            format_bytes(memory.working_set_bytes),
            "predicted",
            f"{weights} of weights, {activations} of activations",
        ),
    ]
    if memory.epc_bytes is not None and memory.margin_bytes is not None:
        margin = f"{format_bytes(abs(memory.margin_bytes))} {'free' if memory.margin_bytes >= 0 else 'too small'}"
        chance = f"probability of paging {percent(prediction.overcommit.probability)}"
        found.append(Fact("EPC", format_bytes(memory.epc_bytes), "given", f"{margin}; {chance}"))
    missing = ", ".join(f"{n} {kind}" for kind, n in covered.unsupported.items())
    modelled = f"without a cost model: {missing}" if missing else "all with a cost model"
    why = grade.sentence[0].lower() + grade.sentence[1:].removesuffix(".")
    return [
        *found,
        Fact("operators", count(covered.operators), "counted", modelled),
        Fact("grade", "", "", f"{grade.word}: {why}"),
    ]
