"""Many clients at once on few accelerators: ``.venv/bin/python tools/hetee_soak.py --seconds 300``.

No batch may fail, every client has to get its turn, and the memory of every role has to stay what it was. Time is
counted from when every client has had its first answer: starting two dozen workers is not what is watched here.
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

from sectum.hetee.errors import HeteeError
from sectum.testing.hetee_rack import Rack, adding_model

CLIENTS, ACCELERATORS, SECONDS, BATCH = 24, 4, 300.0, 64
# What memory may grow by between the first and the last third of the time: allocators keep what they once had.
GROWTH_MIB, GROWTH_SHARE = 8.0, 0.1
# A service that answers some and not others for so many times the time of the test has starved them.
PATIENCE = 10


class Client(threading.Thread):
    """One data owner: sends batches until it is told to stop, and checks each answer.

    Attributes:
        answered: batches since everybody was ready.
        longest_s: the longest time from sending a batch to its answer, since then.
        errors: what went wrong; nothing may.
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
            self.errors.append("another's result")


def resident_mib(pid: int | None) -> float | None:
    """Memory that a process has, in MiB; None if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    _, found, rest = status.partition("VmRSS:")
    return int(rest.split()[0]) / 1024 if found else None


def fairness(counts: Sequence[int]) -> float:
    """Jain's index: 1 if all have the same, 1/n if one of n has everything (Jain, Chiu, Hawe: DEC-TR-301, 1984)."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0


class Memory:
    """Samples of what the processes of a rack hold: host, controller, and the workers that serve now.

    A client keeps its session, so these workers are there to the end; spares come and go.
    """

    def __init__(self, rack: Rack) -> None:
        launcher = rack.launcher
        self._pids = {"host": launcher.host.pid, "controller": launcher.controller.pid}
        self._pids |= {f"worker {event['pid']}": event["pid"] for event in rack.events("vouched")}
        self._begun_s = time.monotonic()
        self.seconds: list[float] = []
        self.samples: dict[str, list[float]] = {}

    def sample(self) -> None:
        """Look once."""
        self.seconds.append(round(time.monotonic() - self._begun_s, 1))
        for name, pid in self._pids.items():
            found = resident_mib(pid)
            if found is not None:
                self.samples.setdefault(name, []).append(found)

    def report(self) -> dict[str, dict[str, float]]:
        """Of each role that was there all the time: the median of the first and of the last third, in MiB, and most."""
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
        """What a drawing of it needs: seconds, then MiB of host, controller, and all workers together."""
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
    """Those whose memory did not stay what it was."""
    return [
        f"{name}: {found['first']} MiB, then {found['last']} MiB"
        for name, found in memory.items()
        if found["last"] > found["first"] * (1 + GROWTH_SHARE) + GROWTH_MIB
    ]


def served(threads: Iterable[Client]) -> bool:
    """Whether everybody had an answer."""
    return all(thread.answered for thread in threads)


def run(clients: int = CLIENTS, accelerators: int = ACCELERATORS, seconds: float = SECONDS) -> dict[str, Any]:
    """Have so many clients work for so long; what came of it."""
    stop, together = threading.Event(), threading.Barrier(clients + 1)
    with Rack(f"cpu={accelerators}", arguments=["--spares", "2", "--enclaves", str(clients)]) as rack:
        threads = [Client(rack, number, together, stop, BATCH) for number in range(clients)]
        for thread in threads:
            thread.start()
        before = (rack.launcher.host.pid, rack.launcher.controller.pid)
        with suppress(threading.BrokenBarrierError):  # a client says why
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
    """What must not be: errors, a role that was started again, somebody who starved, memory that grew."""
    starved = [] if found["answered"]["least"] else ["a client had no answer while others had"]
    restarted = ["host or controller was started again"] if found["restarted"] else []
    return [*found["errors"], *restarted, *starved, *found["memory_grown"]]


def main() -> None:
    """Work, and print what came of it as JSON; exit code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--accelerators", type=int, default=ACCELERATORS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    found = run(arguments.clients, arguments.accelerators, arguments.seconds)
    print(json.dumps(found | {"wrong": wrong(found)}, indent=2))
    raise SystemExit(bool(wrong(found)))


if __name__ == "__main__":
    main()
