"""How good plans are for networks that Sectum has not seen: predicted and measured, against no plan and other plans.

    python benchmarks/plan_random.py [--count 20] [--seed 1] [--rounds 2] [--runs 5] [--results FILE] [--json]

On an idle machine of two cores a network takes about half a minute, and all 20 about 12 minutes. With --results, each
round is added to the file when it ends, and rounds of the same plan are not measured again: a run that was stopped goes
on. Let nothing else run meanwhile. Run 'sectum calibrate' first, so that predictions are in this machine's
milliseconds.

A seed and a number make a case: a random network, of a search space or a relative of one of the zoo's, and an EPC of a
quarter to four fifths of its working set. Each round measures each way once in the software enclave, with one thread;
figures are medians of the rounds. Without a plan it is measured in the first round only. Beside the chosen plan stand
others for the same enclave: one that would be the best if starting a stage cost eight times as much, which has larger
and fewer stages, one if it cost an eighth, and the best plan for three quarters of the EPC.

The bars: 85 % of predictions within 10 % of what was measured; a plan takes at most 5 % more than the best that was
tried, and at most 2 % more than no plan; resident memory is never above the EPC.
"""

from __future__ import annotations

import hashlib
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plan import FITTING_BAR, Results, common_options, each, kept

from sectum import zoo
from sectum.enclave import profile as profiles
from sectum.enclave.profile import Profile
from sectum.plan.opening import OpeningCosts, costs_for
from sectum.plan.planned import Planned
from sectum.plan.planning import Planner
from sectum.plan.search.measuring import measured
from sectum.predict import load_predictor
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared
from sectum.units import MIB, PAGE_BYTES, format_bytes
from sectum.zoo import Architecture, space_file, to_graph

NEAR, MOST_OF_PLANS, BEST_BAR = 0.1, 0.85, 1.05
SPACES = ("mobilenet_v2", "mobilenet_v3", "resnet", "vgg")
EPC_SHARES = (0.25, 0.8)
LEAST_WORKING_SET_BYTES, MOST_NATIVE_MS, MOST_UNPLANNED_MS = 6 * MIB, 150.0, 1500.0
"""Other networks are drawn again: small ones fit everywhere, large ones take long to measure."""
CHOSEN, WITHOUT = "plan", "no plan"


@dataclass(frozen=True)
class Case:
    """A network in an enclave."""

    network: Architecture
    prepared: Prepared
    profile: Profile

    def __str__(self) -> str:
        return f"{self.network.name}:{self.profile.epc_bytes}"


