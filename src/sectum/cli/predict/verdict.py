"""A prediction said in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.cli.render.figures import mebibytes, milliseconds, percent, times
from sectum.cli.render.untrusted import printable

if TYPE_CHECKING:
    from sectum.predict.prediction import Prediction

EDGE = (0.05, 0.95)
"""Between these probabilities of paging the sentence says that it may go either way."""

SLOWER = 1.05
"""From this ratio on an enclave is said to be slower than outside."""


def verdict(prediction: Prediction) -> str:
    """Say whether the network fits the enclave and what an inference costs there."""
    name = printable(prediction.model, limit=60) or "The network"
    latency, native = prediction.latency_ms, prediction.native_ms
    memory = prediction.memory
    working_set = mebibytes(memory.working_set_bytes)
    if memory.epc_bytes is None:
        return (
            f"{name} touches {working_set} in every inference and takes about {milliseconds(latency)} "
            "with unlimited memory."
        )
    epc = mebibytes(memory.epc_bytes)
    ratio = latency / native if native > 0 else 1.0
    slower = f"{times(ratio)} as long as" if ratio >= SLOWER else "about as long as"
    slower += " outside an enclave"
    if EDGE[0] < prediction.overcommit.probability < EDGE[1]:
        tendency = "pages" if prediction.overcommit.predicted else "just fits"
        return (
            f"{name} is at the edge: it touches {working_set} in every inference and the enclave has {epc}. "
            f"It probably {tendency}, and then takes about {milliseconds(latency)}, {slower}."
        )
    if prediction.overcommit.predicted:
        share = percent(prediction.breakdown_ms.paging / latency) if latency > 0 else "0 %"
        return (
            f"{name} does not fit: it touches {working_set} in every inference and the enclave has {epc}. "
            f"It takes about {milliseconds(latency)}, {slower}; {share} of that is paging."
        )
    return (
        f"{name} fits: it touches {working_set} of the enclave's {epc} and takes about "
        f"{milliseconds(latency)}, {slower}."
    )
