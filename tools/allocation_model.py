"""Searches the model of sessions, leases and resets (models/allocation.pml) with SPIN, without and with seeded faults.

It needs ``spin`` (Debian's package of that name) and a C compiler. Run it from a checkout::

    .venv/bin/python tools/allocation_model.py

Its exit code is 1 if a property is violated, or if a fault is not found; 2 if a program is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from handshake_model import Outcome, missing, read_outcome, report

MODEL = Path(__file__).resolve().parents[1] / "models" / "allocation.pml"


class Bounds(NamedTuple):
    """What a search covers: all runs with so many accelerators and crashes."""

    accelerators: int
    crashes: int


SAFETY = ("exclusive", "one_worker", "own_batches", "measured_first", "clean")
SAFE = "safe"  # the five in one search
LIVENESS = ("served", "answered")
NOTHING_HAPPENS = ("never_grown", "never_shared")  # must be violated: they are, if enclaves grow and share the machine
BOUNDS = Bounds(2, 2)
LIVENESS_BOUNDS = Bounds(2, 1)
FAULTS = {
    1: ("an accelerator is granted before its reset", "exclusive"),
    2: ("an accelerator gets a second owner", "exclusive"),
    3: ("a key is released before the worker was measured", "measured_first"),
    4: ("RETURNED is lost, and no time limit ends the worker", "served"),
    5: ("after a stale LOST the next enclave does not wait for the fence", "own_batches"),
    6: ("the end of a worker is told before it was collected", "one_worker"),
    7: ("a worker is used again for another session", "one_worker"),
    8: ("an accelerator changes worlds without a reset", "clean"),
    9: ("a replayed batch is computed again", "own_batches"),
    10: ("a job is not preempted", "served"),
    11: ("RESIZE takes an accelerator without REVOKE", "exclusive"),
}
_DEPTH = 1_000_000
_LIMIT_S = 900


def build(folder: Path, bounds: Bounds, *, fault: int = 0, liveness: bool = False) -> Path:
    """Make the verifier of the model with a fault in a folder; returns its path.

    Raises:
        subprocess.CalledProcessError: the model is not correct Promela.
    """
    sizes = [f"-DACCELERATORS={bounds.accelerators}", f"-DCRASHES={bounds.crashes}", f"-DENDLESS={int(liveness)}"]
    kind = ["-DNFAIR=4", "-DNOREDUCE"] if liveness else ["-DSAFETY"]
    optimised = "-O0" if fault else "-O1"  # a fault is found sooner than an optimised verifier is compiled
    commands = (
        ["spin", f"-DFAULT={fault}", *sizes, "-a", str(MODEL)],
        ["cc", optimised, "-w", "-DVECTORSZ=2048", *kind, "-o", "pan", "pan.c"],
    )
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_LIMIT_S)
    return folder / "pan"


def check(verifier: Path, name: str, *, liveness: bool = False) -> Outcome:
    """Search all runs for one that violates a property; for liveness, all in which no process waits for ever unfairly.

    Raises:
        RuntimeError: the search was not complete, though it found nothing.
    """
    command = [str(verifier), f"-m{_DEPTH}", "-w22", *(["-a", "-f"] if liveness else []), "-N", name]
    run = subprocess.run(command, cwd=verifier.parent, check=False, capture_output=True, text=True, timeout=_LIMIT_S)
    return read_outcome(name, run.stdout, run.stderr)


def searches(fault: int = 0) -> list[tuple[str, bool]]:
    """The properties to search for, and whether each is one of liveness."""
    names = (FAULTS[fault][1],) if fault else (SAFE, *NOTHING_HAPPENS, *LIVENESS)
    return [(name, name in LIVENESS) for name in names]


def verdicts(folder: Path, bounds: Bounds, liveness_bounds: Bounds) -> dict[str, dict[str, Outcome]]:
    """What each property says of the model without a fault, and of each fault the property that must find it."""
    found: dict[str, dict[str, Outcome]] = {}
    for fault in (0, *FAULTS):
        outcomes = found[FAULTS[fault][0] if fault else "allocation"] = {}
        for name, liveness in searches(fault):
            place = folder / f"{fault}-{liveness}"
            if not place.exists():
                place.mkdir()
                build(place, liveness_bounds if liveness else bounds, fault=fault, liveness=liveness)
            outcomes[name] = check(place / "pan", name, liveness=liveness)
    return found


def wrong(found: dict[str, dict[str, Outcome]]) -> list[str]:
    """What is not as it has to be."""
    held = found["allocation"]
    problems = [f"violated: {name}" for name in (SAFE, *LIVENESS) if held[name].violated]
    problems += [f"nothing was checked: {name} holds" for name in NOTHING_HAPPENS if not held[name].violated]
    problems += [f"not found: {about}" for about, name in FAULTS.values() if not found[about][name].violated]
    return problems


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerators", type=int, choices=(1, 2), default=BOUNDS.accelerators)
    parser.add_argument("--crashes", type=int, default=BOUNDS.crashes)
    parser.add_argument("--json", action="store_true", help="print one object for programs")
    arguments = parser.parse_args()
    if names := missing():
        print(f"not installed: {', '.join(names)}. On Debian: apt-get install spin gcc libc6-dev", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="sectum-model-") as folder:
        found = verdicts(Path(folder), Bounds(arguments.accelerators, arguments.crashes), LIVENESS_BOUNDS)
    return report(found, wrong(found), as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
