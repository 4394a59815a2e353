"""Whether what a search returns under a bound also measures under it, and what knowing the EPC is worth, measured.

    python benchmarks/search_accuracy.py                    30 networks: three bounds, two EPC sizes; half an hour
    python benchmarks/search_accuracy.py --networks 4       a short version
    python benchmarks/search_accuracy.py --json

For each bound and EPC size one search runs, and networks are drawn at random from its front. Each is measured in the
software enclave. Beside it stands the network that a search without the EPC would have chosen for a score as high, also
measured. Run `sectum calibrate` first; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from sectum.enclave import profile as profiles
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.measure.context import machine_context
from sectum.measure.latency import measure
from sectum.plan.search import Found, search
from sectum.plan.search.blind import choices, without_epc
from sectum.plan.search.network import as_model
from sectum.predict import Predictor, load_predictor
from sectum.units import MIB

CASES = (
    ("mobilenet_v3", 8, 10.0), ("mobilenet_v3", 16, 20.0), ("mobilenet_v3", 8, 40.0),
    ("resnet", 32, 50.0), ("resnet", 64, 100.0), ("resnet", 32, 200.0),
)  # fmt: skip
"""Space, EPC in MiB, and bound in milliseconds."""
WORST = 1.10
"""No network may take longer than the bound by more."""


@dataclass(frozen=True)
class Row:
    """One network of a front, and the one that was chosen without the EPC; times in milliseconds."""

    space: str
    epc_mib: int
    bound_ms: float
    name: str
    predicted_ms: float
    upper_ms: float
    measured_ms: float
    overcommit: bool
    blind: str | None
    blind_predicted_ms: float | None
    blind_measured_ms: float | None


def rows(networks: int, trials: int, workers: int, deadline_s: float, seed: int) -> Iterator[Row]:
    """Search each case, and measure some of its front."""
    rng, predictor = random.Random(seed), load_predictor()
    for index, (space, epc_mib, bound_ms) in enumerate(CASES):
        count = networks // len(CASES) + (index < networks % len(CASES))
        if not count:
            continue
        profile = profiles.load("softepc").with_epc(epc_mib * MIB)
        options = {"trials": trials, "workers": workers, "seed": seed, "predictor": predictor}
        aware = search(space, bound_ms, profile, **options)
        blind = search(space, bound_ms, without_epc(profile), **options)
        compared = choices(aware.front, blind.front, predictor, profile)
        for one in rng.sample(compared, min(count, len(compared))):
            numbers = one.aware.evaluated
            yield Row(
                space=space,
                epc_mib=epc_mib,
                bound_ms=bound_ms,
                name=numbers.name,
                predicted_ms=numbers.latency_ms,
                upper_ms=numbers.upper_ms,
                measured_ms=measured_ms(one.aware, epc_mib, predictor, deadline_s),
                overcommit=numbers.overcommit,
                blind=one.blind and one.blind.evaluated.name,
                blind_predicted_ms=one.in_epc and one.in_epc.latency_ms,
                blind_measured_ms=one.blind and measured_ms(one.blind, epc_mib, predictor, deadline_s),
            )


def measured_ms(one: Found, epc_mib: int, predictor: Predictor, deadline_s: float) -> float:
    """Latency of a network in the software enclave."""
    return measure(
        as_model(one.network, 1),
        SoftEpcRunner(),
        epc_bytes=epc_mib * MIB,
        deadline_s=deadline_s,
        references=predictor.calibration.references if predictor.calibration else None,
    ).latency_ms


def summary(found: list[Row]) -> dict[str, object]:
    """What the benchmark is for."""
    over = [row.measured_ms / row.bound_ms for row in found]
    ratios = [row.blind_measured_ms / row.measured_ms for row in found if row.blind_measured_ms is not None]
    return {
        "networks": len(found),
        "under_bound": sum(one <= 1 for one in over) / len(found),
        "worst_over_bound": max(over),
        "within_worst": all(one <= WORST for one in over),
        "blind_times_median": statistics.median(ratios) if ratios else None,
        "blind_times": sorted(ratios),
    }


def main() -> int:
    """Print one line for each network, and the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--deadline", type=float, default=30.0, metavar="S", help="for each measurement")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    for row in rows(options.networks, options.trials, options.workers, options.deadline, options.seed):
        found.append(row)
        if not options.json:
            blind = "" if row.blind_measured_ms is None else f"; without the EPC {row.blind_measured_ms:.2f} ms"
            print(
                f"{row.name}, {row.epc_mib} MiB: bound {row.bound_ms:g} ms, predicted {row.predicted_ms:.2f} to "
                f"{row.upper_ms:.2f}, measured {row.measured_ms:.2f} ms{blind}",
                flush=True,
            )
    told = summary(found)
    if options.json:
        json.dump({"rows": [asdict(row) for row in found], **told, "context": machine_context()}, sys.stdout)
    else:
        print(
            f"{told['under_bound']:.0%} of {told['networks']} measure under their bound; the slowest takes "
            f"{told['worst_over_bound']:.2f} of it. The choice without the EPC takes "
            f"{told['blind_times_median'] or 1:.2f} times as long in the median."
        )
    return 0


if __name__ == "__main__":  # worker processes are spawned
    sys.exit(main())
