"""Which accelerator is where, and which sessions wait for one (rule R1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple


class AcceleratorState(Enum):
    """States of an accelerator, which it goes through in this order, again and again."""

    FREE = "free"
    OWNED = "owned"
    RESETTING = "resetting"


class _Place(NamedTuple):
    """Where an accelerator is: its state, and the enclave that owns it, or owned it last."""

    state: AcceleratorState
    enclave: int = 0


_FREE = _Place(AcceleratorState.FREE)


class Waiter(NamedTuple):
    """A session that waits for accelerators of a kind, whether it has an enclave or not."""

    tenant: int
    needs: int


class AcceleratorPool:
    """All accelerators of a machine. Sessions that wait are served first in, first out.

    An accelerator that its enclave gave back, or whose enclave is ending, is in nobody's hands until it is reset.

    Args:
        counts: number of accelerators of each kind.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        self._places = {f"{kind}:{number}": _FREE for kind, count in self.counts.items() for number in range(count)}
        self._queues: dict[str, deque[Waiter]] = {kind: deque() for kind in self.counts}

    def _at(self, place: _Place) -> tuple[str, ...]:
        return tuple(name for name, found in self._places.items() if found == place)

    def _move(self, names: Iterable[str], before: _Place, after: _Place) -> None:
        for name in names:
            assert self._places[name] == before, f"{name} is {self._places[name]}, expected {before}"
            self._places[name] = after

    def owned(self, enclave: int) -> tuple[str, ...]:
        """The accelerators that an enclave owns."""
        return self._at(_Place(AcceleratorState.OWNED, enclave))

    def resetting(self, enclave: int) -> tuple[str, ...]:
        """The accelerators that an enclave gave back, and that are not reset yet."""
        return self._at(_Place(AcceleratorState.RESETTING, enclave))

    def free(self, kind: str) -> list[str]:
        """The accelerators of a kind that nobody owns, and that are reset."""
        return [name for name in self._at(_FREE) if kind_of(name) == kind]

    def coming(self, kind: str) -> int:
        """The number of accelerators of a kind that are free, or will be when they are reset."""
        return sum(place.state is not AcceleratorState.OWNED for n, place in self._places.items() if kind_of(n) == kind)

    def grant(self, enclave: int, names: Iterable[str]) -> None:
        """Give free accelerators to an enclave."""
        self._move(names, _FREE, _Place(AcceleratorState.OWNED, enclave))

    def give_back(self, enclave: int, names: Iterable[str]) -> None:
        """Take accelerators from the enclave that owns them."""
        self._move(names, _Place(AcceleratorState.OWNED, enclave), _Place(AcceleratorState.RESETTING, enclave))

    def confirm(self, enclave: int) -> None:
        """Free what an enclave gave back: its reset was confirmed."""
        self._move(self.resetting(enclave), _Place(AcceleratorState.RESETTING, enclave), _FREE)

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


def kind_of(name: str) -> str:
    """The kind of an accelerator with this name."""
    return name.partition(":")[0]


def has_nodes(kind: str) -> bool:
    """Whether accelerators of a kind have device nodes, which a worker must have from its start."""
    return kind == "cuda"


def resets_alive(kind: str) -> bool:
    """Whether the reset of an accelerator can be confirmed while the process that had it lives.

    A CPU or paced accelerator is a right to compute: it is reset when the kernel has stopped the process. Nothing
    shows that a GPU was cleaned while the process has its context.
    """
    return not has_nodes(kind)


def reset(name: str, *, before: bool = False) -> str:
    """What cleaned an accelerator after its owner's process was collected, and how the controller knows it.

    A CPU or paced accelerator has no memory but its owner's, and the kernel takes that back before it lets a process be
    collected. A GPU's memory belongs to a context of the process: its driver ends it, which nothing here can check.

    Args:
        name: name of the accelerator.
        before: whether it was given back before, while the process lived.
    """
    if not resets_alive(kind_of(name)):
        return "its context ended with the process, as its driver should do: not verified"
    taken = "it had the memory of the process only, which the kernel has taken back"
    return f"{taken}; given back before, when the kernel had stopped the process" if before else taken
