"""A prediction in one or two sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.cli.render.figures import milliseconds, number, percent, times
from sectum.cli.render.untrusted import printable
from sectum.predict.prediction import GUESS
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.predict.prediction import Prediction

EDGE = (0.05, 0.95)
"""Between these probabilities of paging the verdict is uncertain, and says so."""

SLOWER = 1.05
"""From this ratio on, the enclave is called slower."""

CLOSE = 0.05
"""Where working set and EPC differ by no more of the EPC, it just fits, or just does not. Working sets of all but one
network in two hundred are predicted within so much."""


def verdict(prediction: Prediction) -> str:
    """Say whether the network fits in the EPC, and what one inference costs."""
    name = printable(prediction.model, limit=60) or "The network"
    memory = prediction.memory
    working_set = format_bytes(memory.working_set_bytes)
    if memory.epc_bytes is None:
        return f"{name} has a working set of {working_set}. {_takes(prediction)}, with unlimited memory."
    sizes = f"its working set is {working_set} and the EPC holds {format_bytes(memory.epc_bytes)}"
    takes = _takes(prediction)
    if abs(memory.epc_bytes - memory.working_set_bytes) <= CLOSE * memory.epc_bytes:
        outcome = "just does not fit" if prediction.overcommit.predicted else "just fits"
        plan = format_bytes(round((1 + CLOSE) * memory.working_set_bytes), round_up=True)
        return f"{name} {outcome}: {sizes}. Plan for an EPC of {plan}. {takes}."
    if EDGE[0] < prediction.overcommit.probability < EDGE[1]:
        outcome = "pages" if prediction.overcommit.predicted else "fits"
        return f"{name} is at the edge: {sizes}. It probably {outcome}. {takes}."
    if not prediction.overcommit.predicted:
        return f"{name} fits: {sizes}. {takes}."
    if prediction.grade.word == GUESS:
        return f"{name} does not fit: {sizes}. {takes}."
    latency = prediction.latency_ms
    share = percent(prediction.breakdown_ms.paging / latency) if latency > 0 else "0 %"
    return f"{name} does not fit: {sizes}. {takes}; {share} of that is paging."


def _takes(prediction: Prediction) -> str:
    if prediction.grade.word == GUESS:
        return f"One inference takes {between(prediction)}, a guess: run 'sectum measure' to know"
    latency, native = prediction.latency_ms, prediction.native_ms
    takes = f"One inference takes about {milliseconds(latency)}"
    ratio = latency / native if native > 0 else 1.0
    if prediction.memory.epc_bytes is None:
        return f"{takes}, {times(ratio)} as long as outside an enclave" if ratio >= SLOWER else takes
    return f"{takes}, {times(ratio) if ratio >= SLOWER else 'about'} as long as outside an enclave"


def between(prediction: Prediction) -> str:
    """The interval in words."""
    return f"between {number(prediction.interval_ms.low)} and {milliseconds(prediction.interval_ms.high)}"
