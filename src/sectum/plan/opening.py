"""What it costs to open sealed weights on this machine, and to start a stage."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sectum.predict.predictor import Predictor
from sectum.units import MIB

if TYPE_CHECKING:
    from sectum.enclave.streaming.sealed_weights import SealedWeights

MEASURED, DEFAULT = "measured", "default"
_DEFAULT_OPEN_MS_PER_MIB = 0.2
"""CPU time of one virtual core of an AMD EPYC (Zen 4), with the copy into the enclave, beside other work."""
_DEFAULT_OPEN_INT8_MS_PER_MIB = 0.13
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
        open_int8_ms_per_mib: to open what a MiB of weights takes as int8, and to widen it.
    """

    open_ms_per_mib: float = _DEFAULT_OPEN_MS_PER_MIB
    stage_ms: float = _STAGE_MS
    kind: str = DEFAULT
    open_int8_ms_per_mib: float = _DEFAULT_OPEN_INT8_MS_PER_MIB

    def ms_per_mib(self, *, int8: bool) -> float:
        """To open a MiB of weights."""
        return self.open_int8_ms_per_mib if int8 else self.open_ms_per_mib


def measured_costs(*, int8: bool = False) -> OpeningCosts:
    """Measure how long this machine takes to open weights.

    Args:
        int8: whether to measure weights that are stored as int8, too.

    Raises:
        EnclaveUnavailable: what widens int8 cannot be compiled here.
    """
    from sectum.enclave.streaming.sealed_weights import SealedWeights

    whole_ms = _opening_ms_per_mib(SealedWeights([_BYTES]))
    if not int8:
        return OpeningCosts(open_ms_per_mib=whole_ms, kind=MEASURED)
    from sectum.enclave.streaming.allocator import Allocator
    from sectum.enclave.streaming.library import streaming_library

    widen = Allocator(str(streaming_library())).widen
    int8_ms = _opening_ms_per_mib(SealedWeights([_BYTES], [[(0, _BYTES)]], widen))
    return OpeningCosts(open_ms_per_mib=whole_ms, kind=MEASURED, open_int8_ms_per_mib=int8_ms)


def _opening_ms_per_mib(sealed: SealedWeights) -> float:
    import numpy as np

    plain = np.zeros(_BYTES, np.uint8)
    sealed.seal(0, plain)
    took_ms = []
    for _ in range(_TIMES):
        start = time.thread_time()
        sealed.open(0, plain)
        took_ms.append(1e3 * (time.thread_time() - start))
    return min(took_ms) / (_BYTES / MIB)


def costs_for(predictor: Predictor, *, int8: bool = False) -> OpeningCosts:
    """The costs that go with a predictor: measured where this machine was calibrated.

    Without a calibration its predictions are of the machine that the default costs are of.
    """
    return OpeningCosts() if predictor.calibration is None else measured_costs(int8=int8)
