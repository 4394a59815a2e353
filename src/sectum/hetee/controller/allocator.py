"""Who gets which accelerator, and who must give some back (rules R1 and R7). docs/spec/allocation.md has the rules.

Pure: events and the time go in, decisions come out. It reads no clock, and the same events give the same decisions.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

PRIORITIES = range(8)


@dataclass(frozen=True, slots=True)
class Secure:
    """An enclave, by the number of its worker."""

    enclave: int


@dataclass(frozen=True, slots=True)
class Insecure:
    """An ordinary job, outside any enclave."""

    job: int


Holder = Secure | Insecure


@dataclass(frozen=True, slots=True)
class Resetting:
    """Nobody: its last holder gave the accelerator back, and its reset is not confirmed."""

    after: Holder


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody, and it is reset."""


Owner = Free | Resetting | Secure | Insecure
FREE = Free()


@dataclass(frozen=True)
class Terms:
    """For how long accelerators are lent. Times are in seconds.

    Attributes:
        quantum_s: an enclave's turn while another enclave waits.
        term_s: a turn while the other world waits that may not preempt, and a job's turn while another job waits.
        grace_s: time that an enclave has to give back.
        job_grace_s: time that a job has to give back.
    """

    quantum_s: float = 0.5
    term_s: float = 600.0
    grace_s: float = 65.0
    job_grace_s: float = 10.0


@dataclass(frozen=True)
class Request:
    """A wish for accelerators.

    Attributes:
        asker: who asks, a session or a job. It has one request at a time.
        kind: kind of accelerators.
        count: how many its holder is to have, with those that it has.
        identity: whose request it is: identities share fairly.
        priority: of ``PRIORITIES``, or -1 for a job; the share of an identity doubles with each step.
        holder: who gets them; None for the first worker of the idle queue.
    """

    asker: int
    kind: str
    count: int
    identity: bytes = b""
    priority: int = 0
    holder: Holder | None = None


class Grant(NamedTuple):
    """These accelerators now belong to this holder."""

    asker: int
    holder: Holder
    names: tuple[str, ...]


class Revoke(NamedTuple):
    """The holder is to give these back before a time."""

    holder: Holder
    names: tuple[str, ...]
    by_s: float


class Halt(NamedTuple):
    """The holder has not given back in time: it is to be ended."""

    holder: Holder


Decision = Grant | Revoke | Halt


class _Waiting(NamedTuple):
    """A request with its place: first by virtual time, then by arrival."""

    start: float
    number: int
    finish: float
    request: Request


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


