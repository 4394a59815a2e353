"""What it costs to open sealed weights on this machine, and to start a stage."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sectum.predict.predictor import Predictor
from sectum.units import MIB

MEASURED, DEFAULT = "measured", "default"
_DEFAULT_OPEN_MS_PER_MIB = 0.2
"""CPU time of one virtual core of an AMD EPYC (Zen 4), with the copy into the enclave, beside other work."""
_STAGE_MS = 0.12
"""A call of the runtime, and handing values on: measured on the same machine."""
_BYTES, _TIMES = 32 * MIB, 4  # with their sealed copy more than a cache holds


@dataclass(frozen=True, slots=True)
class OpeningCosts:
    """Costs beside arithmetic and paging.

    Attributes:
        open_ms_per_mib: to open a MiB of weights with one thread.
        stage_ms: to start a stage.
        kind: ``"measured"`` on this machine, or ``"default"``.
    """

    open_ms_per_mib: float = _DEFAULT_OPEN_MS_PER_MIB
    stage_ms: float = _STAGE_MS
    kind: str = DEFAULT


def measured_costs() -> OpeningCosts:
    """Measure how long this machine takes to open weights."""
    import numpy as np

    from sectum.enclave.streaming.sealed_weights import SealedWeights

    sealed = SealedWeights([_BYTES])
    plain = np.zeros(_BYTES, np.uint8)
    sealed.seal(0, plain)
    took_ms = []
    for _ in range(_TIMES):
        start = time.thread_time()
        sealed.open(0, plain)
        took_ms.append(1e3 * (time.thread_time() - start))
    return OpeningCosts(open_ms_per_mib=min(took_ms) / (_BYTES / MIB), kind=MEASURED)


def costs_for(predictor: Predictor) -> OpeningCosts:
    """The costs that go with a predictor: measured where this machine was calibrated.

    Without a calibration its predictions are of the machine that the default costs are of.
    """
    return OpeningCosts() if predictor.calibration is None else measured_costs()
