"""How long a client waits for an enclave from the idle queue: one confined worker is ready, and nobody else asks.

It is the whole of ``connect``: TCP, the handshake, the controller's evidence, the worker's evidence and its keys. The
first connection is left out; each of the others waits until the next spare worker has started.

    python benchmarks/hetee_ready.py [--repetitions 20] [--limit-ms 200] [--json PATH]

Exit code: 0, or 1 if the median is above the limit, or 2 if the benchmark did not run. Let nothing else run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from sectum.hetee.bench.context import machine
from sectum.hetee.bench.local_rack import LocalRack
from sectum.hetee.errors import HeteeError

_SETTLE_S = 0.5


def measure(rack: LocalRack, repetitions: int) -> list[float]:
    """Milliseconds of each connection."""
    waited_ms = []
    for _ in range(repetitions + 1):
        while not rack.ready():
            time.sleep(0.05)
        time.sleep(_SETTLE_S)  # the start of the spare worker is over
        begun_s = time.perf_counter()
        with rack.connect(accelerator="cpu"):
            waited_ms.append((time.perf_counter() - begun_s) * 1e3)
    return waited_ms[1:]


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description="The wait for an enclave from the idle queue.")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--limit-ms", type=float, default=200.0, help="the longest median")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything there")
    arguments = parser.parse_args()
    try:
        with LocalRack("cpu=1", arguments=["--spares", "1"]) as rack:
            waited_ms = measure(rack, arguments.repetitions)
    except (HeteeError, OSError) as error:
        print(f"the benchmark did not run: {error}", file=sys.stderr)
        return 2
    median_ms = statistics.median(waited_ms)
    print(
        f"ready from the idle queue: median {median_ms:.1f} ms, {min(waited_ms):.1f} to {max(waited_ms):.1f} "
        f"in {len(waited_ms)} connections (at most {arguments.limit_ms:g}), measured"
    )
    if arguments.json:
        result = {"what": "connect to a service with a spare worker, measured", "waited_ms": waited_ms}
        arguments.json.write_text(json.dumps(result | {"context": machine()}, indent=1) + "\n")
    return 0 if median_ms <= arguments.limit_ms else 1


if __name__ == "__main__":
    sys.exit(main())
