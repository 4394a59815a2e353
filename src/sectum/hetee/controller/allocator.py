"""Who gets which accelerator, and who must give some back (rules R1 and R7). docs/spec/allocation.md has the rules.

Pure: events and the time go in, decisions come out. It reads no clock, and the same events give the same decisions.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from math import inf

from sectum.hetee.controller.allocation import Decision, Grant, Halt, Holder, Insecure, Request, Revoke, Secure, Terms
from sectum.hetee.controller.fair_queue import FairQueue
from sectum.hetee.controller.leases import Lease, Leases


class Allocator(Leases):
    """All accelerators, the requests for them, and the idle queue of clean workers.

    Args:
        counts: number of accelerators of each kind.
        terms: for how long they are lent.
    """

    def __init__(self, counts: Mapping[str, int], terms: Terms) -> None:
        super().__init__(counts)
        self._terms = terms
        self.lacking = 0  # requests that waited for a worker at the last decision
        self._queues = {kind: FairQueue() for kind in counts}
        self._watched: dict[Holder, Lease] = {}  # those that are to give back
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._paused: dict[bytes, float] = {}
        self._places: dict[int, int] = {}
        self._next_s = inf

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
        turn_s = self._terms.term_s if isinstance(request.holder, Insecure) else self._terms.quantum_s
        self._changed |= self._queues[request.kind].add(request, turn_s)

    def withdraw(self, asker: int) -> None:
        """Remove the request of a session or job, if there is one."""
        self._places.pop(asker, None)
        for queue in self._queues.values():
            self._changed |= queue.remove(asker)

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

    def ended(self, holder: Holder) -> None:
        """Free all that a holder had: its process has ended, and what it had is reset."""
        if isinstance(holder, Secure):
            self._idle.pop(holder.enclave, None)
        self._watched.pop(holder, None)
        super().ended(holder)

    def withhold(self, holder: Holder) -> None:
        """Give what a holder has to nobody any more: it is gone, and may still use it."""
        self._watched.pop(holder, None)
        super().withhold(holder)

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
            self._queues[kind].forget()
        return decisions

    def _order(self, kind: str) -> list[Request]:
        """The requests that can be served, in their order. Jobs stand back while a secure request outranks them."""
        able = []
        for request in self._queues[kind].in_order():
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
        self._queues[kind].serve(request.asker)
        self._places.pop(request.asker, None)
        lease = self._leases.get(holder)
        if lease is None:
            grace_s = self._terms.job_grace_s if isinstance(holder, Insecure) else self._terms.grace_s
            lease = self._leases[holder] = Lease(holder, request, now_s, grace_s, request.count)
        lease.request, lease.turn_s, lease.wants = request, now_s, request.count
        return Grant(request.asker, holder, self._lend(lease, kind, needs))

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
