"""Reads model files named on standard input, one JSON line each, and answers what came of each of them."""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sectum.errors import SectumError
from sectum.graph import model_file, read
from sectum.ort import cost, coverage

CPU_SECONDS_PER_CASE = 5
WALL_SECONDS_PER_CASE = 120  # for a process that waits; a busy machine may need much of it
ADDRESS_SPACE_BYTES = 3 << 30


class TooSlow(BaseException):
    """The alarm went off."""


def ring(*_: object) -> None:
    raise TooSlow


def use(path: str, as_bytes: bool, batch: int | None, values: dict[str, Any]) -> None:
    """Do with a model what a prediction does."""
    if as_bytes:
        source: str | bytes = Path(path).read_bytes()
    else:
        source = path
    model = read(source, batch=batch, inputs={name: np.array(value) for name, value in values.items()})
    for op in model.graph.operators:
        assert min(cost(op, model.graph).flops_bounds) >= 0
    coverage(model.graph)
    assert model.graph.lifetimes.peak_bytes >= 0
    model.bound_bytes()


def peak_rss_mib() -> int:
    """Of this program: what getrusage says may be the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM:"))


def verdict(case: dict[str, Any]) -> dict[str, object]:
    """Say what comes of a case."""
    signal.alarm(WALL_SECONDS_PER_CASE)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_PER_CASE)
    try:
        use(case["path"], case["as_bytes"], case["batch"], case["values"])
    except SectumError as problem:
        return {"outcome": type(problem).__name__, "exit_code": problem.exit_code, "message": str(problem)}
    except TooSlow:
        return {"outcome": "hang", "exit_code": -1, "message": "out of time"}
    except BaseException as problem:  # noqa: BLE001  # whatever escapes is the finding
        return {"outcome": "escaped", "exit_code": -1, "message": repr(problem)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return {"outcome": "accepted", "exit_code": 0, "message": ""}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    # SIGALRM keeps its default action, death: a Python handler would not run while a C function does not return.
    signal.signal(signal.SIGPROF, ring)
    model_file.BIG_BYTES = 16 << 10
    for line in sys.stdin:
        case = json.loads(line)
        model_file.WHOLE_BYTES = 16 << 20
        answer = verdict(case)
        if not case["as_bytes"] and answer["exit_code"] >= 0:
            model_file.WHOLE_BYTES = 0  # as a file that is too large to be loaded whole
            without_weights = verdict(case)
            if without_weights["exit_code"] != answer["exit_code"]:
                answer = {"outcome": "differs", "exit_code": -1, "message": f"{answer} {without_weights}"}
        answer["peak_rss_mib"] = peak_rss_mib()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
