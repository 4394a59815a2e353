"""What the measurements show of time: what a page costs, how it adds to computation, and which operators bear it.

Each observation is a function of the stored points and nothing else; it is None where nothing was measured that it
could be made from.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sectum.lab.study.cases import Sweep
from sectum.lab.study.fits import Numbers, close_share, errors, grouped, median_costs, page_costs, quantile
from sectum.lab.study.networks import Kind
from sectum.lab.study.points import OperatorProfile, Point, Study
from sectum.ort.optimized import OptimizedGraph
from sectum.units import MIB, PAGE_BYTES


def page_cost(study: Study) -> Numbers | None:
    """What a page load costs, by everything that may decide it, and what a minor fault costs."""
    points = _paging(study)
    if len(points) < 4:
        return None
    costs = [point.load_us for point in points]
    load_us, minor_us = page_costs(points)
    intensity = [point.case.flops / point.case.working_set_bytes for point in points]
    held = [p for p in points if p.case.sweep is Sweep.COMPUTATION and p.case.kind is Kind.WEIGHTS]
    return {
        "n": len(points),
        "load_us": statistics.median(costs),
        "load_us_low": quantile(costs, 0.1),
        "load_us_high": quantile(costs, 0.9),
        "within_10_percent": close_share(cost / statistics.median(costs) - 1 for cost in costs),
        "fitted_load_us": load_us,
        "fitted_minor_fault_us": minor_us,
        "by_kind": median_costs(points, lambda point: str(point.case.kind)),
        "by_policy": median_costs(points, lambda point: point.case.policy),
        "by_epc_mib": median_costs(
            [p for p in points if p.case.sweep is Sweep.MEMORY], lambda point: (point.epc_bytes or 0) / MIB
        ),
        "by_gflop": median_costs(held, lambda point: float(f"{point.case.flops / 1e9:.2g}")),
        "intensity_flop_per_byte": [min(intensity), max(intensity)],
    }  # fmt: skip


def addition(study: Study) -> Numbers | None:
    """Computation varied: how far native latency plus page costs is from the measured latency.

    The costs are fitted to the other sweeps.
    """
    points = _paging(study, Sweep.COMPUTATION)
    others = _paging(study, Sweep.MEMORY, Sweep.ORDER, Sweep.BATCH)
    if not points or len(others) < 4:
        return None
    load_us, minor_us = page_costs(others)

    def off(chosen: Sequence[Point]) -> Numbers:
        return errors([point.case.native_ms + point.paging_ms(load_us, minor_us) for point in chosen], chosen)

    kinds = grouped(points, lambda point: str(point.case.kind))
    return {
        "n": len(points),
        "load_us": load_us,
        "minor_fault_us": minor_us,
        **off(points),
        "bias_by_kind": {kind: off(chosen)["bias"] for kind, chosen in sorted(kinds.items())},
    }


def slowdown(study: Study) -> Numbers | None:
    """Computation varied, working set / EPC held: latency over native latency, and how well a constant predicts it."""
    points = _paging(study, Sweep.COMPUTATION)
    if not points:
        return None
    ratios = [point.slowdown for point in points]
    constant = float(np.exp(np.mean(np.log(ratios))))
    off = errors([constant * point.case.native_ms for point in points], points)
    table = [
        {
            "kind": str(point.case.kind),
            "working_set_over_epc": point.working_set_over_epc,
            "flop_per_byte": point.case.flops / point.case.working_set_bytes,
            "native_ms": point.case.native_ms,
            "latency_ms": point.latency_ms,
            "slowdown": point.slowdown,
        }
        for point in sorted(points, key=lambda p: (p.case.kind, round(p.working_set_over_epc, 2), p.case.flops))
    ]
    return {
        "n": len(points),
        "least": min(ratios),
        "most": max(ratios),
        "range": max(ratios) / min(ratios),
        "best_constant": constant,
        **{f"constant_{name}": value for name, value in off.items()},
        "points": table,
    }


def operators(study: Study) -> Numbers | None:
    """Time of convolutions with a matrix of their own, and of equal ones that share one, in each place."""
    for profiles in grouped(study.profiles, lambda profile: profile.case.key).values():
        native = next((p for p in profiles if p.epc_bytes is None), None)
        limited = sorted((p for p in profiles if p.epc_bytes), key=lambda p: p.epc_bytes or 0)
        if native is None or len(limited) < 2 or native.case.threads > 1:
            continue
        own, shared = _own_and_shared(native.case.graph)
        places = {"native": native, "inside": limited[-1], "paging": limited[0]}
        own_ms, shared_ms = (
            {place: _median_ms(profile, which) for place, profile in places.items()} for which in (own, shared)
        )
        own_added_ms = own_ms["paging"] - own_ms["native"]
        shared_added_ms = max(0.0, shared_ms["paging"] - shared_ms["native"])
        return {
            **{f"own_{place}_ms": value for place, value in own_ms.items()},
            **{f"shared_{place}_ms": value for place, value in shared_ms.items()},
            "own_page_us": 1e3 * own_added_ms / (MIB // PAGE_BYTES),
            "shared_share": shared_added_ms / (own_added_ms + shared_added_ms),
            "working_set_over_epc": native.case.working_set_bytes / (limited[0].epc_bytes or 1),
        }
    return None


def threads(study: Study) -> Numbers | None:
    """The same cases with one and with more compute threads: pages, and what one costs in wall time."""
    one = {_case(point): point for point in study.of(Sweep.COMPUTATION)}
    pairs = [
        (one[_case(point)], point)
        for point in study.points
        if point.case.threads > 1 and point.case.sweep is Sweep.COMPUTATION and _case(point) in one
    ]
    paging = [(a, b) for a, b in pairs if a.is_over_committed and b.is_over_committed]
    if not paging:
        return None
    return {
        "n": len(paging),
        "threads": paging[0][1].case.threads,
        "loads_ratio": statistics.median(b.loads / a.loads for a, b in paging),
        "native_ratio": statistics.median(b.case.native_ms / a.case.native_ms for a, b in paging),
        "load_us_one": statistics.median(a.load_us for a, _ in paging),
        "load_us_more": statistics.median(b.load_us for _, b in paging),
    }


def _median_ms(profile: OperatorProfile, which: Sequence[int]) -> float:
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
    case = point.case
    same = case.kind, case.order, case.distinct, case.steps, case.resolution, case.batch
    return *same, round(point.working_set_over_epc, 1)


def _paging(study: Study, *sweeps: Sweep) -> list[Point]:
    return [point for point in study.of(*sweeps) if point.is_over_committed]
