"""What the measurements show of memory: where latency is native, where paging begins, and how many pages are loaded.

Each observation is a function of the stored points and nothing else; it is None where nothing was measured that it
could be made from.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import numpy as np

from sectum.lab.study.cases import Sweep
from sectum.lab.study.fits import Numbers, grouped, quantile, spread
from sectum.lab.study.points import MeasuredCase, Point, Study
from sectum.ort.page_trace import page_trace
from sectum.paging.replacement import ReplacementPolicy, steady_state, working_set_pages
from sectum.units import MIB, PAGE_BYTES

TABULATED = (0.98, 1.02, 1.1, 1.35, 2.0, 3.0)
"""Working set / EPC: the columns of the table of curves."""
SECOND_CHANCE = str(ReplacementPolicy.SECOND_CHANCE)
_TIGHT_EPC_BYTES = 16 * MIB  # of the sweep of batches: the EPC whose loads are told


def inside(study: Study) -> Numbers | None:
    """While everything fits: latency in the enclave over native latency, and whether a nearly full EPC is slower."""
    fitting = [point for point in study.of() if not point.is_over_committed]
    if not fitting:
        return None
    kinds = {}
    for kind, points in grouped(fitting, lambda point: point.case.kind).items():
        ratios = [point.slowdown for point in points]
        near = [p.latency_ms / p.unlimited_ms for p in points if 0.8 <= p.working_set_over_epc <= 1]
        kinds[str(kind)] = {
            "n": len(ratios),
            "over_native": statistics.median(ratios),
            "over_native_low": quantile(ratios, 0.1),
            "over_native_high": quantile(ratios, 0.9),
            "near_full_over_unlimited": statistics.median(near) if near else None,
        }
    return {"kinds": kinds}


def cliff(study: Study) -> Numbers | None:
    """Computation held, memory varied: latency just below and just above each EPC."""
    steps = []
    for epc_bytes, points in sorted(grouped(study.of(Sweep.MEMORY), lambda point: point.epc_bytes or 0).items()):
        below = [point for point in points if epc_bytes and not point.is_over_committed]
        above = [point for point in points if epc_bytes and point.is_over_committed]
        if below and above:
            last, first = max(below, key=_ratio), min(above, key=_ratio)
            steps.append(
                {
                    "epc_mib": epc_bytes / MIB,
                    "last_fitting_mib": last.case.working_set_bytes / MIB,
                    "last_fitting_ms": last.latency_ms,
                    "first_paging_mib": first.case.working_set_bytes / MIB,
                    "first_paging_ms": first.latency_ms,
                    "step": first.latency_ms / last.latency_ms,
                    "flat_below": spread(point.latency_ms for point in below),
                    "use_us": statistics.median(map(_use_us, above)),
                    "use_us_spread": spread(map(_use_us, above)),
                    "loads_over_uses": statistics.median(point.loads / _page_uses(point) for point in above),
                }
            )
    return {"steps": steps} if steps else None


def reuse(study: Study) -> Numbers | None:
    """Pages loaded over pages of the working set, by access order, policy and working set / EPC.

    The pager has no policy ``lru``: that one is simulated, at the same ratios.
    """
    curves = []
    by_curve = grouped(study.of(Sweep.ORDER), lambda p: (p.case.kind, p.case.order, p.case.policy))
    for (kind, order, policy), points in sorted(by_curve.items()):
        limited = sorted((point for point in points if point.epc_bytes), key=_ratio)
        ratios = [point.working_set_over_epc for point in limited]
        if not ratios or ratios[-1] < 2:
            continue
        shares = [point.loaded_share for point in limited]
        curves.append(_curve(str(kind), str(order), policy, ratios, shares, simulated=False))
        if policy == SECOND_CHANCE:
            shares = _simulated_shares(limited[0].case, ratios)
            curves.append(_curve(str(kind), str(order), str(ReplacementPolicy.LRU), ratios, shares, simulated=True))
    return {"curves": curves} if curves else None


def _simulated_shares(case: MeasuredCase, ratios: Iterable[float]) -> list[float]:
    """Pages that LRU would load in a steady-state inference, over pages of the working set."""
    trace = page_trace(case.graph, threads=case.threads)
    pages = working_set_pages(trace.touches)
    epcs = (max(1, int(pages / ratio)) for ratio in ratios)
    return [steady_state(trace.touches_under(epc), epc, ReplacementPolicy.LRU).loads / pages for epc in epcs]


def _curve(kind: str, order: str, policy: str, ratios: list[float], shares: list[float], *, simulated: bool) -> Numbers:
    def at(ratio: float) -> float:
        return shares[min(range(len(shares)), key=lambda index: abs(ratios[index] - ratio))]

    return {
        "kind": kind,
        "order": order,
        "policy": policy,
        "simulated": simulated,
        "working_set_over_epc": ratios,
        "loaded_share": shares,
        "at": {f"{ratio:g}": at(ratio) for ratio in TABULATED},
    }


def batches(study: Study) -> Numbers | None:
    """Images varied: which part of the working set grows with them."""
    kinds = {}
    for kind, points in sorted(grouped(study.of(Sweep.BATCH), lambda point: point.case.kind).items()):
        sets = {point.case.batch: point.case for point in points}
        if len(sets) < 3:
            continue
        images = sorted(sets)
        mib = [sets[batch].working_set_bytes / MIB for batch in images]
        slope, intercept = np.polyfit(images, mib, 1)
        tight = sorted((p for p in points if p.epc_bytes == _TIGHT_EPC_BYTES), key=lambda p: p.case.batch)
        kinds[str(kind)] = {
            "images": images,
            "working_set_mib": mib,
            "weights_mib": sets[images[0]].weight_bytes / MIB,
            "each_image_mib": float(slope),
            "without_images_mib": float(intercept),
            "residual_mib": float(np.abs(np.polyval([slope, intercept], images) - mib).max()),
            "loads_16_mib": [point.loads for point in tight],
            "ms_per_image_16_mib": [point.latency_ms / point.case.batch for point in tight],
            "ms_per_image_native": [sets[batch].native_ms / batch for batch in images],
        }
    return {"kinds": kinds} if kinds else None


def _page_uses(point: Point) -> int:
    """Pages of matrices in all whole rounds of an inference, however often each is used."""
    rounds = point.case.steps // point.case.distinct
    return rounds * point.case.distinct * MIB // PAGE_BYTES


def _use_us(point: Point) -> float:
    return 1e3 * point.extra_ms / _page_uses(point)


def _ratio(point: Point) -> float:
    return point.working_set_over_epc
