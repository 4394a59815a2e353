"""How many architectures a second a search can ask about, and whether that depends on how many there are.

    python benchmarks/search_speed.py [--candidates 500 5000] [--workers 1 2] [--batch 1] [--json]

From `zoo.Architecture` to latency, with random members of all families, drawn beforehand, in three sizes of the
software EPC: one that all fit into, one that about half of them fit into (its size is the median working set), and one
that a tenth fits into. Processes are started, and have predicted, before the clock runs. More than 1000 candidates are
the same 1000 over and over: nothing of one is kept for the next.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from sectum import zoo
from sectum.enclave import profile as profiles
from sectum.measure.context import machine_context
from sectum.predict import Candidates, load_predictor
from sectum.units import GIB, MIB

DISTINCT = 1000
WARM_UP = 68


def drawn(count: int) -> list[zoo.Architecture]:
    """Random networks, family by family in turn; always the same ones."""
    rng = random.Random(1)
    return [zoo.sample(family, rng) for family in islice(cycle(zoo.families()), count)]


def sizes(architectures: Sequence[zoo.Architecture]) -> dict[str, int]:
    """Bytes of EPC by what share of the candidates pages."""
    with Candidates(load_predictor(), profiles.load("softepc").with_epc(GIB), workers=1) as candidates:
        found = [candidate.working_set_bytes for candidate in candidates.predict(architectures[:170])]
    return {"none": 4 * GIB, "half": int(statistics.median(found)), "most": int(statistics.quantiles(found, n=10)[0])}


def timed(
    architectures: Sequence[zoo.Architecture], epc_bytes: int, counts: Sequence[int], workers: int, batch: int
) -> Iterator[dict[str, float]]:
    """Seconds of a search over so many candidates, and what share of them pages."""
    profile = profiles.load("softepc").with_epc(epc_bytes)
    with Candidates(load_predictor(), profile, batch=batch, workers=workers) as candidates:
        list(candidates.predict(islice(cycle(architectures), WARM_UP)))
        for count in counts:
            started, cpu_started = time.perf_counter(), time.process_time()
            paging = sum(c.loads > 0 for c in candidates.predict(islice(cycle(architectures), count)))
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
            yield {
                "candidates": count,
                "paging": paging / count,
                "per_second": count / seconds,
                "ms_per_candidate": 1e3 * seconds / count,
                # Of this process: of the whole search with one worker, of handing out with more.
                "cpu_ms_per_candidate": 1e3 * cpu_seconds / count,
            }


def main() -> int:
    """Print one line for each search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--paging", choices=["none", "half", "most"], nargs="+", default=["none", "half", "most"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    architectures = drawn(min(DISTINCT, max(options.candidates)))
    epc_bytes = sizes(architectures)
    results = []
    for workers in options.workers:
        for kind in options.paging:
            for row in timed(architectures, epc_bytes[kind], options.candidates, workers, options.batch):
                results.append({"workers": workers, "epc_bytes": epc_bytes[kind], "batch": options.batch, **row})
                if not options.json:
                    print(
                        f"{workers} worker{'s' * (workers > 1)}, EPC {epc_bytes[kind] / MIB:.1f} MiB, "
                        f"{row['candidates']} candidates of which {row['paging']:.0%} page: "
                        f"{row['per_second']:.0f} a second, {row['ms_per_candidate']:.2f} ms each; "
                        f"{row['cpu_ms_per_candidate']:.2f} ms of CPU time here",
                        flush=True,
                    )
    if options.json:
        json.dump({"results": results, "context": machine_context()}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
