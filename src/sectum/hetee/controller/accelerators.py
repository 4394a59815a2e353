"""Which enclave owns which accelerator, and which sessions wait for one (rule R1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Waiter(NamedTuple):
    """A session that waits for accelerators of a kind, whether it has an enclave or not."""

    tenant: int
    needs: int


class AcceleratorPool:
    """All accelerators of a machine. At most one enclave owns each; sessions that wait are served first in, first out.

    Args:
        counts: number of accelerators of each kind.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        self._owners: dict[str, int | None] = {
            f"{kind}:{number}": None for kind, count in self.counts.items() for number in range(count)
        }
        self._queues: dict[str, deque[Waiter]] = {kind: deque() for kind in self.counts}

    def owned(self, enclave: int) -> tuple[str, ...]:
        """The accelerators that an enclave owns."""
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
        """Free accelerators that an enclave gave back, or whose enclave has ended."""
        for name in names:
            self._owners[name] = None

    def wait(self, kind: str, waiter: Waiter) -> None:
        """Add a session at the end of the queue. A session that waits already keeps its place."""
        if all(other.tenant != waiter.tenant for other in self._queues[kind]):
            self._queues[kind].append(waiter)

    def leave(self, tenant: int) -> None:
        """Remove a session from all queues."""
        for kind, queue in self._queues.items():
            self._queues[kind] = deque(waiter for waiter in queue if waiter.tenant != tenant)

    def queues(self) -> Iterator[tuple[str, tuple[Waiter, ...]]]:
        """Each kind with the sessions that wait for it, in their order."""
        for kind, queue in self._queues.items():
            yield kind, tuple(queue)

    def ahead(self, tenant: int) -> int:
        """The number of sessions that are served before this one."""
        for queue in self._queues.values():
            for place, waiter in enumerate(queue):
                if waiter.tenant == tenant:
                    return place
        return 0


def _kind(name: str) -> str:
    return name.partition(":")[0]


def reset(name: str) -> str:
    """What cleaned an accelerator after its owner's process was collected, and how the controller knows it.

    A CPU or paced accelerator has no memory but its owner's, and the kernel takes that back before it lets a process be
    collected. A GPU's memory belongs to a context of the process: its driver ends it, which nothing here can check.
    """
    if _kind(name) == "cuda":
        return "its context ended with the process, as its driver should do: not verified"
    return "it had the memory of the process only, which the kernel has taken back"
