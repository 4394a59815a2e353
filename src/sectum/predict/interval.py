"""The interval of a prediction: where nine of ten held-out networks lay.

The widths were learned on networks whose operators are all of measured kinds; they grow with the spread of the kinds
that a network spends its time in (`sectum.predict.spread`). The part of the time that lies in other operators has the
bounds of `sectum.predict.bounds` instead. On a machine whose own times varied while it was calibrated, the widths grow
with that variation: the errors are independent, so their squares add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sectum.enclave.profile import Profile
from sectum.predict.cost import SOFTEPC, InferenceCost, all_paging_ms
from sectum.predict.operator_model import OperatorModel
from sectum.predict.prediction import Interval

# Nine of ten published measurements were so near to what a profile says that was fitted without that network, given its
# native latency; with one thread, and with four. See docs/sgx-profile.md.
_HARDWARE_OFF, _HARDWARE_OFF_THREADS = 0.08, 0.31

_LEAST_DOUBT = 0.05
"""Between this probability of over-commitment and one less this, the interval covers both regimes."""


def interval(
    operators: OperatorModel, profile: Profile, inference: InferenceCost, probability: float, variation: float = 0.0
) -> Interval:
    """The 90 % interval of an inference's latency.

    Args:
        operators: whose widths were learned.
        profile: of the enclave.
        inference: what it is predicted to cost.
        probability: that it pages.
        variation: of this machine's times while it was calibrated, see `Calibration.variation`.
    """
    network, breakdown, outside = inference.network, inference.breakdown_ms, inference.outside_ms
    native = breakdown.compute + breakdown.memory
    certain = float(network.native_ms.sum()) if network.native_source == "given" else 0.0
    spread = operators.spread.of(network.features, network.native_ms)
    ends: list[float] = []
    for over_committed, paging in _pagings(operators, profile, inference, probability):
        regime = "pages" if over_committed else "native" if profile.epc_pages is None else "fits"
        low, high = operators.around(regime, spread, variation)
        inside = max(0.0, native + paging - certain - outside.predicted)
        ends += [certain + inside * low + outside.least, certain + inside * high + outside.most]
    return _widened_for_hardware(ends, profile, network.threads)


def _pagings(
    operators: OperatorModel, profile: Profile, inference: InferenceCost, probability: float
) -> Iterator[tuple[bool, float]]:
    """Whether the inference pages, and for how many milliseconds: as predicted, and as else it may be."""
    network = inference.network
    yield inference.counts.over_committed, inference.breakdown_ms.paging
    if profile.epc_pages is None:
        return
    pages, unsure = network.trace.pages, network.uncertain_pages
    others = []
    if _LEAST_DOUBT < probability < 1 - _LEAST_DOUBT:
        others += [pages - 1, pages]
    if unsure:  # a working set that is larger by a factor is as an EPC that is smaller by it
        others += [profile.epc_pages * pages // (pages + unsure), profile.epc_pages * pages // max(1, pages - unsure)]
    for epc_pages in others:
        near = network.counts(profile, max(1, min(epc_pages, pages)))
        if unsure or near.over_committed != inference.counts.over_committed:
            yield near.over_committed, all_paging_ms(operators, profile, network, near)


def _widened_for_hardware(ends: Sequence[float], profile: Profile, threads: int) -> Interval:
    off = 0.0
    if profile.epc_pages is not None and profile.name != SOFTEPC:
        off = _HARDWARE_OFF if threads == 1 else _HARDWARE_OFF_THREADS
    least, most = profile.factor_range
    return Interval(min(ends) * (1 - off) * least, max(ends) * (1 + off) * most)