class Cases:
    """Draws cases, and plans them.

    Args:
        seed: of all of them; each depends on it and on its number alone.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._predictor = seed, load_predictor()
        self._costs = costs_for(self._predictor)

    def first(self, count: int) -> Iterator[Case]:
        """So many cases."""
        enclave = profiles.load("softepc")
        for number in range(count):
            rng = random.Random(f"{self._seed} {number}")
            while (case := drawn(self._predictor, enclave, rng)) is None:
                pass
            yield case

    def plans(self, case: Case) -> dict[str, Planned]:
        """The plan that is chosen, and different ones; the times of all are predicted in the same way."""
        costs, epc_bytes = self._costs, case.profile.epc_bytes or 0
        planner = self._planner(case, costs)
        found = {CHOSEN: planner.best()}
        others = {
            "larger stages": self._planner(case, replace(costs, stage_ms=8 * costs.stage_ms)),
            "smaller stages": self._planner(case, replace(costs, stage_ms=costs.stage_ms / 8)),
            "smaller EPC": self._planner(replace(case, profile=case.profile.with_epc(3 * epc_bytes // 4)), costs),
        }
        for name, other in others.items():
            best = other.best()
            if not best.as_it_is and identity(best) not in map(identity, found.values()):
                found[name] = planner.evaluate(best.stages, best.buffers, best.way.order)
        return found

    def _planner(self, case: Case, costs: OpeningCosts) -> Planner:
        return Planner(self._predictor, case.prepared, case.profile, costs)


def drawn(predictor: Predictor, enclave: Profile, rng: random.Random) -> Case | None:
    """A random network with an EPC that is too small for it; None where it is too small or too slow to be of use."""
    if rng.random() < 0.5:
        space = space_file.load(rng.choice(SPACES))
        network = space.build({name: rng.choice(choices) for name, choices in space.parameters.items()})
    else:
        network = zoo.sample(rng.choice(zoo.families()), rng)
    share = rng.uniform(*EPC_SHARES)
    prepared = predictor.prepare(to_graph(network, 1))
    working_set_bytes = prepared.trace.pages * PAGE_BYTES
    if working_set_bytes < LEAST_WORKING_SET_BYTES or prepared.native_ms.sum() > MOST_NATIVE_MS:
        return None
    case = Case(network, prepared, enclave.with_epc(int(share * prepared.trace.pages) * PAGE_BYTES))
    unplanned_ms, _ = predictor.latency_and_interval(prepared, case.profile)
    return case if unplanned_ms <= MOST_UNPLANNED_MS else None


def identity(plan: Planned) -> str:
    """What tells a plan from another one of the same network, also in another run."""
    stages = [
        (one.first, one.last, one.channels, one.streamed, one.division and one.division.rows) for one in plan.stages
    ]
    return hashlib.sha256(repr((stages, plan.buffers, plan.way.order)).encode()).hexdigest()[:16]


def figures(case: Case, plans: Mapping[str, Planned], rounds: int, results: Results, **how: Any) -> dict[str, Any]:
    """All figures of a case."""
    chosen, epc_bytes = plans[CHOSEN], case.profile.epc_bytes or 0
    ways = {name: plan for name, plan in plans.items() if not plan.as_it_is}
    own = CHOSEN if CHOSEN in ways else WITHOUT
    keys = {name: {"case": str(case), "way": identity(plan)} for name, plan in ways.items()}
    keys[WITHOUT] = {"case": str(case), "way": WITHOUT}
    found = {name: results.of(**key)[:rounds] for name, key in keys.items()}
    for number in range(rounds):
        for name, rows in found.items():
            if len(rows) > number or (number and name == WITHOUT != own):
                continue
            row = kept(measured(case.network, case.profile, ways.get(name), **how))
            results.add(row, **keys[name])
            rows.append(row)
    latency_ms = {name: statistics.median(row["latency_ms"] for row in rows) for name, rows in found.items()}
    resident = max(row["peak_resident_bytes"] for row in found[own])
    return {
        "case": str(case),
        "kind": "measured",
        "planned": own == CHOSEN,
        "latency_ms": latency_ms,
        "predicted_ms": {name: plan.latency_ms for name, plan in plans.items()} | {WITHOUT: chosen.unplanned_ms},
        "predicted_native_ms": chosen.native_ms,
        "predicted_off": chosen.latency_ms / latency_ms[own] - 1,
        "over_no_plan": latency_ms[own] / latency_ms[WITHOUT],
        "over_best": latency_ms[own] / min(latency_ms.values()),
        "stages": len(chosen.stages),
        "opened_bytes": chosen.opened_bytes,
        "epc_bytes": epc_bytes,
        "working_set_bytes": case.prepared.trace.pages * PAGE_BYTES,
        "predicted_resident_bytes": chosen.layout.working_set_bytes,
        "peak_resident_bytes": resident,
        "within_epc": resident <= epc_bytes,
        "loads": found[own][-1]["loads"],
    }


def show(row: Mapping[str, Any]) -> None:
    """Print a case."""
    predicted = row["predicted_ms"]
    tried = ", ".join(f"{name} {ms:.2f} ({predicted[name]:.2f})" for name, ms in row["latency_ms"].items())
    sizes = [format_bytes(row[name]) for name in ("epc_bytes", "working_set_bytes", "opened_bytes")]
    print(
        f"{row['case'].partition(':')[0]:26} {sizes[0]} of {sizes[1]}: predicted {row['predicted_off']:+.0%}, "
        f"{row['over_no_plan']:.2f} x no plan, {row['over_best']:.2f} x the best tried; ms measured (predicted): "
        f"{tried}; {row['stages']} stages, {sizes[2]} opened, {row['loads']:.0f} loads, "
        f"{format_bytes(row['peak_resident_bytes'])} resident at most",
        flush=True,
    )


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What holds for all cases together."""
    near = sum(abs(row["predicted_off"]) <= NEAR for row in rows)
    return {
        "cases": len(rows),
        "planned": sum(row["planned"] for row in rows),
        "within_10_percent": near,
        "predictions_kept": near >= MOST_OF_PLANS * len(rows),
        "worst_off": max((row["predicted_off"] for row in rows), key=abs, default=None),
        "near_the_best_tried": sum(row["over_best"] <= BEST_BAR for row in rows),
        "most_over_best_tried": max((row["over_best"] for row in rows), default=None),
        "never_slower_than_no_plan": all(row["over_no_plan"] <= FITTING_BAR for row in rows),
        "never_above_the_epc": all(row["within_epc"] for row in rows),
    }


def main() -> None:
    """Measure the cases."""
    parser = common_options(__doc__, rounds=2, deadline_s=60.0)
    parser.add_argument("--count", type=int, default=20, help="how many networks")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    results, cases = Results(options.results, options.runs), Cases(options.seed)

    def of(case: Case) -> dict[str, Any]:
        how = {"runs": options.runs, "deadline_s": options.deadline}
        return figures(case, cases.plans(case), options.rounds, results, **how)

    each(cases.first(options.count), of, show, summary, as_json=options.json)


if __name__ == "__main__":
    main()
