"""Whose each accelerator is: the books of the allocator, and the only place in which an owner changes (R1, R7)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from sectum.hetee.controller.allocation import FREE, Holder, Owner, Request, Resetting


@dataclass(eq=False)
class Lease:
    """What one holder has.

    Attributes:
        holder: who has it.
        request: the request that was served last.
        turn_s: when its turn began.
        grace_s: time that it has to give back.
        wants: how many accelerators it is to have.
        names: what it owns.
        asked: what of that it was asked to give back.
        resetting: what it gave back, and what is not reset yet.
        by_s: when it is to have given back; infinite if it was not asked.
    """

    holder: Holder
    request: Request
    turn_s: float
    grace_s: float
    wants: int
    names: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    resetting: set[str] = field(default_factory=set)
    by_s: float = inf


class Leases:
    """The owner of each accelerator, which goes from free to a holder, to resetting, to free, and in no other way.

    Args:
        counts: number of accelerators of each kind.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        self._owners: dict[str, Owner] = {f"{kind}:{n}": FREE for kind, count in counts.items() for n in range(count)}
        self._free = {kind: list(range(count)) for kind, count in counts.items()}  # heaps
        self._leases: dict[Holder, Lease] = {}
        self._changed = True  # since the last decision

    def owner(self, name: str) -> Owner:
        """Whose an accelerator is."""
        return self._owners[name]

    def owned(self, holder: Holder) -> tuple[str, ...]:
        """The accelerators of a holder."""
        lease = self._leases.get(holder)
        return tuple(sorted(lease.names)) if lease else ()

    def asked(self, holder: Holder) -> frozenset[str]:
        """What a holder was asked to give back, and has not."""
        lease = self._leases.get(holder)
        return frozenset(lease.asked) if lease else frozenset()

    def resetting(self, holder: Holder) -> tuple[str, ...]:
        """What a holder gave back, and what is not reset yet."""
        lease = self._leases.get(holder)
        return tuple(sorted(lease.resetting)) if lease else ()

    def free(self, kind: str) -> list[str]:
        """The accelerators of a kind that are nobody's and reset."""
        return [f"{kind}:{n}" for n in sorted(self._free[kind])]

    def withheld(self, name: str) -> bool:
        """Whether an accelerator is given to nobody any more."""
        owner = self._owners[name]
        return isinstance(owner, Resetting) and owner.after not in self._leases

    def _lend(self, lease: Lease, kind: str, count: int) -> tuple[str, ...]:
        """Give so many free accelerators to a holder."""
        names = tuple(f"{kind}:{heapq.heappop(self._free[kind])}" for _ in range(count))
        for name in names:
            assert self._owners[name] is FREE, f"{name} is {self._owners[name]}, expected to be free"
            self._owners[name] = lease.holder
        lease.names.update(names)
        return names

    def returned(self, holder: Holder, names: Iterable[str]) -> None:
        """Take from a holder what it gave back: that is nobody's until its reset was confirmed."""
        lease = self._leases[holder]
        for name in names:
            assert self._owners[name] == holder, f"{name} is {self._owners[name]}, expected {holder}"
            self._owners[name] = Resetting(holder)
            lease.names.discard(name)
            lease.asked.discard(name)
            lease.resetting.add(name)
        if not lease.asked:
            lease.by_s = inf
        self._changed = True

    def confirm(self, holder: Holder) -> None:
        """Free what a holder gave back: its reset was confirmed."""
        lease = self._leases[holder]
        for name in lease.resetting:
            self._owners[name] = FREE
            kind, _, number = name.partition(":")
            heapq.heappush(self._free[kind], int(number))
        lease.resetting.clear()
        self._changed = True

    def ended(self, holder: Holder) -> None:
        """Free all that a holder had: its process has ended, and what it had is reset."""
        if holder in self._leases:
            self.returned(holder, tuple(self._leases[holder].names))
            self.confirm(holder)
            del self._leases[holder]

    def withhold(self, holder: Holder) -> None:
        """Give what a holder has to nobody any more: it is gone, and may still use it."""
        self.returned(holder, tuple(self._leases[holder].names))
        del self._leases[holder]
