"""What the measurements show of time: what a page costs, that it adds to computation, and who pays for it.

Each observation is a function of the stored points and nothing else; it is None where nothing was measured that it
could be made from.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sectum.lab.study.cases import Sweep
from sectum.lab.study.fits import Numbers, close_share, grouped, median_costs, page_costs, quantile
from sectum.lab.study.networks import Kind
from sectum.lab.study.points import Point, Profile, Study
from sectum.ort.optimized import OptimizedGraph
from sectum.units import MIB, PAGE_BYTES


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


def _median_ms(profile: Profile, which: Sequence[int]) -> float:
    return statistics.median(profile.operator_ms[index] for index in which)


def _own_and_shared(graph: OptimizedGraph) -> tuple[list[int], list[int]]:
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
