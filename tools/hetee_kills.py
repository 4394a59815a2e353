"""Kills roles of the service at random while batches are in flight.

Run it from a checkout, with the extra ``hetee`` installed::

    .venv/bin/python tools/hetee_kills.py --kills 100 --seed 1

Each batch must be answered once, with its own result, or end in a clear error within two seconds of the kill, and the
service must recover by itself. The program prints JSON; its exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hetee_rack import Rack, adding_model, until
from sectum.hetee.client import Result, Session
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal

ROLES = ("worker", "host", "controller")
ERROR_S = 2.0
RECOVERY_S = 60.0
# The refusals that a client may get when a role was killed.
CLEAR = {Refusal.WORKER_LOST, Refusal.HOST_LOST, Refusal.CONTROLLER_LOST}


@dataclass
class Tally:
    """The outcome of all kills."""

    kills: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    slowest_error_s: float = 0.0
    slowest_recovery_s: float = 0.0
    wrong: list[str] = field(default_factory=list)


def kill(rack: Rack, role: str) -> None:
    """Send SIGKILL to one role; if it is being restarted, wait until it exists."""
    if role == "worker":
        with suppress(ProcessLookupError):  # it died with its controller
            os.kill(rack.serving_pid(), signal.SIGKILL)
    else:
        os.kill(until(lambda: getattr(rack.launcher, role).pid, what=role), signal.SIGKILL)


def one_kill(rack: Rack, session: Session, role: str, rng: random.Random, tally: Tally) -> None:
    """Send batches, kill a role meanwhile, and check the outcome of each batch."""
    batches: list[np.ndarray] = []
    futures: list[Future[Result]] = []
    moment_s = rng.uniform(0.0, 0.15)
    begun_s, killed_s = time.monotonic(), None
    while len(futures) < 8:
        if killed_s is None and time.monotonic() - begun_s >= moment_s:
            kill(rack, role)
            killed_s = time.monotonic()
        batch = np.full((rng.choice([1, 16, 512]), 64), rng.random(), np.float32)
        try:
            futures.append(session.submit(batch))
        except HeteeError as error:
            note(tally, error, killed_s)
            break
        batches.append(batch)
        time.sleep(rng.uniform(0, 0.02))
    if killed_s is None:
        kill(rack, role)
        killed_s = time.monotonic()
    tally.kills[role] += 1
    for batch, future in zip(batches, futures, strict=True):
        try:
            result = future.result(ERROR_S + 60)
        except HeteeError as error:
            note(tally, error, killed_s)
        else:
            tally.answered += 1
            (output,) = result.outputs.values()
            if output.shape != batch.shape or not np.array_equal(output, batch + 1):
                tally.wrong.append(f"{role}: a batch got another batch's result")
            try:
                result.signed.result(ERROR_S + 60)
            except HeteeError as error:  # killed between a result and its receipt
                note(tally, error, killed_s)


def note(tally: Tally, error: HeteeError, killed_s: float | None) -> None:
    """Count an error, which must be clear and come in time."""
    late_s = time.monotonic() - killed_s if killed_s is not None else 0.0
    tally.errors[error.code.name] += 1
    tally.slowest_error_s = max(tally.slowest_error_s, late_s)
    if error.code not in CLEAR:
        tally.wrong.append(f"an error does not say what was lost: {error}")
    if late_s > ERROR_S:
        tally.wrong.append(f"an error came {late_s:.2f} s after the kill: {error}")


def recovered(rack: Rack, session: Session | None, content: bytes, tally: Tally) -> Session:
    """Wait until the service recovers; returns a session with the model loaded."""
    begun_s = time.monotonic()
    while True:
        try:
            if session is None or session.failed is not None:
                if session is not None:
                    session.close(0)
                session = None
                session = rack.connect(timeout_s=5)
            session.load(content)
        except HeteeError:
            if time.monotonic() - begun_s > RECOVERY_S:
                raise
            time.sleep(0.05)
        else:
            tally.slowest_recovery_s = max(tally.slowest_recovery_s, time.monotonic() - begun_s)
            return session


def run(rack: Rack, kills: int, seed: int, roles: tuple[str, ...] = ROLES) -> Tally:
    """Kill a role ``kills`` times; with as many kills as roles, each role once."""
    rng, tally, content = random.Random(seed), Tally(), adding_model()
    session = recovered(rack, None, content, Tally())
    for number in range(kills):
        role = roles[number] if kills == len(roles) else rng.choice(roles)
        one_kill(rack, session, role, rng, tally)
        session = recovered(rack, session, content, tally)
    with suppress(CleaningUnproven):  # after the controller was killed
        session.close()
    return tally


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="number of kills (default 100)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the random choices (default 1)")
    arguments = parser.parse_args()
    with Rack("cpu=1") as rack:
        tally = run(rack, arguments.kills, arguments.seed)
    found: dict[str, Any] = {
        "seed": arguments.seed,
        "kills": dict(tally.kills),
        "answered": tally.answered,
        "errors": dict(tally.errors),
        "slowest_error_s": round(tally.slowest_error_s, 3),
        "slowest_recovery_s": round(tally.slowest_recovery_s, 3),
        "wrong": tally.wrong,
    }
    print(json.dumps(found, indent=2))
    raise SystemExit(bool(tally.wrong))


if __name__ == "__main__":
    main()
