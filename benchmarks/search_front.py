"""Whether the search finds better fronts than random choices with as many trials.

    python benchmarks/search_front.py [--seeds 10] [--trials 300] [--workers 2] [--spaces mobilenet_v3 resnet] [--json]

For each space and seed both searches run with the same bound, EPC and objective. The hypervolume of a front is the area
that it dominates in latency and score, up to the bound and down to the lowest score that either search found with any
seed. A one-sided Wilcoxon test over the seeds says whether the search's is larger. All latencies are predicted. Each
worker runs whole searches, one after the other.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product

from scipy.stats import wilcoxon

from sectum.enclave import profile as profiles
from sectum.measure.context import machine_context
from sectum.plan.search import SearchResult, search
from sectum.predict import Predictor, load_predictor
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


@cache
def predictor() -> Predictor:
    """Loaded once in each process."""
    return load_predictor()


def front(space: str, objective: str, trials: int, sampler: str, seed: int) -> Points:
    """The front of one search."""
    bound_ms, epc_mib = CASES[space]
    profile = profiles.load("softepc").with_epc(epc_mib * MIB)
    options = {"objective": objective, "trials": trials, "sampler": sampler, "seed": seed, "predictor": predictor()}
    return points(search(space, bound_ms, profile, **options))


def compare(space: str, objective: str, seeds: int, trials: int, pool: ProcessPoolExecutor) -> dict[str, object]:
    """Hypervolumes of both, seed by seed, and the test."""
    started = time.perf_counter()
    jobs = {
        (sampler, seed): pool.submit(front, space, objective, trials, sampler, seed)
        for seed, sampler in product(range(seeds), SAMPLERS)
    }
    found = {sampler: [jobs[sampler, seed].result() for seed in range(seeds)] for sampler in SAMPLERS}
    lowest = min(score for of_sampler in found.values() for one in of_sampler for _, score in one)
    volumes = {
        sampler: [hypervolume(one, CASES[space][0], lowest) for one in of_sampler]
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
        "seconds": time.perf_counter() - started,
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
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        for space in options.spaces:
            row = compare(space, options.objective, options.seeds, options.trials, pool)
            results.append(row)
            if not options.json:
                print(
                    f"{space}, {options.objective}, {options.trials} trials: hypervolume larger than of random search "
                    f"with {row['larger']} of {options.seeds} seeds, {row['median_ratio']:.2f} times in the median; "
                    f"Wilcoxon p = {row['p']:.2g}; {row['seconds']:.0f} s",
                    flush=True,
                )
    if options.json:
        json.dump({"results": results, "context": machine_context()}, sys.stdout)
    return 0


if __name__ == "__main__":  # worker processes are spawned
    sys.exit(main())
