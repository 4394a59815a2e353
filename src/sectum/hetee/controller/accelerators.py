"""Who owns which accelerator, and who waits for one: rule R1."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Waiter(NamedTuple):
    """A session that waits for accelerators of a kind, with or without an enclave yet."""

    tenant: int
    needs: int


class Fleet:
    """All accelerators of a machine. Each is owned by at most one enclave; those who wait are served in their order.

    Args:
        counts: how many there are of each kind.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        self._owners: dict[str, int | None] = {
            f"{kind}:{number}": None for kind, count in self.counts.items() for number in range(count)
        }
        self._queues: dict[str, deque[Waiter]] = {kind: deque() for kind in self.counts}

    def owned(self, enclave: int) -> tuple[str, ...]:
        """The accelerators of an enclave."""
        return tuple(name for name, owner in self._owners.items() if owner == enclave)

    def free(self, kind: str) -> list[str]:
        """The accelerators of a kind that nobody owns."""
        return [name for name, owner in self._owners.items() if owner is None and _kind(name) == kind]

    def grant(self, enclave: int, names: Iterable[str]) -> None:
        """Give free accelerators to an enclave."""
        for name in names:
            assert self._owners[name] is None, f"{name} is owned already"
            self._owners[name] = enclave

    def take_back(self, names: Iterable[str]) -> None:
        """Take accelerators from an enclave that gave them back, or that is no more."""
        for name in names:
            self._owners[name] = None

    def wait(self, kind: str, waiter: Waiter) -> None:
        """Queue at the end; who waits already keeps its place."""
        if all(other.tenant != waiter.tenant for other in self._queues[kind]):
            self._queues[kind].append(waiter)

    def leave(self, tenant: int) -> None:
        """Wait no longer."""
        for kind, queue in self._queues.items():
            self._queues[kind] = deque(waiter for waiter in queue if waiter.tenant != tenant)

    def queues(self) -> Iterator[tuple[str, tuple[Waiter, ...]]]:
        """Every kind, with those who wait for it in their order."""
        for kind, queue in self._queues.items():
            yield kind, tuple(queue)

    def ahead(self, tenant: int) -> int:
        """How many of its queue are served before it."""
        for queue in self._queues.values():
            for place, waiter in enumerate(queue):
                if waiter.tenant == tenant:
                    return place
        return 0


def _kind(name: str) -> str:
    return name.partition(":")[0]


def reset(name: str) -> str:
    """Make an accelerator clean whose owner gave it back or was collected, and say what was done.

    What a CPU or a pacer held was memory of the worker, and a GPU's memory belongs to a context of its process: both
    end with it, and the kernel or the driver clears pages before it gives them to somebody else.
    """
    return "its context ended with the process" if _kind(name) == "cuda" else "its memory ended with the process"
