"""A prediction in one or two sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.cli.render.figures import milliseconds, percent, times
from sectum.cli.render.untrusted import printable
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.predict.prediction import Prediction

EDGE = (0.05, 0.95)
"""Between these probabilities of paging the verdict is uncertain, and says so."""

SLOWER = 1.05
"""From this ratio on, the enclave is called slower."""


def verdict(prediction: Prediction) -> str:
    """Say whether the network fits in the EPC, and what one inference costs."""
    name = printable(prediction.model, limit=60) or "The network"
    latency, native, memory = prediction.latency_ms, prediction.native_ms, prediction.memory
    working_set = format_bytes(memory.working_set_bytes)
    takes = f"One inference takes about {milliseconds(latency)}"
    ratio = latency / native if native > 0 else 1.0
    if memory.epc_bytes is None:
        slower = f", {times(ratio)} as long as outside an enclave" if ratio >= SLOWER else ""
        return f"{name} has a working set of {working_set}. {takes}{slower}, with unlimited memory."
    sizes = f"its working set is {working_set} and the EPC holds {format_bytes(memory.epc_bytes)}"
    takes += f", {times(ratio) if ratio >= SLOWER else 'about'} as long as outside an enclave"
    if EDGE[0] < prediction.overcommit.probability < EDGE[1]:
        outcome = "pages" if prediction.overcommit.predicted else "just fits"
        return f"{name} is at the edge: {sizes}. It probably {outcome}. {takes}."
    if prediction.overcommit.predicted:
        share = percent(prediction.breakdown_ms.paging / latency) if latency > 0 else "0 %"
        return f"{name} does not fit: {sizes}. {takes}; {share} of that is paging."
    return f"{name} fits: {sizes}. {takes}."
