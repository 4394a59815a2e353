"""Searches the model of the handshake (models/handshake.pml) for attacks with SPIN, without and with seeded faults.

It needs ``spin`` (Debian's package of that name) and a C compiler. Run it from a checkout::

    .venv/bin/python tools/handshake_model.py

Its exit code is 1 if a property of the handshake is violated, or if a fault is not found; 2 if a program is missing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

MODEL = Path(__file__).resolve().parents[1] / "models" / "handshake.pml"
PROPERTIES = ("secrecy", "same_evidence", "same_identity", "same_transcript")
ALL = "all"  # the four in one search
NOTHING_HAPPENS = "nothing_happens"  # must be violated: it is, when honest sessions can be finished
FAULTS = {
    1: ("the evidence is not in the transcript", "same_evidence"),
    2: ("both directions have one key: there is no role tag", "same_transcript"),
    3: ("the nonce of the evidence is not checked", "secrecy"),
    4: ("the client's signature does not cover the key exchange", "same_identity"),
    5: ("the client's MAC is not checked", "same_identity"),
    6: ("the controller's MAC is not checked", "same_evidence"),
    7: ("the expiry of certificates is not checked", "secrecy"),
}
_DEPTH = 100_000
_LIMIT_S = 300


class Outcome(NamedTuple):
    """What SPIN says of one property.

    Attributes:
        violated: whether it found a run that violates it.
        states: number of states that it has stored.
    """

    violated: bool
    states: int


def missing() -> list[str]:
    """The programs that this needs and that are not installed."""
    return [name for name in ("spin", "cc") if shutil.which(name) is None]


def build(folder: Path, fault: int = 0) -> Path:
    """Make the verifier of the model with a fault in a folder; returns its path.

    Raises:
        subprocess.CalledProcessError: the model is not correct Promela.
    """
    commands = (["spin", f"-DFAULT={fault}", "-a", str(MODEL)], ["cc", "-O0", "-w", "-DSAFETY", "-o", "pan", "pan.c"])
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_LIMIT_S)
    return folder / "pan"


def check(verifier: Path, name: str) -> Outcome:
    """Search all runs for one that violates a property.

    Raises:
        RuntimeError: the search was not complete, though it found nothing.
    """
    command = [str(verifier), f"-m{_DEPTH}", "-N", name]
    run = subprocess.run(command, cwd=verifier.parent, check=False, capture_output=True, text=True, timeout=_LIMIT_S)
    return read_outcome(name, run.stdout, run.stderr)


def read_outcome(name: str, stdout: str, stderr: str) -> Outcome:
    """What a verifier's output says of a property.

    Raises:
        RuntimeError: the search was not complete, though it found nothing.
    """
    errors, states = re.search(r"errors: (\d+)", stdout), re.search(r"(\d+) states, stored", stdout)
    if errors is None or states is None:
        raise RuntimeError(f"the verifier says of {name}: {stdout[-500:]}{stderr[-500:]}")
    violated = errors[1] != "0"
    if not violated and ("Search not completed" in stdout or "max search depth too small" in stdout):
        raise RuntimeError(f"the search for runs that violate {name} was not complete: {stdout[-500:]}")
    return Outcome(violated, int(states[1]))


def verdicts(folder: Path) -> dict[str, dict[str, Outcome]]:
    """What each property says of the model without a fault, and of each fault the property that must find it."""
    found = {}
    for fault in (0, *FAULTS):
        place = folder / str(fault)
        place.mkdir()
        verifier = build(place, fault)
        names = (ALL, NOTHING_HAPPENS) if not fault else (FAULTS[fault][1],)
        found[FAULTS[fault][0] if fault else "handshake"] = {name: check(verifier, name) for name in names}
    return found


def wrong(found: dict[str, dict[str, Outcome]]) -> list[str]:
    """What is not as it has to be."""
    held = found["handshake"]
    problems = ["the handshake violates a property"] if held[ALL].violated else []
    problems += [] if held[NOTHING_HAPPENS].violated else ["no honest session can be finished in the model"]
    for about, property_name in FAULTS.values():
        if not found[about][property_name].violated:
            problems.append(f"not found: {about}")
    return problems


def report(found: dict[str, dict[str, Outcome]], problems: list[str], *, as_json: bool) -> int:
    """Print what SPIN found; returns the exit code."""
    if as_json:
        outcomes = {about: {name: outcome._asdict() for name, outcome in each.items()} for about, each in found.items()}
        print(json.dumps({"outcomes": outcomes, "wrong": problems}))
        return bool(problems)
    for about, each in found.items():
        for name, outcome in each.items():
            says = "violated" if outcome.violated else "holds"
            print(f"{about}: {name} {says} ({outcome.states:,} states)")
    for problem in problems:
        print(problem)
    return bool(problems)


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one object for programs")
    arguments = parser.parse_args()
    if names := missing():
        print(f"not installed: {', '.join(names)}. On Debian: apt-get install spin gcc libc6-dev", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="sectum-model-") as folder:
        found = verdicts(Path(folder))
    return report(found, wrong(found), as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
