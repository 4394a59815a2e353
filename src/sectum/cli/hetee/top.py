"""``sectum hetee top``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from sectum.cli.hetee.options import METRICS, need_extra
from sectum.cli.options import examples, json_option, positive


def ask(address: str) -> dict[str, Any] | None:
    """The counts of a rack or a pool that answers operators at ``host:port``; None if none answers."""
    need_extra()
    from sectum.hetee.inventory import ask_state

    return ask_state(address)


@click.command(epilog=examples("sectum hetee top", "sectum hetee top --once --json"))
@click.option(
    "--metrics",
    default=METRICS,
    show_default=True,
    metavar="HOST:PORT",
    help="Address for operators, as given to 'up'.",
)
@click.option("--once", is_flag=True, help="Show it once; the default if the output is not a terminal.")
@click.option(
    "--every",
    "every_s",
    callback=positive("seconds", 3600),
    default="1",
    show_default=True,
    metavar="S",
    help="Seconds between updates.",
)
@json_option
def top(*, metrics: str, once: bool, every_s: float, as_json: bool) -> None:
    """Show enclaves and jobs, the worlds of accelerators, queues and rates; of a pool, its racks. Ctrl-C ends it."""
    from sectum.cli.render.output import print_json

    before, then = None, 0.0
    while True:
        state, now = ask(metrics), time.monotonic()
        if state is None:
            from sectum.hetee.errors import Refusal, refusal

            detail = f"no host answers operators at {metrics}"
            raise refusal(Refusal.HOST_LOST, detail, "check that 'sectum hetee up' runs, or name its --metrics")
        if as_json:
            print_json(state)
        else:
            if not once and sys.stdout.isatty():
                click.clear()
            _show(state, before, now - then)
        if once or as_json or not sys.stdout.isatty():
            return
        before, then = state, now
        time.sleep(every_s)


def _show(state: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> None:
    from sectum.cli.render.figures import plural
    from sectum.cli.render.show import rows, say
    from sectum.units import format_bytes

    if "racks" in state:
        _show_pool(state)
        return
    service, host = state["controller"], state["host"]
    if service is None:
        say(f"the controller does not answer: {state['error']}")
        return
    waiting = f"{service['waiting']:,} waiting for an enclave"
    spare = sum(worker["state"] == "spare" for worker in service["workers"])
    draining = "; it is being stopped" if service["draining"] else ""
    say(
        f"{plural(service['sessions'], 'session')}, {waiting}, {plural(spare, 'spare worker')}, "
        f"{plural(host['open'], 'connection')}{draining}"
    )
    for problem in service.get("problems", ()):
        say(f"new clients are not served: {problem}")
    for warning in service.get("warnings", ()):
        say(f"warning: {warning}")
    for refused in service.get("unconfined", ()):
        say(f"not confined: {refused}")
    for line in _worlds(service):
        say(line)
    earlier = {w["index"]: w for w in (before or {}).get("controller", {}).get("workers", ())} if before else {}
    lines = []
    for worker in service["workers"]:
        if worker["state"] == "spare":
            continue
        was = earlier.get(worker["index"])
        rate = f"{(worker['images'] - was['images']) / seconds:,.1f}" if was else "-"
        lines.append(
            (
                str(worker["index"]),
                worker["state"],
                ", ".join(worker["accelerators"]) or "waiting",
                f"{worker['open_streams']:,}",
                f"{worker['batches']:,}",
                f"{worker['images']:,}",
                rate,
                format_bytes(worker["bytes"]),
            )
        )
    if lines:
        header = ("worker", "state", "accelerators", "open", "batches", "images", "images/s", "data")
        rows(lines, right=(0, 3, 4, 5, 6, 7), header=header)
    jobs = [
        (str(job["index"]), job["state"], f"{job['count']} of {job['accelerator']}", str(job["priority"]))
        for job in service.get("jobs", ())
    ]
    if jobs:
        rows(jobs, right=(0, 3), header=("job", "state", "accelerators", "priority"))


def _worlds(service: dict[str, Any]) -> Iterator[str]:
    """How many accelerators each world has, and how often jobs were preempted; nothing if there are none to tell of."""
    from collections import Counter

    from sectum.cli.render.figures import plural

    worlds = Counter((one["name"].partition(":")[0], one["world"]) for one in service.get("accelerators", ()))
    if worlds:
        kinds = [
            f"{kind}: {', '.join(f'{count} {world}' for (other, world), count in worlds.items() if other == kind)}"
            for kind in dict.fromkeys(kind for kind, _ in worlds)
        ]
        preemptions = service.get("preemptions", 0)
        yield "; ".join(kinds) + (f"; {plural(preemptions, 'preemption')} of jobs" if preemptions else "")


def _show_pool(pool: dict[str, Any]) -> None:
    from sectum.cli.render.show import rows, say

    serving = sum(rack["healthy"] for rack in pool["racks"])
    say(f"{serving} of {len(pool['racks'])} racks serve")
    lines = [
        (
            rack["name"],
            rack["url"] or "-",
            ", ".join(f"{rack['free'].get(kind, 0)} of {count} {kind}" for kind, count in rack["accelerators"].items()),
            str(rack["sessions"]),
            str(rack["waiting"]),
            str(rack["restarts"]),
            "serves" if rack["healthy"] else "; ".join(rack["problems"]),
        )
        for rack in pool["racks"]
    ]
    header = ("rack", "address", "free", "sessions", "waiting", "restarts", "state")
    rows(lines, right=(3, 4, 5), header=header)
