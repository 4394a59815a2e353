"""Runs many clients on few accelerators for a long time.

Run it from a checkout, with the extra ``hetee`` installed::

    .venv/bin/python tools/hetee_soak.py --seconds 300

No batch may fail, each client must be served, and the memory of each role must not grow. Time counts from the moment
when each client has its first answer, so that the start of the workers is not measured. The program prints JSON; its
exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hetee_rack import Rack, adding_model
from sectum.hetee.errors import HeteeError

CLIENTS, ACCELERATORS, SECONDS, BATCH = 24, 4, 300.0, 64
# Allowed growth of memory between the first and the last third of the time: allocators keep freed memory.
GROWTH_MIB, GROWTH_SHARE = 8.0, 0.1
# Clients that have no answer after this many times the duration count as starved.
PATIENCE = 10


class Client(threading.Thread):
    """One data owner, which sends batches until it is told to stop, and checks each answer.

    Attributes:
        answered: number of batches answered since all clients were ready.
        longest_s: longest time from sending a batch to its answer, since then.
        errors: everything that went wrong.
    """

    def __init__(self, rack: Rack, number: int, together: threading.Barrier, stop: threading.Event, batch: int) -> None:
        super().__init__(name=f"client {number}")
        self._rack, self._number, self._batch = rack, number, batch
        self._together, self._stop_it = together, stop
        self.answered = 0
        self.longest_s = 0.0
        self.errors: list[str] = []

    def run(self) -> None:
        """Work until the end."""
        try:
            with self._rack.connect(wait_s=600, timeout_s=60) as session:
                session.load(adding_model())
                self._ask(session, 0)
                self._together.wait()
                while not self._stop_it.is_set():
                    begun_s = time.monotonic()
                    self._ask(session, self.answered + 1)
                    self.longest_s = max(self.longest_s, time.monotonic() - begun_s)
                    self.answered += 1
        except (HeteeError, threading.BrokenBarrierError) as error:
            self._together.abort()
            self.errors.append(f"{type(error).__name__}: {error}")

    def _ask(self, session: Any, turn: int) -> None:
        numbers = np.full((self._batch, 64), self._number * 1000 + turn % 1000, np.float32)
        result = session.infer(numbers, deadline_ms=600_000)
        if not np.array_equal(result.outputs["y"], numbers + 1):
            self.errors.append("a batch got another batch's result")


def resident_mib(pid: int | None) -> float | None:
    """Resident memory of a process in MiB; None if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    _, found, rest = status.partition("VmRSS:")
    return int(rest.split()[0]) / 1024 if found else None


