"""Runs a pool of racks in the foreground, until a signal comes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.hetee.pool.protocol import Pool


def run_pool(pool: Pool, greet: Callable[[], None], drain_s: float, tell: Callable[..., None]) -> None:
    """Start a pool, run it until a signal comes, and stop it; a second Ctrl-C ends open sessions.

    Args:
        pool: what to run.
        greet: is called when the pool is ready.
        drain_s: time that open sessions have to finish.
        tell: is told the events.

    Raises:
        UsageError: the pool cannot start.
    """
    stops: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stops.append(1))

    def stopped() -> bool:
        return bool(stops)

    try:
        pool.start(stopped)
        if not stops:
            greet()
        pool.run(stopped)
        tell("stopping", f"stopping; sessions have {drain_s:g} s to finish", drain_s=drain_s)
        signal.signal(signal.SIGINT, lambda *_: pool.hurry())
    finally:
        pool.stop()
    tell("stopped", "")
