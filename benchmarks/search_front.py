"""Whether the search finds better fronts than random choices with as many trials.

    python benchmarks/search_front.py [--seeds 10] [--trials 300] [--workers 2] [--spaces mobilenet_v3 resnet] [--json]

For each space and seed both searches run with the same bound, EPC and objective. The hypervolume of a front is the area
that it dominates in latency and score, up to the bound and down to the lowest score that either search found with any
seed. A one-sided Wilcoxon test over the seeds says whether the search's is larger. All latencies are predicted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence

from scipy.stats import wilcoxon

from sectum.enclave import profile as profiles
from sectum.measure.context import machine_context
from sectum.plan.search import SearchResult, search
from sectum.predict import load_predictor
from sectum.units import MIB

CASES = {
    "mobilenet_v2": (4.0, 16),
    "mobilenet_v3": (4.0, 16),
    "resnet": (60.0, 64),
    "vgg": (60.0, 32),
    "tiny": (5.0, 2),
}
"""Bound in milliseconds and EPC in MiB, by space."""
SAMPLERS = ("nsga2", "random")
Points = list[tuple[float, float]]


def hypervolume(front: Sequence[tuple[float, float]], latency: float, score: float) -> float:
    """Area that a front dominates: latencies up to a worst one, scores down to a worst one."""
    area, worst = 0.0, score
    for ms, value in sorted(front):  # the scores rise
        area += max(0.0, latency - ms) * max(0.0, value - worst)
        worst = max(worst, value)
    return area


def points(found: SearchResult) -> Points:
    """Latency and score of a front."""
    return [(one.evaluated.latency_ms, one.evaluated.score or 0.0) for one in found.front]


def fronts(space: str, objective: str, seeds: int, trials: int, workers: int) -> dict[str, list[Points]]:
    """The front of each sampler and seed."""
    bound_ms, epc_mib = CASES[space]
    profile, predictor = profiles.load("softepc").with_epc(epc_mib * MIB), load_predictor()
    found: dict[str, list[Points]] = {}
    for sampler in SAMPLERS:
        options = {"objective": objective, "trials": trials, "workers": workers, "sampler": sampler}
        found[sampler] = [
            points(search(space, bound_ms, profile, seed=seed, predictor=predictor, **options)) for seed in range(seeds)
        ]
    return found


def compare(space: str, objective: str, seeds: int, trials: int, workers: int) -> dict[str, object]:
    """Hypervolumes of both, seed by seed, and the test."""
    found = fronts(space, objective, seeds, trials, workers)
    lowest = min(score for of_sampler in found.values() for front in of_sampler for _, score in front)
    volumes = {
        sampler: [hypervolume(front, CASES[space][0], lowest) for front in of_sampler]
        for sampler, of_sampler in found.items()
    }
    test = wilcoxon(volumes["nsga2"], volumes["random"], alternative="greater")
    pairs = list(zip(*volumes.values(), strict=True))
    return {
        "space": space,
        "objective": objective,
        "trials": trials,
        "seeds": seeds,
        "bound_ms": CASES[space][0],
        "epc_mib": CASES[space][1],
        **volumes,
        "larger": sum(searched > random for searched, random in pairs),
        "median_ratio": statistics.median(searched / random for searched, random in pairs),
        "p": float(test.pvalue),
    }


def main() -> int:
    """Print one line for each space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spaces", nargs="+", choices=sorted(CASES), default=["mobilenet_v3", "resnet"])
    parser.add_argument("--objective", default="synflow")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for space in options.spaces:
        row = compare(space, options.objective, options.seeds, options.trials, options.workers)
        results.append(row)
        if not options.json:
            print(
                f"{space}, {options.objective}, {options.trials} trials: hypervolume larger than of random search with "
                f"{row['larger']} of {options.seeds} seeds, {row['median_ratio']:.2f} times in the median; Wilcoxon "
                f"p = {row['p']:.2g}",
                flush=True,
            )
    if options.json:
        json.dump({"results": results, "context": machine_context()}, sys.stdout)
    return 0


if __name__ == "__main__":  # worker processes are spawned
    sys.exit(main())
