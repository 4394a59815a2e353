"""The interval of a prediction: where nine of ten held-out networks lay."""

from __future__ import annotations

from collections.abc import Sequence

from sectum.enclave.profile import Profile
from sectum.predict.cost import SOFTEPC, InferenceCost, all_paging_ms
from sectum.predict.operator_model import OperatorModel
from sectum.predict.prediction import Interval

# Nine of ten published measurements were so near to what a profile says that was fitted without that network, given its
# native latency; with one thread, and with four. See docs/sgx-profile.md.
_HARDWARE_OFF, _HARDWARE_OFF_THREADS = 0.08, 0.31
UNKNOWN_OPERATOR_FACTOR = 4.0
"""How many times its estimate an operator without a cost model may take, for the interval's upper end."""

_LEAST_DOUBT = 0.05
"""Between this probability of over-commitment and one less this, the interval covers both regimes."""


def interval(operators: OperatorModel, profile: Profile, inference: InferenceCost, probability: float) -> Interval:
    """The 90 % interval of an inference's latency.

    Args:
        operators: knows how far predictions were off in each regime.
        profile: the enclave.
        inference: as predicted.
        probability: that the inference pages.
    """
    network, breakdown, unmodelled_ms = inference.network, inference.breakdown_ms, inference.unmodelled_ms
    native = breakdown.compute + breakdown.memory
    certain = float(network.native_ms.sum()) if network.native_source == "given" else 0.0
    pagings = {inference.counts.over_committed: breakdown.paging}
    if profile.epc_pages is not None and _LEAST_DOUBT < probability < 1 - _LEAST_DOUBT:
        for epc_pages in (network.trace.pages - 1, network.trace.pages):
            near = network.counts(profile, max(1, epc_pages))
            pagings.setdefault(near.over_committed, all_paging_ms(operators, profile, network, near))
    ends: list[float] = []
    for over_committed, paging in pagings.items():
        regime = "pages" if over_committed else "native" if profile.epc_pages is None else "fits"
        low, high = operators.widths[regime]
        unsure = native + paging - certain
        ends += [
            certain + max(0.0, unsure - unmodelled_ms) * low,
            certain + unsure * high + UNKNOWN_OPERATOR_FACTOR * unmodelled_ms,
        ]
    return _widened_for_hardware(ends, profile, network.threads)


def _widened_for_hardware(ends: Sequence[float], profile: Profile, threads: int) -> Interval:
    off = 0.0
    if profile.epc_pages is not None and profile.name != SOFTEPC:
        off = _HARDWARE_OFF if threads == 1 else _HARDWARE_OFF_THREADS
    least, most = profile.factor_range
    return Interval(min(ends) * (1 - off) * least, max(ends) * (1 + off) * most)
