"""Whether what a search returns under a bound also measures under it, and what knowing EPC and plans is worth.

    python benchmarks/search_accuracy.py                    30 networks: three bounds, two EPC sizes; ten minutes
    python benchmarks/search_accuracy.py --networks 12      a short version: two networks of each case
    python benchmarks/search_accuracy.py --json

For each bound and EPC size three searches run: one that plans, one that knows the EPC but no plans, and one that knows
neither. Networks are drawn at random from the front of the first. Beside each stands what the other two would have
chosen for a score as high: the fastest of their fronts. All are measured in the software enclave, the first by its plan
where it has one; equal ones are measured once. Run `sectum calibrate` first; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from sectum.enclave import profile as profiles
from sectum.enclave.profile import Profile
from sectum.errors import SearchError
from sectum.measure.context import machine_context
from sectum.plan.opening import OpeningCosts, costs_for
from sectum.plan.search import Found, search
from sectum.plan.search.blind import without_epc
from sectum.plan.search.measuring import measured
from sectum.plan.search.plans import Plans
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
class Chosen:
    """A network in the enclave; times in milliseconds. Predicted as its own search saw it."""

    name: str
    score: float
    predicted_ms: float
    upper_ms: float
    planned: bool
    measured_ms: float
    loads: float


@dataclass(frozen=True)
class Row:
    """A network of the search that plans, and those that the other searches would have chosen for a score as high."""

    space: str
    epc_mib: int
    bound_ms: float
    planned: Chosen
    aware: Chosen | None
    blind: Chosen | None


def rows(
    networks: int, trials: int, workers: int, deadline_s: float, seed: int, say: Callable[[str], None]
) -> Iterator[Row]:
    """Search each case, and measure some of its front."""
    rng, predictor = random.Random(seed), load_predictor()
    opening = costs_for(predictor)
    for index, (space, epc_mib, bound_ms) in enumerate(CASES):
        count = networks // len(CASES) + (index < networks % len(CASES))
        if not count:
            continue
        started = time.perf_counter()
        profile = profiles.load("softepc").with_epc(epc_mib * MIB)
        options = {"trials": trials, "workers": workers, "seed": seed, "predictor": predictor}
        fronts = [
            front(space, bound_ms, within, options | {"plans": plans})
            for within, plans in ((profile, True), (profile, False), (without_epc(profile), False))
        ]
        searched = time.perf_counter()
        measurer = Measurer(predictor, profile, opening, deadline_s)
        planned, aware, blind = fronts
        for one in rng.sample(planned, min(count, len(planned))):
            others = [fastest_as_good(one, front_of_other) for front_of_other in (aware, blind)]
            yield Row(space, epc_mib, bound_ms, *map(measurer.measure, (one, *others)))
        say(
            f"{space}, {epc_mib} MiB, {bound_ms:g} ms: searching took {searched - started:.0f} s, measuring "
            f"{time.perf_counter() - searched:.0f} s"
        )


def front(space: str, bound_ms: float, profile: Profile, options: dict[str, object]) -> list[Found]:
    """The front of a search; empty where nothing is under the bound."""
    try:
        return list(search(space, bound_ms, profile, **options).front)
    except SearchError:
        return []


def fastest_as_good(one: Found, front_of_other: Sequence[Found]) -> Found | None:
    """The fastest of a score as high, as its own search saw it."""
    return next((other for other in front_of_other if other.evaluated.score >= one.evaluated.score), None)


class Measurer:
    """Measures networks in one enclave, each once."""

    def __init__(self, predictor: Predictor, profile: Profile, opening: OpeningCosts, deadline_s: float) -> None:
        self._profile, self._deadline_s = profile, deadline_s
        self._plans = Plans(predictor, profile, opening)
        self._known: dict[tuple[str, bool], tuple[float, float]] = {}

    def measure(self, one: Found | None) -> Chosen | None:
        """Measure a network, by its plan where its search gave it one."""
        if one is None:
            return None
        numbers = one.evaluated
        key = (numbers.name, numbers.planned)
        if key not in self._known:
            plan = self._plans.of(one.network) if numbers.planned else None
            found = measured(one.network, self._profile, plan, deadline_s=self._deadline_s)
            self._known[key] = found.latency_ms, float(found.loads or 0)
        latency_ms, loads = self._known[key]
        return Chosen(
            numbers.name, numbers.score, numbers.latency_ms, numbers.upper_ms, numbers.planned, latency_ms, loads
        )


def summary(found: list[Row]) -> dict[str, object]:
    """What the benchmark is for."""
    returned = [(one, row.bound_ms) for row in found for one in (row.planned, row.aware) if one is not None]
    over = [one.measured_ms / bound_ms for one, bound_ms in dict.fromkeys(returned)]
    # Where the network that was chosen without the EPC pages: elsewhere there is nothing to know.
    pages = [row for row in found if row.blind is not None and row.blind.loads > 0]
    with_plans = [row.blind.measured_ms / row.planned.measured_ms for row in pages]
    without = [row.blind.measured_ms / row.aware.measured_ms for row in pages if row.aware is not None]
    return {
        "networks": len(over),
        "under_bound": sum(one <= 1 for one in over) / len(over),
        "worst_over_bound": max(over),
        "within_worst": all(one <= WORST for one in over),
        "over_committed": len(pages),
        "times_with_plans": sorted(with_plans),
        "times_without_plans": sorted(without),
        "median_with_plans": statistics.median(with_plans) if with_plans else None,
        "median_without_plans": statistics.median(without) if without else None,
    }


def told(one: Chosen | None) -> str:
    """A network in words."""
    if one is None:
        return "none"
    plan = " by a plan" if one.planned else ""
    predicted = f"predicted {one.predicted_ms:.2f} to {one.upper_ms:.2f}"
    return f"{one.measured_ms:.2f} ms{plan} ({predicted}; {one.loads:.0f} loads)"


def main() -> int:
    """Print one line for each network, and the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--deadline", type=float, default=40.0, metavar="S", help="for each measurement")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    found = []
    for row in rows(options.networks, options.trials, options.workers, options.deadline, options.seed, say):
        found.append(row)
        say(
            f"{row.planned.name}, {row.epc_mib} MiB, bound {row.bound_ms:g} ms: measured {told(row.planned)}; chosen "
            f"without plans {told(row.aware)}; without EPC and plans {told(row.blind)}"
        )
    result = summary(found)
    if options.json:
        json.dump({"rows": [asdict(row) for row in found], **result, "context": machine_context()}, sys.stdout)
        return 0
    print(
        f"{result['under_bound']:.0%} of {result['networks']} measure under their bound; the slowest takes "
        f"{result['worst_over_bound']:.2f} of it. For {result['over_committed']} of {len(found)}, the choice without "
        f"the EPC pages. In the median it takes {result['median_with_plans'] or 1:.2f} times as long as the choice "
        f"with EPC and plans, and {result['median_without_plans'] or 1:.2f} times as long as that with the EPC alone."
    )
    return 0


if __name__ == "__main__":  # worker processes are spawned
    sys.exit(main())
