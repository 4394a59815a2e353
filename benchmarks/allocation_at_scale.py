"""A day of load on the service's allocator, simulated: from one rack to 10,000 accelerators.

    python benchmarks/allocation_at_scale.py [--accelerators 32 320 3200 10000] [--hours 24] [--loads 0.5 ... 1.3]
        [--quanta 0.5 ... 60] [--picture FILE.png] [--json]

The allocator and the sizing of the idle queue are the real code (`sectum.hetee.controller`). Everything around them is
a simulation with SimPy (extra `simulate`): sessions and jobs that come and go, batches that are finished before an
accelerator is given back, resets, starts of workers. No figure is measured but the processor time of the allocator.

Sessions come as a Poisson process whose rate follows the day (lowest at 4 h, highest at 16 h), jobs of the insecure
world at one rate. Both hold 1, 2, 4 or 8 accelerators, sessions for 20 minutes on average, jobs for an hour
(log-normal). Identities follow Zipf's law. Sessions have priority 1 to 3, jobs 0 or 2. There are three series: sizes,
at one load; loads, at one size; and quanta, a minute in which more sessions come than fit. It shows how often a
controller can let owners take turns.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import cos, exp, pi
from typing import Any

import simpy

from sectum.hetee.controller.allocation import Grant, Halt, Holder, Insecure, Request, Revoke, Terms
from sectum.hetee.controller.allocator import Allocator
from sectum.hetee.controller.demand import Demand
from sectum.measure.context import machine_context

HOUR_S = 3600.0
COUNTS = (1, 1, 1, 1, 1, 1, 1, 2, 2, 4, 4, 8)  # accelerators of a session or job: 2.25 on average
SESSION_S, JOB_S = 1200.0, 3600.0
SPREAD = 1.0  # standard deviation of the logarithm of how long they are needed
PEAK = 0.6  # how far the rate of sessions is above its mean in the afternoon, and below it at night
BUCKETS = 288


@dataclass(frozen=True)
class Costs:
    """What things cost, in seconds: assumptions, of the order of what the service takes on two cores."""

    start_s: float = 1.5  # of a worker
    reset_s: float = 0.05  # an accelerator that a living worker gave back, or that of a worker that has ended
    batch_s: float = 0.5  # the longest that a batch goes on after REVOKE
    job_halt_s: float = 2.0  # the longest that a job takes to stop when it is told


@dataclass
class Work:
    """A session or a job."""

    asker: int
    secure: bool
    count: int
    left_s: float
    identity: bytes
    priority: int
    came_s: float
    needs_s: float = 0.0
    holder: Holder | None = None
    runs_since_s: float | None = None
    turn: int = 0  # how often it was served: an end that was planned for an earlier turn does not come


@dataclass
class Day:
    """What happened."""

    waits_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    events: Counter[str] = field(default_factory=Counter)
    slowdowns: list[float] = field(default_factory=list)  # from asking to the end, over the time that was needed
    decide_s: list[float] = field(default_factory=list)  # processor time of each decision that was timed
    usage: list[tuple[float, float, float, float]] = field(default_factory=list)  # hour, secure, insecure, resetting


class Machine:
    """The real allocator with simulated sessions, jobs and workers around it.

    Args:
        accelerators: number of accelerators.
        hours: how long.
        sessions_load: accelerators that sessions need on average, over those that there are.
        jobs_load: the same of jobs.
        quantum_s: an enclave's turn while others wait.
        costs: what things cost.
        every_s: time between two decisions.
        seed: of all random numbers.
    """

    def __init__(
        self,
        accelerators: int,
        hours: float,
        *,
        sessions_load: float,
        jobs_load: float,
        quantum_s: float,
        costs: Costs,
        every_s: float,
        seed: int,
    ) -> None:
        self.env, self.rng = simpy.Environment(), random.Random(seed)
        self.accelerators, self.end_s, self.costs, self.every_s = accelerators, hours * HOUR_S, costs, every_s
        self.allocator = Allocator({"gpu": accelerators}, Terms(quantum_s=quantum_s, grace_s=65.0))
        self.demand = Demand(2, max(8, accelerators // 4))
        self.timed = min(1.0, 2000 * every_s / self.end_s)  # share of the decisions
        self.day = Day()
        self.works: dict[int, Work] = {}
        self.holders: dict[Holder, Work] = {}
        self.numbers = self.starting = 0
        self.held = Counter[str]()
        mean = statistics.mean(COUNTS)
        self.env.process(self.come(sessions_load * accelerators / (mean * SESSION_S), secure=True))
        self.env.process(self.come(jobs_load * accelerators / (mean * JOB_S), secure=False))
        self.env.process(self.decide())
        self.env.process(self.look())

    # --- what comes ---

    def come(self, rate: float, *, secure: bool) -> Iterator[simpy.Event]:
        """Sessions or jobs come until the end, at a rate a second; that of sessions follows the day."""
        identities = max(20, self.accelerators // 10)
        weights = [1 / (rank + 1) for rank in range(identities)]
        most = rate * (1 + PEAK) if secure else rate
        while rate > 0:
            yield self.env.timeout(self.rng.expovariate(most))
            now_rate = rate * (1 - PEAK * cos(2 * pi * (self.env.now / HOUR_S - 4) / 24)) if secure else rate
            if self.rng.random() * most > now_rate:
                continue
            mean_s = SESSION_S if secure else JOB_S
            self.numbers += 1
            work = Work(
                self.numbers,
                secure,
                min(self.rng.choice(COUNTS), self.accelerators),
                self.rng.lognormvariate(0, SPREAD) * mean_s / exp(SPREAD**2 / 2),
                self.rng.choices(range(identities), weights)[0].to_bytes(4) if secure else b"jobs",
                self.rng.choice((1, 1, 1, 1, 2, 2, 3) if secure else (0, 0, 0, 0, 2)),
                self.env.now,
            )
            work.needs_s = work.left_s
            if not secure:
                work.holder = Insecure(work.asker)
            self.works[work.asker] = work
            self.ask(work)

    def ask(self, work: Work) -> None:
        """A session or job asks, for the first time or again."""
        request = Request(work.asker, "gpu", work.count, work.identity, work.priority, work.holder)
        self.allocator.ask(request)

    # --- what is decided ---

    def decide(self) -> Iterator[simpy.Event]:
        """Decide again and again, as the controller does, and carry it out."""
        while True:
            yield self.env.timeout(self.every_s)
            timed = self.rng.random() < self.timed  # the clock of processor time is slow
            before_s = time.process_time() if timed else 0.0
            decisions = self.allocator.decide(self.env.now)
            if timed:
                self.day.decide_s.append(time.process_time() - before_s)
            for decision in decisions:
                match decision:
                    case Grant():
                        self.granted(decision)
                    case Revoke():
                        self.revoked(decision)
                    case Halt():
                        self.day.events["halted"] += 1
                        self.ends(self.holders[decision.holder], finished=False)
            self.day.events["waited for a worker"] += self.allocator.lacking > self.allocator.idle()
            wanted = self.demand.wanted(self.env.now) + self.allocator.lacking - self.allocator.idle() - self.starting
            for _ in range(wanted):
                self.starting += 1
                self.env.process(self.start_worker())

    def start_worker(self) -> Iterator[simpy.Event]:
        """A worker starts, and joins the idle queue."""
        yield self.env.timeout(self.costs.start_s)
        self.starting -= 1
        self.numbers += 1
        self.demand.started(self.costs.start_s)
        self.allocator.clean(self.numbers)

    def granted(self, grant: Grant) -> None:
        """A session or job goes on."""
        work = self.works[grant.asker]
        if work.holder is None:
            self.demand.took(self.env.now)
        work.holder = grant.holder
        self.holders[grant.holder] = work
        if not work.turn:
            who = f"{'session' if work.secure else 'job'} {work.priority}"
            self.day.waits_s[who].append(self.env.now - work.came_s)
        self.day.events["granted"] += 1
        self.held["secure" if work.secure else "insecure"] += len(grant.names)
        work.runs_since_s, work.turn = self.env.now, work.turn + 1
        self.env.process(self.finish(work, work.turn))

    def finish(self, work: Work, turn: int) -> Iterator[simpy.Event]:
        """The end of a session or job that is not interrupted."""
        yield self.env.timeout(max(0.0, work.left_s))
        if work.turn == turn and work.runs_since_s is not None:
            self.ends(work, finished=True)

    def ends(self, work: Work, *, finished: bool) -> None:
        """The process of a holder ends; its accelerators are reset. What is not finished asks again."""
        assert work.holder is not None
        if work.runs_since_s is not None:
            work.left_s -= self.env.now - work.runs_since_s
        work.runs_since_s, holder = None, work.holder
        self.give_back(holder, self.allocator.owned(holder), work)
        if finished:
            self.day.events["finished"] += 1
            if work.secure:
                self.day.slowdowns.append((self.env.now - work.came_s) / work.needs_s)
            del self.works[work.asker]
        self.env.process(self.reset(holder, ended=True))
        if not finished:
            work.holder = None if work.secure else Insecure(work.asker)
            self.env.process(self.again(work))

    def again(self, work: Work) -> Iterator[simpy.Event]:
        """Who was ended before its time asks again when it was reset."""
        yield self.env.timeout(2 * self.costs.reset_s)
        self.ask(work)

    def give_back(self, holder: Holder, names: Sequence[str], work: Work) -> None:
        """A holder gives back, or is made to."""
        self.allocator.returned(holder, names)
        self.held["secure" if work.secure else "insecure"] -= len(names)
        self.held["resetting"] += len(names)

    def revoked(self, revoke: Revoke) -> None:
        """A holder finishes its batch, or stops its job, and gives back."""
        work = self.holders[revoke.holder]
        self.day.events["turns ended" if work.secure else "jobs preempted"] += 1
        most_s = self.costs.batch_s if work.secure else self.costs.job_halt_s
        self.env.process(self.comply(work, work.turn, self.rng.uniform(0, most_s)))

    def comply(self, work: Work, turn: int, seconds: float) -> Iterator[simpy.Event]:
        """Give back after a while."""
        yield self.env.timeout(seconds)
        if work.turn != turn or work.runs_since_s is None:
            return
        if not work.secure:
            self.ends(work, finished=False)
            return
        assert work.holder is not None
        work.left_s -= self.env.now - work.runs_since_s
        work.runs_since_s = None
        self.give_back(work.holder, self.allocator.owned(work.holder), work)
        self.env.process(self.reset(work.holder, ended=False))
        self.ask(work)

    def reset(self, holder: Holder, *, ended: bool) -> Iterator[simpy.Event]:
        """The accelerators that a holder gave back are reset."""
        yield self.env.timeout(self.costs.reset_s)
        self.held["resetting"] -= len(self.allocator.resetting(holder))
        if ended:
            self.allocator.ended(holder)
            self.holders.pop(holder, None)
        else:
            self.allocator.confirm(holder)

    # --- what is seen ---

    def look(self) -> Iterator[simpy.Event]:
        """Note how many accelerators are where, again and again."""
        while True:
            yield self.env.timeout(self.end_s / BUCKETS)
            shares = (self.held[what] / self.accelerators for what in ("secure", "insecure", "resetting"))
            self.day.usage.append((self.env.now / HOUR_S, *shares))

    def run(self) -> dict[str, Any]:
        """Simulate; returns the figures, all of them simulated but for the processor time."""
        self.env.run(until=self.end_s)
        day = self.day
        sessions = [wait for who, waits in day.waits_s.items() if who.startswith("session") for wait in waits]
        jobs = [wait for who, waits in day.waits_s.items() if who.startswith("job") for wait in waits]
        decide_ms = sorted(1e3 * seconds for seconds in day.decide_s) or [0.0]
        after_start = day.usage[BUCKETS // 24 :]
        return {
            "accelerators": self.accelerators,
            "hours": self.end_s / HOUR_S,
            "kind": "simulated",
            "utilisation": {
                what: statistics.mean(row[column] for row in after_start)
                for column, what in enumerate(("secure", "insecure", "resetting"), 1)
            },
            "session_wait_s": percentiles(sessions),
            "job_wait_s": percentiles(jobs),
            "session_slowdown": percentiles(day.slowdowns),
            "waits_s": {who: percentiles(waits) for who, waits in sorted(day.waits_s.items())},
            "events": dict(day.events),
            "still_waiting": len(self.works) - sum(work.runs_since_s is not None for work in self.works.values()),
            "decisions_timed": len(day.decide_s),
            "decide_ms": {"median": statistics.median(decide_ms), "p99": decide_ms[int(0.99 * (len(decide_ms) - 1))]},
            "controller_load": statistics.mean(decide_ms) / 1e3 / self.every_s,
            "usage": day.usage,
        }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile, and the largest; empty for no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    at = {
        name: ordered[int(share * (len(ordered) - 1))] for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    return {"n": len(ordered), **at, "most": ordered[-1]}


def line(row: dict[str, Any]) -> str:
    """One line about one simulation."""
    used, waits, events = row["utilisation"], row["session_wait_s"], row["events"]
    return (
        f"{row['accelerators']:>6,} accelerators, {row['hours']:g} h, load {row['sessions_load']:.2f} + "
        f"{row['jobs_load']:.2f}, quantum {row['quantum_s']:g} s: used {used['secure']:.0%} secure, "
        f"{used['insecure']:.0%} insecure; sessions wait {waits.get('p50', 0):.1f} s, "
        f"99th {waits.get('p99', 0):.1f} s; "
        f"{events.get('jobs preempted', 0):,} jobs preempted, {events.get('turns ended', 0):,} turns; "
        f"a decision {row['decide_ms']['median']:.2f} ms, controller {row['controller_load']:.2%} of a core [simulated]"
    )


def draw(series: dict[str, list[dict[str, Any]]], path: str) -> None:
    """Draw the day, and what grows with size, load and quantum."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, ((day, size), (load, turns)) = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    largest = series["sizes"][-1]
    hours, *shares = zip(*largest["usage"], strict=True)
    day.stackplot(
        hours,
        [[100 * share for share in column] for column in shares],
        labels=["secure world", "insecure world", "resetting"],
        colors=["#2a6f97", "#e9c46a", "#9d0208"],
    )
    day.set(title=f"A day on {largest['accelerators']:,} accelerators", xlabel="hour", ylabel="accelerators in use, %")
    day.set(xlim=(0, largest["hours"]), ylim=(0, 100))
    day.legend(loc="lower right")
    for axes, rows, x, label in (
        (size, series["sizes"], "accelerators", "accelerators"),
        (load, series["loads"], "load", "load offered, over capacity"),
    ):
        for who, colour in (("session", "#2a6f97"), ("job", "#c98a00")):
            for name, style in (("p50", "-"), ("p99", "--")):
                found = [(row[x], max(row[f"{who}_wait_s"].get(name, 0.0), 0.1)) for row in rows]
                text = f"{who}s, {'half' if name == 'p50' else '99 %'} wait less"
                axes.plot(*zip(*found, strict=True), style, marker="o", color=colour, label=text)
        axes.set(yscale="log", xlabel=label, ylabel="wait, s")
        axes.legend(fontsize="small")
    size.set(xscale="log", title="Waiting of who was served, by size")
    load.set(title=f"Waiting of who was served, by load, on {series['loads'][0]['accelerators']:,} accelerators")
    by_size = defaultdict(list)
    for row in series["quanta"]:
        by_size[row["accelerators"]].append((row["quantum_s"], 100 * row["controller_load"]))
    for accelerators, found in sorted(by_size.items()):
        turns.plot(*zip(*found, strict=True), marker="o", label=f"{accelerators:,} accelerators")
    turns.axhline(100, color="black", linewidth=1, linestyle=":")
    turns.set(xscale="log", yscale="log", title="Controller, when more sessions come than fit")
    turns.set(xlabel="quantum, s", ylabel="processor time of decisions, % of a core")
    turns.set_xticks(sorted({row["quantum_s"] for row in series["quanta"]}))
    turns.xaxis.set_major_formatter("{x:g}")
    turns.xaxis.set_minor_formatter("")
    turns.legend(fontsize="small")
    figure.suptitle("The allocator at scale: SIMULATED, with the real allocator code")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """Print one line for each simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerators", type=int, nargs="+", default=[32, 320, 3200, 10_000])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--loads", type=float, nargs="*", default=[0.5, 0.7, 0.9, 1.1, 1.3])
    parser.add_argument("--loads-on", type=int, default=320, help="number of accelerators of the series of loads")
    parser.add_argument("--quanta", type=float, nargs="*", default=[0.5, 2.0, 10.0, 60.0])
    parser.add_argument("--quantum-s", type=float, default=60.0, help="quantum of the other two series")
    parser.add_argument("--sessions-load", type=float, default=0.4, help="of sessions, over capacity; jobs add as much")
    parser.add_argument("--every-s", type=float, default=1.0, help="time between two decisions")
    parser.add_argument("--seed", type=int, default=1)
    for name, value in asdict(Costs()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    parser.add_argument("--picture", metavar="FILE.png")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    costs = Costs(**{name: getattr(options, name) for name in asdict(Costs())})

    def simulate(accelerators: int, hours: float, sessions: float, jobs: float, quantum_s: float) -> dict[str, Any]:
        machine = Machine(
            accelerators,
            hours,
            sessions_load=sessions,
            jobs_load=jobs,
            quantum_s=quantum_s,
            costs=costs,
            every_s=min(options.every_s, quantum_s / 2),
            seed=options.seed,
        )
        loads = {"sessions_load": sessions, "jobs_load": jobs, "load": sessions + jobs, "quantum_s": quantum_s}
        row = machine.run() | loads
        if not options.json:
            print(line(row), flush=True)
        return row

    half = options.sessions_load
    series = {
        "sizes": [simulate(n, options.hours, half, half, options.quantum_s) for n in options.accelerators],
        "loads": [
            simulate(options.loads_on, options.hours, load / 2, load / 2, options.quantum_s) for load in options.loads
        ],
        "quanta": [
            simulate(n, 1 / 60, 60.0, 0.0, quantum_s) for n in options.accelerators for quantum_s in options.quanta
        ],
    }
    if options.picture:
        draw(series, options.picture)
    if options.json:
        json.dump({"series": series, "costs": asdict(costs), "context": machine_context()}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
