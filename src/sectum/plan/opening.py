"""What it costs to open sealed weights on this machine, and to start a stage."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sectum.predict.predictor import Predictor
from sectum.units import MIB

if TYPE_CHECKING:
    from sectum.enclave.streaming.sealed_weights import SealedWeights

MEASURED, DEFAULT = "measured", "default"
SMALL_BYTES, LARGE_BYTES = 8 * MIB, 32 * MIB
"""What a stage's buffer takes where a cache of the processor holds it, and where none does."""
_DEFAULT_SMALL_MS_PER_MIB, _DEFAULT_LARGE_MS_PER_MIB = 0.166, 0.186
"""CPU time of one virtual core of an AMD EPYC (Zen 4) without other work, with the copy into the enclave."""
_DEFAULT_INT8_MS_PER_MIB = 0.122
"""The same, beside other work."""
_STAGE_MS = 0.055
"""MobileNetV3 small and large, cut into 2 to 40 stages, took 0.05 to 0.06 ms more for each on the same machine.

It is not measured on each machine: a stage of one small operator starts in 0.04 to 0.18 ms, depending on what others
have left of its code and data in the caches, so only whole networks tell.
"""
_BESIDE_COMPUTING = 1.4
"""Opening ahead took so many times as long as alone beside AlexNet's dense layers, on the same machine.

They use much of the memory's bandwidth, and computed as fast as alone.
"""
_BYTES, _TIMES = 32 * MIB, 4  # more than a cache holds, so the sealed copy comes from memory, as that of a network does


@dataclass(frozen=True, slots=True)
class OpeningCosts:
    """Costs beside arithmetic and paging.

    Attributes:
        small_ms_per_mib: to open a MiB of the weights of a stage of at most `SMALL_BYTES`, with one thread.
        large_ms_per_mib: the same for a stage of at least `LARGE_BYTES`; between the two, the cost grows with the
            logarithm of the size.
        int8_ms_per_mib: to open what a MiB of weights takes as int8, and to widen it. The size makes no difference.
        stage_ms: to start a stage.
        kind: whether opening was ``"measured"`` on this machine, or is the ``"default"``.
    """

    small_ms_per_mib: float = _DEFAULT_SMALL_MS_PER_MIB
    large_ms_per_mib: float = _DEFAULT_LARGE_MS_PER_MIB
    int8_ms_per_mib: float = _DEFAULT_INT8_MS_PER_MIB
    stage_ms: float = _STAGE_MS
    kind: str = DEFAULT

    def open_ms(self, weight_bytes: int, *, int8: bool) -> float:
        """To open the weights of a stage; the bytes are those before sealing."""
        if int8:
            return weight_bytes / MIB * self.int8_ms_per_mib
        least, most = self.small_ms_per_mib, self.large_ms_per_mib
        within = min(max(weight_bytes, SMALL_BYTES), LARGE_BYTES)
        share = math.log(within / SMALL_BYTES) / math.log(LARGE_BYTES / SMALL_BYTES)
        return weight_bytes / MIB * (least + share * (most - least))

    def beside_computing(self) -> OpeningCosts:
        """The costs of a thread that opens while others compute."""
        return replace(
            self,
            small_ms_per_mib=self.small_ms_per_mib * _BESIDE_COMPUTING,
            large_ms_per_mib=self.large_ms_per_mib * _BESIDE_COMPUTING,
            int8_ms_per_mib=self.int8_ms_per_mib * _BESIDE_COMPUTING,
        )

    def least_ms_per_mib(self, *, int8: bool) -> float:
        """What no stage takes less than for each MiB."""
        return self.int8_ms_per_mib if int8 else min(self.small_ms_per_mib, self.large_ms_per_mib)

    def to_json(self, *, int8: bool) -> dict[str, Any]:
        """The costs that a plan used, as JSON types."""
        small, large = (self.open_ms(size, int8=int8) / (size / MIB) for size in (SMALL_BYTES, LARGE_BYTES))
        return {
            "small_ms_per_mib": small, "large_ms_per_mib": large, "stage_ms": self.stage_ms, "kind": self.kind,
        }  # fmt: skip


def measured_costs(*, int8: bool = False) -> OpeningCosts:
    """Measure how long this machine takes to open weights: about 0.15 s.

    Args:
        int8: whether to measure weights that are stored as int8, too.

    Raises:
        EnclaveUnavailable: what widens int8 cannot be compiled here.
    """
    from sectum.enclave.streaming.sealed_weights import SealedWeights

    small = [SMALL_BYTES] * (_BYTES // SMALL_BYTES)
    small_ms = _opening_ms_per_mib(SealedWeights(small), small)
    large_ms = _opening_ms_per_mib(SealedWeights([_BYTES]), [_BYTES])
    if not int8:
        return OpeningCosts(small_ms, large_ms, kind=MEASURED)
    from sectum.enclave.streaming.allocator import Allocator
    from sectum.enclave.streaming.library import streaming_library

    widen = Allocator(str(streaming_library())).widen
    int8_ms = _opening_ms_per_mib(SealedWeights([_BYTES], [[(0, _BYTES)]], widen), [_BYTES])
    return OpeningCosts(small_ms, large_ms, int8_ms, kind=MEASURED)


def _opening_ms_per_mib(sealed: SealedWeights, sizes: Sequence[int]) -> float:
    """Open stages of these sizes one after the other into the same buffer; the least time of a few rounds."""
    import numpy as np

    plain = np.zeros(max(sizes), np.uint8)
    for stage in range(len(sizes)):
        sealed.seal(stage, plain)
    took_ms = []
    for _ in range(_TIMES):
        start = time.thread_time()
        for stage in range(len(sizes)):
            sealed.open(stage, plain)
        took_ms.append(1e3 * (time.thread_time() - start))
    return min(took_ms) / (sum(sizes) / MIB)


def costs_for(predictor: Predictor, *, int8: bool = False) -> OpeningCosts:
    """The costs that go with a predictor: measured where this machine was calibrated.

    Without a calibration its predictions are of the machine that the default costs are of.
    """
    return OpeningCosts() if predictor.calibration is None else measured_costs(int8=int8)
