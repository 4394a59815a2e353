"""Many clients at once on few accelerators: ``python -m tests.e2e.hetee_soak --clients 24 --accelerators 4``.

No batch may fail, every client has to get its turn, and the memory of host and controller has to stay what it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from sectum.hetee.errors import HeteeError
from sectum.testing.hetee_rack import Rack, adding_model


def resident_mib(pid: int | None) -> float:
    """Memory that a process has, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Client(threading.Thread):
    """One data owner: sends batches until it is told to stop, and checks each answer."""

    def __init__(self, rack: Rack, number: int, stop: threading.Event, *, batch: int) -> None:
        super().__init__(name=f"client {number}")
        self._rack, self._number, self._stop_it, self._batch = rack, number, stop, batch
        self.answered = 0
        self.longest_s = 0.0
        self.errors: list[str] = []

    def run(self) -> None:
        """Work until the end."""
        try:
            with self._rack.connect(wait_s=300) as session:
                session.load(adding_model())
                while not self._stop_it.is_set():
                    numbers = np.full((self._batch, 64), self._number + self.answered, np.float32)
                    begun_s = time.monotonic()
                    result = session.infer(numbers, deadline_ms=300_000)
                    self.longest_s = max(self.longest_s, time.monotonic() - begun_s)
                    if not np.array_equal(result.outputs["y"], numbers + 1):
                        self.errors.append("another's result")
                    self.answered += 1
        except HeteeError as error:
            self.errors.append(str(error))


def run(clients: int, accelerators: int, seconds: float, batch: int = 64) -> dict[str, Any]:
    """Have so many clients work for so long; what came of it."""
    with Rack(f"cpu={accelerators}", arguments=["--spares", "2"]) as rack:
        stop = threading.Event()
        threads = [Client(rack, number, stop, batch=batch) for number in range(clients)]
        for thread in threads:
            thread.start()
        roles = {"host": rack.launcher.host.pid, "controller": rack.launcher.controller.pid}
        begun_s, memory = time.monotonic(), []
        while time.monotonic() < begun_s + seconds:
            time.sleep(min(2.0, seconds / 5))
            if all(thread.answered or thread.errors for thread in threads):
                memory.append({role: resident_mib(pid) for role, pid in roles.items()})
        stop.set()
        for thread in threads:
            thread.join()
        same = roles == {"host": rack.launcher.host.pid, "controller": rack.launcher.controller.pid}
    answered = [thread.answered for thread in threads]
    return {
        "clients": clients,
        "accelerators": accelerators,
        "seconds": seconds,
        "errors": [error for thread in threads for error in thread.errors],
        "restarted": not same,
        "answered": {"least": min(answered), "median": statistics.median(answered), "most": max(answered)},
        "longest_wait_s": round(max(thread.longest_s for thread in threads), 2),
        "memory_mib": {"first": memory[0], "last": memory[-1]} if memory else {},
    }


def main() -> None:
    """Work, and print what came of it as JSON; exit code 1 if anything failed or nobody served somebody."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--accelerators", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=300)
    arguments = parser.parse_args()
    found = run(arguments.clients, arguments.accelerators, arguments.seconds)
    print(json.dumps(found, indent=2))
    raise SystemExit(bool(found["errors"]) or not found["answered"]["least"])


if __name__ == "__main__":
    main()