class Allocator:
    """All accelerators, the requests for them, and the idle queue of clean workers.

    Args:
        counts: number of accelerators of each kind.
        terms: for how long they are lent.
    """

    def __init__(self, counts: Mapping[str, int], terms: Terms) -> None:
        self.counts, self._terms = dict(counts), terms
        self.lacking = 0  # requests that waited for a worker at the last decision
        self._owners: dict[str, Owner] = {f"{kind}:{n}": FREE for kind, count in counts.items() for n in range(count)}
        self._free = {kind: list(range(count)) for kind, count in counts.items()}  # heaps
        self._waiting: dict[str, dict[int, _Waiting]] = {kind: {} for kind in counts}
        self._finish: dict[str, dict[bytes, float]] = {kind: {} for kind in counts}  # of each identity's last request
        self._virtual = dict.fromkeys(counts, 0.0)
        self._leases: dict[Holder, Lease] = {}
        self._watched: dict[Holder, Lease] = {}  # those that are to give back
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._paused: dict[bytes, float] = {}
        self._places: dict[int, int] = {}
        self._number = 0
        self._changed, self._next_s = True, inf

    # --- what is ---

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

    def idle(self) -> int:
        """The number of clean workers that wait for a session."""
        return len(self._idle)

    def ahead(self, asker: int) -> int:
        """The number of requests that were before this one at the last decision."""
        return self._places.get(asker, 0)

    # --- what happens ---

    def clean(self, enclave: int) -> None:
        """Put a worker that has had no session at the end of the idle queue."""
        self._idle[enclave] = None
        self._changed = True

    def ask(self, request: Request) -> None:
        """Add a request. One that waits already keeps its place."""
        waiting, finishes = self._waiting[request.kind], self._finish[request.kind]
        if request.asker in waiting:
            return
        turn_s = self._terms.term_s if isinstance(request.holder, Insecure) else self._terms.quantum_s
        start = max(self._virtual[request.kind], finishes.get(request.identity, 0.0))
        finish = finishes[request.identity] = start + request.count * turn_s / 2.0**request.priority
        self._number += 1
        waiting[request.asker] = _Waiting(start, self._number, finish, request)
        self._changed = True

    def withdraw(self, asker: int) -> None:
        """Remove the request of a session or job, if there is one."""
        self._places.pop(asker, None)
        for kind, waiting in self._waiting.items():
            if (gone := waiting.pop(asker, None)) is not None:
                identity, finishes = gone.request.identity, self._finish[kind]
                if finishes.get(identity) == gone.finish:
                    finishes[identity] = gone.start
                self._changed = True

    def pause(self, identity: bytes, until_s: float) -> None:
        """Give an identity no further worker before a time."""
        self._paused[identity] = until_s
        self._changed = True

    def shrink(self, holder: Holder, count: int) -> None:
        """Leave a holder so many accelerators. Growth is a request."""
        lease = self._watched[holder] = self._leases[holder]
        lease.wants = count
        self._changed = True

    def begin(self, holder: Holder, at_s: float) -> None:
        """Let a holder's turn begin at another time: it cannot use what it was granted before."""
        self._leases[holder].turn_s = at_s
        self._changed = True

    def ending(self, holder: Holder, now_s: float, grace_s: float) -> None:
        """Give a holder that is ending one more turn, and from then on another time to give back."""
        if lease := self._leases.get(holder):
            lease.turn_s, lease.grace_s = now_s, grace_s
            if lease.by_s < inf:
                lease.by_s = min(lease.by_s, now_s + self._terms.quantum_s + grace_s)
            self._changed = True

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
        if isinstance(holder, Secure):
            self._idle.pop(holder.enclave, None)
        if holder in self._leases:
            self.returned(holder, tuple(self._leases[holder].names))
            self.confirm(holder)
            del self._leases[holder]
            self._watched.pop(holder, None)

    def withhold(self, holder: Holder) -> None:
        """Give what a holder has to nobody any more: it is gone, and may still use it."""
        self.returned(holder, tuple(self._leases[holder].names))
        del self._leases[holder]
        self._watched.pop(holder, None)

    def withheld(self, name: str) -> bool:
        """Whether an accelerator is given to nobody any more."""
        owner = self._owners[name]
        return isinstance(owner, Resetting) and owner.after not in self._leases

    # --- what follows ---

    def decide(self, now_s: float) -> list[Decision]:
        """What is to be done now. What is granted belongs to its holder when this returns."""
        if not self._changed and now_s < self._next_s:
            return []
        self._changed, self._next_s, self.lacking = False, inf, 0
        self._paused = {identity: until_s for identity, until_s in self._paused.items() if now_s < until_s}
        decisions: list[Decision] = []
        unserved = {kind: self._serve(kind, now_s, decisions) for kind in self.counts}
        for lease in self._watched.values():
            if now_s >= lease.by_s:
                lease.by_s = inf
                decisions.append(Halt(lease.holder))
            surplus = len(lease.names) - len(lease.asked) - lease.wants
            if surplus > 0:
                decisions.append(self._revoke(lease, sorted(lease.names - lease.asked)[-surplus:], now_s))
            self._next_s = min(self._next_s, lease.by_s)
        self._watched = {holder: lease for holder, lease in self._watched.items() if lease.asked}
        for kind, requests in unserved.items():
            if requests:
                self._take_turns(kind, requests, now_s, decisions)
            # What was used before counts no longer: all of it when nobody waits.
            virtual = self._virtual[kind] if self._waiting[kind] else inf
            self._finish[kind] = {i: finish for i, finish in self._finish[kind].items() if finish > virtual}
        return decisions

    def _order(self, kind: str) -> list[Request]:
        """The requests that can be served, in their order. Jobs stand back while a secure request outranks them."""
        able = []
        for waiting in sorted(self._waiting[kind].values()):
            request = waiting.request
            if request.holder not in self._leases and request.identity in self._paused:
                self._next_s = min(self._next_s, self._paused[request.identity])
            elif request.holder is None or not self.asked(request.holder):  # one that gives back does so first
                able.append(request)
        rank = max((r.priority for r in able if not isinstance(r.holder, Insecure)), default=-1)
        return sorted(able, key=lambda r: isinstance(r.holder, Insecure) and r.priority < rank)

    def _serve(self, kind: str, now_s: float, decisions: list[Decision]) -> list[Request]:
        """Grant what is free, to nobody before a request ahead of it; returns the requests that need more."""
        unserved: list[Request] = []
        idle = len(self._idle)
        for place, request in enumerate(self._order(kind)):
            self._places[request.asker] = place
            if request.holder is None:
                idle -= 1
                if idle < 0:
                    self.lacking += 1
                    continue  # later requests do not wait until this one's worker has started
            needs = request.count - self._held(request)
            if unserved or len(self._free[kind]) < needs:
                self.lacking += request.holder is None
                unserved.append(request)
            else:
                decisions.append(self._grant(request, needs, now_s))
        return unserved

    def _held(self, request: Request) -> int:
        lease = self._leases.get(request.holder) if request.holder is not None else None
        return len(lease.names) if lease is not None else 0

    def _grant(self, request: Request, needs: int, now_s: float) -> Grant:
        kind, holder = request.kind, request.holder
        if holder is None:
            holder = Secure(self._idle.popitem(last=False)[0])
        waiting = self._waiting[kind].pop(request.asker)
        self._places.pop(request.asker, None)
        self._virtual[kind] = max(self._virtual[kind], waiting.start)
        lease = self._leases.get(holder)
        if lease is None:
            grace_s = self._terms.job_grace_s if isinstance(holder, Insecure) else self._terms.grace_s
            lease = self._leases[holder] = Lease(holder, request, now_s, grace_s, request.count)
        lease.request, lease.turn_s, lease.wants = request, now_s, request.count
        names = tuple(f"{kind}:{heapq.heappop(self._free[kind])}" for _ in range(needs))
        for name in names:
            assert self._owners[name] is FREE, f"{name} is {self._owners[name]}, expected to be free"
            self._owners[name] = holder
        lease.names.update(names)
        return Grant(request.asker, holder, names)

    def _revoke(self, lease: Lease, names: Iterable[str], now_s: float) -> Revoke:
        self._watched[lease.holder] = lease
        lease.asked.update(names)
        lease.by_s = min(lease.by_s, now_s + lease.grace_s)
        self._next_s = min(self._next_s, lease.by_s)
        return Revoke(lease.holder, tuple(sorted(lease.asked)), lease.by_s)

    def _take_turns(self, kind: str, unserved: list[Request], now_s: float, decisions: list[Decision]) -> None:
        """Ask back whole leases: of outranked jobs at once, of others when their turns are over, the oldest first."""
        leases = [lease for lease in self._leases.values() if lease.request.kind == kind]
        coming = len(self._free[kind]) + sum(len(lease.asked) + len(lease.resetting) for lease in leases)
        able = [lease for lease in leases if lease.names and not lease.asked]
        by_turn = sorted(able, key=lambda lease: lease.turn_s)
        enclaves = deque(lease for lease in by_turn if isinstance(lease.holder, Secure))
        jobs = deque(lease for lease in by_turn if isinstance(lease.holder, Insecure))
        ranked = deque(sorted(jobs, key=lambda lease: (lease.request.priority, -lease.turn_s)))
        for request in unserved:
            coming -= request.count - self._held(request)
            secure = not isinstance(request.holder, Insecure)
            own: list[Lease] = []
            while coming < 0:
                if secure and ranked and ranked[0].request.priority < request.priority:
                    lease = ranked.popleft()
                elif self._over(enclaves, self._terms.quantum_s if secure else self._terms.term_s, now_s):
                    lease = enclaves.popleft()
                elif self._over(jobs, self._terms.term_s, now_s):
                    lease = jobs.popleft()
                else:
                    break
                if lease.holder == request.holder:
                    own.append(lease)
                elif not lease.asked:
                    decisions.append(self._revoke(lease, lease.names, now_s))
                    coming += len(lease.names)
            enclaves.extendleft(own)
            coming = max(coming, 0)

    def _over(self, queue: deque[Lease], turn_s: float, now_s: float) -> bool:
        """Whether the turn of the first lease is over; notes when it will be."""
        if not queue:
            return False
        over_s = queue[0].turn_s + turn_s
        if over_s > now_s:
            self._next_s = min(self._next_s, over_s)
        return over_s <= now_s
