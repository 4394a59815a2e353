"""What every pool of racks does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from sectum.hetee.inventory import RackEntry
from sectum.hetee.wire.state import State

Tell = Callable[..., None]
"""Is told an event, a sentence for a person (or an empty text), and facts by name."""
Stopped = Callable[[], bool]
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_TEXT = 1024


class Pool(Protocol):
    """Racks that are started, watched and stopped together. `racks` may be called from any thread."""

    def start(self, stopped: Stopped) -> None:
        """Start the racks, and wait until one is ready or ``stopped``.

        Raises:
            UsageError: no rack can start.
        """
        ...

    def run(self, stopped: Stopped) -> None:
        """Start again what ends, until ``stopped``."""
        ...

    def racks(self) -> tuple[RackEntry, ...]:
        """What is known of each rack."""
        ...

    def hurry(self) -> None:
        """Make `stop` end sessions at once instead of waiting for them."""
        ...

    def stop(self) -> None:
        """Let sessions finish, then stop every rack."""
        ...


def rack_name(text: str) -> str:
    """A text as the name of a rack: letters, digits, and ``._-``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:64].strip(".") or "rack"


def entry_of(name: str, url: str, state: dict[str, Any] | None, *, restarts: int = 0, problem: str = "") -> RackEntry:
    """What the host of a rack tells operators, as an entry of an inventory.

    Args:
        name: name of the rack.
        url: its address; empty if it has not been ready yet.
        state: the host's answer at ``/state``; None if it does not answer.
        restarts: times that it was started again.
        problem: why it does not answer, if that is known.
    """
    try:
        found = msgspec.convert((state or {}).get("controller"), State)
    except msgspec.ValidationError:
        why = problem or str((state or {}).get("error") or "the rack does not answer")
        return RackEntry(name, url, problems=(printable(why),), restarts=restarts)
    kinds = Counter(one.name.partition(":")[0] for one in found.accelerators)
    free = Counter(one.name.partition(":")[0] for one in found.accelerators if one.world == "free")
    problems = (*found.problems, *(("it is being stopped",) if found.draining else ()))
    return RackEntry(
        name,
        url,
        dict(kinds),
        dict(free),
        healthy=bool(url) and not problems,
        problems=tuple(map(printable, problems))[:16],
        sessions=found.sessions,
        waiting=found.waiting,
        restarts=restarts,
    )


def printable(text: str) -> str:
    """A text on one line, without control characters."""
    return _UNPRINTABLE.sub(" ", text)[:_TEXT]