def fairness(counts: Sequence[int]) -> float:
    """Jain's index: 1 if all counts are equal, 1/n if one of n has all (Jain, Chiu, Hawe: DEC-TR-301, 1984)."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0


class Memory:
    """Samples of the memory of host, controller, and the workers that serve now.

    Each client keeps its session, so these workers live until the end. Spare workers are not sampled.
    """

    def __init__(self, rack: Rack) -> None:
        launcher = rack.launcher
        self._pids = {"host": launcher.host.pid, "controller": launcher.controller.pid}
        self._pids |= {f"worker {event['pid']}": event["pid"] for event in rack.events("vouched")}
        self._begun_s = time.monotonic()
        self.seconds: list[float] = []
        self.samples: dict[str, list[float]] = {}

    def sample(self) -> None:
        """Take one sample of each process."""
        self.seconds.append(round(time.monotonic() - self._begun_s, 1))
        for name, pid in self._pids.items():
            found = resident_mib(pid)
            if found is not None:
                self.samples.setdefault(name, []).append(found)

    def report(self) -> dict[str, dict[str, float]]:
        """For each process that lived all the time: medians of the first and last third, and the maximum, in MiB."""
        whole = {name: found for name, found in self.samples.items() if len(found) == len(self.seconds)}
        third = max(len(self.seconds) // 3, 1)
        return {
            name: {
                "first": round(statistics.median(found[:third]), 1),
                "last": round(statistics.median(found[-third:]), 1),
                "most": round(max(found), 1),
            }
            for name, found in whole.items()
        }

    def over_time(self, points: int = 30) -> dict[str, list[float]]:
        """Series for a chart: seconds, then MiB of host, of controller, and of all workers together."""
        step = max(len(self.seconds) // points, 1)
        workers = [found for name, found in self.samples.items() if name.startswith("worker")]
        workers = [found for found in workers if len(found) == len(self.seconds)]
        series = {
            "seconds": self.seconds,
            "host": self.samples["host"],
            "controller": self.samples["controller"],
            "workers": [sum(each) for each in zip(*workers, strict=True)],
        }
        return {name: [round(value, 1) for value in values[::step]] for name, values in series.items()}


def grown(memory: dict[str, dict[str, float]]) -> list[str]:
    """The processes whose memory grew."""
    return [
        f"{name}: {found['first']} MiB, then {found['last']} MiB"
        for name, found in memory.items()
        if found["last"] > found["first"] * (1 + GROWTH_SHARE) + GROWTH_MIB
    ]


def served(threads: Iterable[Client]) -> bool:
    """Whether each client had an answer."""
    return all(thread.answered for thread in threads)


def run(clients: int = CLIENTS, accelerators: int = ACCELERATORS, seconds: float = SECONDS) -> dict[str, Any]:
    """Run the clients for ``seconds``; returns the results."""
    stop, together = threading.Event(), threading.Barrier(clients + 1)
    with Rack(f"cpu={accelerators}", arguments=["--spares", "2", "--enclaves", str(clients)]) as rack:
        threads = [Client(rack, number, together, stop, BATCH) for number in range(clients)]
        for thread in threads:
            thread.start()
        before = (rack.launcher.host.pid, rack.launcher.controller.pid)
        with suppress(threading.BrokenBarrierError):  # the client's errors say why
            together.wait()
        memory = Memory(rack)
        begun_s, passed_s = time.monotonic(), 0.0
        while passed_s < seconds or (not served(threads) and passed_s < seconds * PATIENCE):
            memory.sample()
            time.sleep(min(1.0, seconds / 30))
            passed_s = time.monotonic() - begun_s
            if any(thread.errors for thread in threads):
                break
        stop.set()
        for thread in threads:
            thread.join()
        same = before == (rack.launcher.host.pid, rack.launcher.controller.pid)
    answered = [thread.answered for thread in threads]
    found = memory.report()
    return {
        "clients": clients,
        "accelerators": f"{accelerators} real CPU accelerators of one thread",
        "seconds": memory.seconds[-1] if memory.seconds else 0.0,
        "errors": [error for thread in threads for error in thread.errors],
        "restarted": not same,
        "answered": {"least": min(answered), "median": statistics.median(answered), "most": max(answered)},
        "fairness_jain": round(fairness(answered), 4),
        "longest_wait_s": round(max(thread.longest_s for thread in threads), 2),
        "memory_mib": found,
        "memory_grown": grown(found),
        "memory_mib_over_time": memory.over_time() if memory.seconds else {},
    }


def wrong(found: dict[str, Any]) -> list[str]:
    """Everything that was wrong: errors, a restarted role, a starved client, memory that grew."""
    starved = [] if found["answered"]["least"] else ["a client was starved: it had no answer"]
    restarted = ["the host or the controller was restarted"] if found["restarted"] else []
    return [*found["errors"], *restarted, *starved, *found["memory_grown"]]


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=CLIENTS, metavar="N", help=f"clients (default {CLIENTS})")
    parser.add_argument(
        "--accelerators", type=int, default=ACCELERATORS, metavar="N", help=f"CPU accelerators (default {ACCELERATORS})"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"duration (default {SECONDS:g})")
    arguments = parser.parse_args()
    found = run(arguments.clients, arguments.accelerators, arguments.seconds)
    print(json.dumps(found | {"wrong": wrong(found)}, indent=2))
    raise SystemExit(bool(wrong(found)))


if __name__ == "__main__":
    main()
