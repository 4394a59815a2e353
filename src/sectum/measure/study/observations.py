"""What the measurements show, as numbers: each observation is a function of the stored points and nothing else.

Of each network some quantity is held while another varies; see `sectum.measure.study.cases`. An observation is
None where nothing was measured that it could be made from.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sectum.enclave.replacement import Policy
from sectum.graph.ir import Graph
from sectum.measure.study.cases import Sweep
from sectum.measure.study.fits import close_share, grouped, median_costs, page_costs, quantile, spread
from sectum.measure.study.networks import Kind
from sectum.measure.study.points import Point, Profile, Study
from sectum.measure.study.simulated import loaded_share, trace
from sectum.units import MIB, PAGE_BYTES

SECOND_CHANCE = str(Policy.SECOND_CHANCE)
TOLD_OCCUPATIONS = (0.98, 1.02, 1.1, 1.35, 2.0, 3.0)
"""At which the curves are told in numbers."""
Numbers = dict[str, Any]
"""Numbers by name, with their units in the names; some are lists of such."""


def inside(study: Study) -> Numbers | None:
    """While everything fits: latency in the enclave over native latency, and how it moves with occupation."""
    fitting = [point for point in study.of() if not point.is_over_committed]
    if not fitting:
        return None
    kinds = {}
    for kind, points in grouped(fitting, lambda point: point.network.kind).items():
        ratios = [point.slowdown for point in points]
        near = [p.latency_ms / p.unlimited_ms for p in points if 0.8 <= p.occupation <= 1]
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
            last, first = max(below, key=_occupation), min(above, key=_occupation)
            steps.append(
                {
                    "epc_mib": epc_bytes / MIB,
                    "last_fitting_mib": last.network.working_set_bytes / MIB,
                    "last_fitting_ms": last.latency_ms,
                    "first_paging_mib": first.network.working_set_bytes / MIB,
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
    """Pages loaded over pages of the working set, by order of accesses, policy and occupation.

    The pager has no policy ``lru``: that one is simulated, at the same occupations.
    """
    curves = []
    by_curve = grouped(study.of(Sweep.ORDER), lambda p: (p.network.kind, p.network.order, p.network.policy))
    for (kind, order, policy), points in sorted(by_curve.items()):
        limited = sorted((point for point in points if point.epc_bytes), key=_occupation)
        occupations = [point.occupation for point in limited]
        if not occupations or occupations[-1] < 2:
            continue
        shares = [point.loaded_share for point in limited]
        curves.append(_curve(str(kind), str(order), policy, occupations, shares, simulated=False))
        if policy == SECOND_CHANCE:
            pages = trace(limited[0].network)
            shares = [loaded_share(pages, occupation, Policy.LRU) for occupation in occupations]
            curves.append(_curve(str(kind), str(order), str(Policy.LRU), occupations, shares, simulated=True))
    return {"curves": curves} if curves else None


def _curve(
    kind: str, order: str, policy: str, occupations: list[float], shares: list[float], *, simulated: bool
) -> Numbers:
    def at(occupation: float) -> float:
        return shares[min(range(len(shares)), key=lambda index: abs(occupations[index] - occupation))]

    return {
        "kind": kind,
        "order": order,
        "policy": policy,
        "simulated": simulated,
        "occupation": occupations,
        "loaded_share": shares,
        "at": {f"{occupation:g}": at(occupation) for occupation in TOLD_OCCUPATIONS},
    }


def page_cost(study: Study) -> Numbers | None:
    """What a loaded page costs, over everything that may decide it, and what a minor fault does."""
    points = _paging(study)
    if len(points) < 4:
        return None
    costs = [point.load_us for point in points]
    load_us, minor_us = page_costs(points)
    intensity = [point.network.flops / point.network.working_set_bytes for point in points]
    held = [p for p in points if p.network.sweep is Sweep.COMPUTATION and p.network.kind is Kind.WEIGHTS]
    return {
        "n": len(points),
        "load_us": statistics.median(costs),
        "load_us_low": quantile(costs, 0.1),
        "load_us_high": quantile(costs, 0.9),
        "within_10_percent": close_share(cost / statistics.median(costs) - 1 for cost in costs),
        "fitted_load_us": load_us,
        "fitted_minor_fault_us": minor_us,
        "by_kind": median_costs(points, lambda point: str(point.network.kind)),
        "by_policy": median_costs(points, lambda point: point.network.policy),
        "by_epc_mib": median_costs(
            [p for p in points if p.network.sweep is Sweep.MEMORY], lambda point: (point.epc_bytes or 0) / MIB
        ),
        "by_gflop": median_costs(held, lambda point: float(f"{point.network.flops / 1e9:.2g}")),
        "intensity_flop_per_byte": [min(intensity), max(intensity)],
    }  # fmt: skip


def addition(study: Study) -> Numbers | None:
    """Computation varied: the latency that native time and page costs add up to, beside the measured one.

    The costs are fitted to the other sweeps.
    """
    points = _paging(study, Sweep.COMPUTATION)
    others = _paging(study, Sweep.MEMORY, Sweep.ORDER, Sweep.BATCH)
    if not points or len(others) < 4:
        return None
    load_us, minor_us = page_costs(others)
    predicted = [p.network.native_ms + (load_us * p.loads + minor_us * p.minor_faults) / 1e3 for p in points]
    errors = [guess / point.latency_ms - 1 for guess, point in zip(predicted, points, strict=True)]
    return {
        "n": len(points),
        "load_us": load_us,
        "minor_fault_us": minor_us,
        "median_error": statistics.median(map(abs, errors)),
        "bias": statistics.median(errors),
        "largest_error": max(map(abs, errors)),
        "within_10_percent": close_share(errors),
    }


def slowdown(study: Study) -> Numbers | None:
    """Computation varied, occupation held: the ratio to native latency, and what a constant ratio would predict."""
    points = _paging(study, Sweep.COMPUTATION)
    if not points:
        return None
    ratios = [point.slowdown for point in points]
    constant = float(np.exp(np.mean(np.log(ratios))))
    errors = [constant * point.network.native_ms / point.latency_ms - 1 for point in points]
    table = [
        {
            "kind": str(point.network.kind),
            "occupation": point.occupation,
            "flop_per_byte": point.network.flops / point.network.working_set_bytes,
            "native_ms": point.network.native_ms,
            "latency_ms": point.latency_ms,
            "slowdown": point.slowdown,
        }
        for point in sorted(points, key=lambda p: (p.network.kind, round(p.occupation, 2), p.network.flops))
    ]
    return {
        "n": len(points),
        "least": min(ratios),
        "most": max(ratios),
        "range": max(ratios) / min(ratios),
        "best_constant": constant,
        "constant_median_error": statistics.median(map(abs, errors)),
        "constant_within_10_percent": close_share(errors),
        "points": table,
    }


def batches(study: Study) -> Numbers | None:
    """Images varied: what of the working set grows with them."""
    kinds = {}
    for kind, points in sorted(grouped(study.of(Sweep.BATCH), lambda point: point.network.kind).items()):
        sets = {point.network.batch: point.network for point in points}
        if len(sets) < 3:
            continue
        images = sorted(sets)
        mib = [sets[batch].working_set_bytes / MIB for batch in images]
        slope, intercept = np.polyfit(images, mib, 1)
        tight = sorted((p for p in points if p.epc_bytes == 16 * MIB), key=lambda p: p.network.batch)
        kinds[str(kind)] = {
            "images": images,
            "working_set_mib": mib,
            "weights_mib": sets[images[0]].weight_bytes / MIB,
            "each_image_mib": float(slope),
            "without_images_mib": float(intercept),
            "residual_mib": float(np.abs(np.polyval([slope, intercept], images) - mib).max()),
            "loads_16_mib": [point.loads for point in tight],
            "ms_per_image_16_mib": [point.latency_ms / point.network.batch for point in tight],
            "ms_per_image_native": [sets[batch].native_ms / batch for batch in images],
        }
    return {"kinds": kinds} if kinds else None


def operators(study: Study) -> Numbers | None:
    """Time of convolutions that use a matrix of their own, and of equal ones that share one, in each place."""
    by_network = grouped(study.profiles, lambda profile: profile.network.key)
    for profiles in by_network.values():
        native = next((p for p in profiles if p.epc_bytes is None), None)
        limited = sorted((p for p in profiles if p.epc_bytes), key=lambda p: p.epc_bytes or 0)
        if native is None or len(limited) < 2 or native.network.threads > 1:
            continue
        own, shared = _own_and_shared(native.network.graph)
        tight, roomy = limited[0], limited[-1]

        pages = MIB // PAGE_BYTES
        return {
            "own_native_ms": _median_ms(native, own),
            "shared_native_ms": _median_ms(native, shared),
            "own_inside_ms": _median_ms(roomy, own),
            "shared_inside_ms": _median_ms(roomy, shared),
            "own_paging_ms": _median_ms(tight, own),
            "shared_paging_ms": _median_ms(tight, shared),
            "own_page_us": 1e3 * (_median_ms(tight, own) - _median_ms(native, own)) / pages,
            "occupation": native.network.working_set_bytes / (tight.epc_bytes or 1),
        }
    return None


def threads(study: Study) -> Numbers | None:
    """The same cases with one and with more compute threads: pages, and what one costs in wall time."""
    one = {_case(point): point for point in study.of(Sweep.COMPUTATION)}
    pairs = [
        (one[_case(point)], point)
        for point in study.points
        if point.network.threads > 1 and point.network.sweep is Sweep.COMPUTATION and _case(point) in one
    ]
    paging = [(a, b) for a, b in pairs if a.is_over_committed and b.is_over_committed]
    if not paging:
        return None
    return {
        "n": len(paging),
        "threads": paging[0][1].network.threads,
        "loads_ratio": statistics.median(b.loads / a.loads for a, b in paging),
        "native_ratio": statistics.median(b.network.native_ms / a.network.native_ms for a, b in paging),
        "load_us_one": statistics.median(a.load_us for a, _ in paging),
        "load_us_more": statistics.median(b.load_us for _, b in paging),
    }


OBSERVATIONS: dict[str, Callable[[Study], Numbers | None]] = {
    "inside": inside,
    "cliff": cliff,
    "reuse": reuse,
    "page-cost": page_cost,
    "addition": addition,
    "slowdown": slowdown,
    "batch": batches,
    "operators": operators,
    "threads": threads,
}
"""By the names that `sectum study show --only` takes."""


def _median_ms(profile: Profile, which: Sequence[int]) -> float:
    return statistics.median(profile.operator_ms[index] for index in which)


def _page_uses(point: Point) -> int:
    """Pages of matrices in all whole rounds of an inference, however often each is used."""
    rounds = point.network.steps // point.network.distinct
    return rounds * point.network.distinct * MIB // PAGE_BYTES


def _use_us(point: Point) -> float:
    return 1e3 * point.extra_ms / _page_uses(point)


def _own_and_shared(graph: Graph) -> tuple[list[int], list[int]]:
    """Indices of convolutions whose weights no other uses, and of those that share theirs."""
    users: defaultdict[str, list[int]] = defaultdict(list)
    for index, op in enumerate(graph.operators):
        if op.type == "Conv":
            users[op.inputs[1]].append(index)
    own = [indices[0] for indices in users.values() if len(indices) == 1]
    return own, [index for indices in users.values() if len(indices) > 1 for index in indices]


def _case(point: Point) -> tuple[object, ...]:
    network = point.network
    same = network.kind, network.order, network.distinct, network.steps, network.resolution, network.batch
    return *same, round(point.occupation, 1)


def _paging(study: Study, *sweeps: Sweep) -> list[Point]:
    return [point for point in study.of(*sweeps) if point.is_over_committed]


def _occupation(point: Point) -> float:
    return point.occupation


def about(study: Study) -> Numbers:
    """What was measured, how much of it, and where."""
    return {
        "cases": len({point.network.key for point in study.points}),
        "runs": len(study.points),
        "failures": len(study.failures),
        "unequal": study.unequal,
        "unsettled": sum(not point.settled for point in study.points),
        "minutes": study.seconds / 60,
        "products_ms": study.references.products_ms,
        "sums_ms": study.references.sums_ms,
        "machines": [
            {
                "shard": shard,
                "cpu_model": context.get("cpu_model", "unknown"),
                "kernel": context.get("kernel", "unknown"),
                "onnxruntime": context.get("versions", {}).get("onnxruntime", "unknown"),
                "date": context.get("date", "unknown"),
                "commit": context.get("commit", ""),
                "seed": context.get("seed"),
            }
            for shard, context in study.contexts.items()
        ],
    }
