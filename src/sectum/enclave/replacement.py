"""Page replacement: which pages of an inference are brought back into the EPC, and at which operator.

The model is the pager's own rule, page for page, for one thread. There is one list of resident pages, oldest
at the head, and a budget of ``epc_pages``. When a page is needed and the budget is full, the pager reclaims
until a page is free. A page brought in goes to the tail, mapped. One reclaim, of ``batch`` pages:

- ``second-chance`` takes that many pages from the head; those that are mapped are unmapped and go to the tail
  in their order, the others are evicted. A touch of an unmapped resident page is a *minor fault*: the page is
  mapped again where it stands. This is how the Linux SGX driver treats the accessed bit.
- ``fifo`` evicts that many from the head.
- ``lru`` evicts that many from the head, and every touch moves its page to the tail.

The first touch ever of a page is a zero fill; all later arrivals are *loads*. Each arrival beyond the budget
is paid for by an eviction.

Networks touch pages by the ten thousand in a row, so the list is kept as runs of consecutive pages: an
inference costs time in the number of runs, not of pages, and the counts are the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError

RECLAIM_PAGES = 16  # SGX_NR_TO_SCAN in Linux, arch/x86/kernel/cpu/sgx/main.c
MAX_ROUNDS = 32
TOLERANCE = 0.005
_LONGEST_PERIOD = 4
_MINOR_FAULT_WEIGHT = 0.1  # a minor fault costs about a tenth of a load


class Policy(StrEnum):
    """Which resident page makes room for another."""

    FIFO = "fifo"
    LRU = "lru"
    SECOND_CHANCE = "second-chance"


@dataclass(frozen=True, slots=True)
class Touch:
    """One operator uses ``n_pages`` consecutive pages, in ascending order."""

    operator: int
    first_page: int
    n_pages: int


@dataclass(frozen=True, slots=True)
class RoundCounts:
    """What one inference did. Arrays are indexed by operator, ``int64``, shape ``(operators,)``."""

    zero_fills: int
    loads: int
    evictions: int
    minor_faults: int
    loads_by_operator: NDArray[np.int64]
    evictions_by_operator: NDArray[np.int64]
    minor_faults_by_operator: NDArray[np.int64]
    resident_pages: int
    """Pages in the EPC when the inference ended."""


@dataclass(frozen=True, slots=True)
class PagingCounts:
    """Page faults of one inference in the steady state, as means over the period of the steady state.

    Arrays are indexed by operator, ``float64``, shape ``(operators,)``.
    """

    loads: float
    evictions: float
    minor_faults: float
    loads_by_operator: NDArray[np.float64]
    evictions_by_operator: NDArray[np.float64]
    minor_faults_by_operator: NDArray[np.float64]
    resident_pages: int
    """Pages in the EPC when the last simulated inference ended."""
    settled: bool
    """Whether the counts repeat; else they wander, and these are means over the later half of the rounds."""
    rounds: int
    """Inferences that were simulated, the first, cold one included."""
    period: int
    """Inferences that the means were taken over."""

    @property
    def over_committed(self) -> bool:
        """Whether pages have to be loaded in every inference."""
        return self.loads > 0


def steady_state(
    touches: Sequence[Touch],
    epc_pages: int | None,
    policy: Policy = Policy.SECOND_CHANCE,
    *,
    batch: int = RECLAIM_PAGES,
    max_rounds: int = MAX_ROUNDS,
    operators: int | None = None,
) -> PagingCounts:
    """Count the page faults of one inference once inferences repeat.

    The inference is repeated from an empty EPC. It has settled once the EPC is in a state in which an earlier
    inference left it: all between the two repeats for ever, and the means are taken over that. With second
    chance the phase of the reclaims can wander for hundreds of inferences while the counts hardly move; so it
    has also settled once the faults of the latest inferences repeat, with a period of 1 to 4, within
    `TOLERANCE` or one batch (minor faults weigh a tenth); the means are then taken over those inferences.

    Args:
        touches: the pages of one inference, in order.
        epc_pages: pages that fit into the EPC at once; None: all.
        policy: which page goes.
        batch: pages that one reclaim looks at.
        max_rounds: give up after so many inferences, and take the means over the later half of them.
        operators: length of the arrays by operator; by default one more than the largest operator touched.

    Raises:
        UsageError: an argument is out of its range.
    """
    if max_rounds < 2:
        raise UsageError(f"max_rounds is {max_rounds}; a steady state takes 2 or more rounds to be seen")
    epc = _Epc(touches, epc_pages, policy, batch, operators)
    seen: dict[_State, int] = {}
    history: list[RoundCounts] = []
    while len(history) < max_rounds:
        history.append(epc.run_inference())
        state = epc.state()
        if state in seen:
            return _mean(history, len(history) - 1 - seen[state], settled=True)
        seen[state] = len(history) - 1
        if window := _repeating(history, batch):
            return _mean(history, window, settled=True)
    return _mean(history, max_rounds // 2, settled=False)


def simulate(
    touches: Sequence[Touch],
    epc_pages: int | None,
    policy: Policy = Policy.SECOND_CHANCE,
    *,
    rounds: int,
    batch: int = RECLAIM_PAGES,
    operators: int | None = None,
) -> tuple[RoundCounts, ...]:
    """Count what each of the first ``rounds`` inferences does, beginning with an empty EPC.

    Args and errors are those of `steady_state`.
    """
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}; simulate 1 or more")
    epc = _Epc(touches, epc_pages, policy, batch, operators)
    return tuple(epc.run_inference() for _ in range(rounds))


def working_set_pages(touches: Iterable[Touch]) -> int:
    """How many different pages an inference touches."""
    covered_until = total = 0
    for first, end in sorted((t.first_page, t.first_page + t.n_pages) for t in touches):
        first = max(first, covered_until)
        if end > first:
            total += end - first
            covered_until = end
    return total


def smallest_epc(touches: Iterable[Touch], policy: Policy = Policy.SECOND_CHANCE) -> int:
    """Smallest EPC, in pages, at which the steady state loads nothing: the working set, whatever the policy.

    With that many pages the budget is only full once every page is in, so nothing is ever reclaimed. With
    fewer, an inference without a load would have touched only resident pages, and evicted none (only a load
    evicts), so the whole working set would be resident: more than the budget. The size of the reclaim batch
    changes how many loads there are, never whether there are any.
    """
    del policy  # asked for, so that callers need not know that it does not matter
    return max(1, working_set_pages(touches))


def _repeating(history: list[RoundCounts], batch: int) -> int:
    """How many of the latest inferences are alike, up to a short period; 0 if they are not."""
    latest = [counts.loads + _MINOR_FAULT_WEIGHT * counts.minor_faults for counts in history[1:]]
    for period in range(1, _LONGEST_PERIOD + 1):
        window = max(4, 2 * period)
        if len(latest) < window:
            return 0
        part = latest[-window:]
        allowed = max(batch, TOLERANCE * sum(part) / window)
        if all(abs(b - a) <= allowed for a, b in zip(part, part[period:], strict=False)):
            return window
    return 0


def _mean(history: list[RoundCounts], period: int, *, settled: bool) -> PagingCounts:
    last = history[-period:]

    def by_operator(name: str) -> NDArray[np.float64]:
        return np.mean([getattr(counts, name) for counts in last], axis=0, dtype=np.float64)

    return PagingCounts(
        loads=sum(counts.loads for counts in last) / period,
        evictions=sum(counts.evictions for counts in last) / period,
        minor_faults=sum(counts.minor_faults for counts in last) / period,
        loads_by_operator=by_operator("loads_by_operator"),
        evictions_by_operator=by_operator("evictions_by_operator"),
        minor_faults_by_operator=by_operator("minor_faults_by_operator"),
        resident_pages=last[-1].resident_pages,
        settled=settled,
        rounds=len(history),
        period=period,
    )


_State = tuple[int, ...]


class _Run:
    """Consecutive resident pages ``[start, end)``, in this order in the list, all mapped or all unmapped."""

    __slots__ = ("end", "mapped", "newer", "older", "start")

    older: _Run
    newer: _Run

    def __init__(self, start: int, end: int, *, mapped: bool) -> None:
        self.start = start
        self.end = end
        self.mapped = mapped


class _Epc:
    """The list of resident pages as a ring of runs, and an index of the runs by their address."""

    def __init__(
        self,
        touches: Sequence[Touch],
        epc_pages: int | None,
        policy: Policy,
        batch: int,
        operators: int | None,
    ) -> None:
        for touch in touches:
            if touch.operator < 0 or touch.first_page < 0 or touch.n_pages < 0:
                raise UsageError(f"{touch} has a negative number; operators and pages count from 0")
        largest = max((touch.operator for touch in touches), default=-1)
        self.operators = largest + 1 if operators is None else operators
        if self.operators <= largest:
            raise UsageError(f"operators is {operators}, but operator {largest} is touched: give {largest + 1}")
        if epc_pages is not None and epc_pages < 1:
            raise UsageError(f"an EPC of {epc_pages} pages holds nothing; give 1 page or more")
        if batch < 1:
            raise UsageError(f"batch is {batch}; a reclaim looks at 1 page or more")
        self.touches = [(t.operator, t.first_page, t.first_page + t.n_pages) for t in touches if t.n_pages]
        self.second_chance = policy is Policy.SECOND_CHANCE
        self.lru = policy is Policy.LRU
        self.new_pages: list[int] | None = _first_touches(self.touches)
        working_set = sum(self.new_pages)
        self.budget = max(1, working_set) if epc_pages is None else epc_pages
        # A reclaim starts with a full EPC, so it never sees fewer pages than this.
        self.batch = min(batch, self.budget)
        self.resident = self.arrived = self.evicted = self.minor_faults = 0
        ring = _Run(-1, -1, mapped=False)  # head is ring.newer, tail is ring.older
        ring.newer = ring.older = ring
        self.ring = ring
        self.starts: list[int] = []
        self.runs: list[_Run] = []

    def run_inference(self) -> RoundCounts:
        loads = [0] * self.operators
        evictions = [0] * self.operators
        minor_faults = [0] * self.operators
        for index, (operator, first, end) in enumerate(self.touches):
            self.arrived = self.evicted = self.minor_faults = 0
            self._touch(first, end)
            # A page's first touch always brings it in, so the zero fills of a touch are known beforehand.
            loads[operator] += self.arrived - (self.new_pages[index] if self.new_pages else 0)
            evictions[operator] += self.evicted
            minor_faults[operator] += self.minor_faults
        zero_fills = sum(self.new_pages) if self.new_pages else 0
        self.new_pages = None
        return RoundCounts(
            zero_fills=zero_fills,
            loads=sum(loads),
            evictions=sum(evictions),
            minor_faults=sum(minor_faults),
            loads_by_operator=np.array(loads, dtype=np.int64),
            evictions_by_operator=np.array(evictions, dtype=np.int64),
            minor_faults_by_operator=np.array(minor_faults, dtype=np.int64),
            resident_pages=self.resident,
        )

    def state(self) -> _State:
        """All that the future depends on, from head to tail, the same for every way to cut it into runs."""
        flat: list[int] = []
        end, mapped = -1, False
        for run in self._from_head():
            if flat and run.start == end and run.mapped == mapped:
                flat[-2] = run.end
            else:
                flat += (run.start, run.end, run.mapped)
            end, mapped = run.end, run.mapped
        return tuple(flat)

    def _from_head(self) -> Iterator[_Run]:
        run = self.ring.newer
        while run is not self.ring:
            yield run
            run = run.newer

    def _touch(self, page: int, end: int) -> None:
        starts, runs = self.starts, self.runs
        while page < end:
            index = bisect_right(starts, page)
            run = runs[index - 1] if index else self.ring
            if run.end > page:
                stop = run.end if run.end < end else end
                if self.lru:
                    if run is not self.ring.older or stop != run.end:
                        self._make_newest(self._cut_out(run, page, stop))
                elif self.second_chance and not run.mapped:
                    self.minor_faults += stop - page
                    self._cut_out(run, page, stop).mapped = True
            else:
                stop = starts[index] if index < len(starts) and starts[index] < end else end
                stop = self._bring_in(page, stop, end)
            page = stop

    def _bring_in(self, page: int, stop: int, end: int) -> int:
        """Bring in ``[page, stop)``, of which nothing is resident, and what else of the touch is evicted for it.

        Args:
            page: first page to bring in.
            stop: the next page that is resident, or ``end``.
            end: end of the touch.

        Returns:
            The page up to which all has been brought in, ``stop`` or more.
        """
        first = page
        free = self.budget - self.resident
        while True:
            n = min(free, stop - page)
            if n:
                self._append(page, page + n)
                self.resident += n
                page += n
            if page == stop:
                self.arrived += page - first
                return page
            head = self.ring.newer
            if head.start == stop < end and (head.end - stop) >= self.batch and not (self.second_chance and head.mapped):
                # The oldest pages are those that come next: every reclaim for a page of this gap widens it by
                # as many pages as it frees, so the touch goes on like this through the whole run.
                batches = min((head.end - stop) // self.batch, -(-(end - page) // self.batch))
                free = self._evict(batches * self.batch)
                stop = min(stop + free, end)
            else:
                free = self._reclaim(stop - page)

    def _reclaim(self, wanted: int) -> int:
        """Make room in a full EPC, at least one page; by several reclaims at once where they do not interact.

        Reclaims for later pages of the same stretch may run ahead of the arrivals between them: arrivals go to
        the tail, and these reclaims only take what was at the head before.
        """
        batch = self.batch
        ring = self.ring
        if not self.second_chance:
            return self._evict(min(self.budget // batch, -(-wanted // batch)) * batch)
        # Whole batches of mapped pages free nothing, and the next reclaim follows at once.
        scanned = self._pass_over_mapped() % batch
        if not scanned:
            wanted = -(-wanted // batch) * batch
            run, unmapped = ring.newer, 0
            while unmapped < wanted and not run.mapped and run is not ring:
                unmapped += run.end - run.start
                run = run.newer
            if unmapped >= batch:
                return self._evict(min(unmapped, wanted) // batch * batch)
        freed = 0
        while scanned < batch:
            head = ring.newer
            n = min(head.end - head.start, batch - scanned)
            if head.mapped:
                part = self._cut_out(head, head.start, head.start + n)
                part.mapped = False
                if part.newer is not ring:
                    self._make_newest(part)
            else:
                freed += self._evict(n)
            scanned += n
        return freed

    def _pass_over_mapped(self) -> int:
        """Unmap the mapped pages that precede the first unmapped one and make them the newest; say how many."""
        ring = self.ring
        first = run = ring.newer
        if not first.mapped:
            return 0
        n_pages = 0
        while run.mapped:  # ends at the latest at the ring's own node
            run.mapped = False
            n_pages += run.end - run.start
            run = run.newer
        if run is not ring:
            last, tail = run.older, ring.older
            ring.newer, run.older = run, ring
            tail.newer, first.older = first, tail
            last.newer, ring.older = ring, last
            if tail.end == first.start and not tail.mapped:
                tail.end = first.end
                self._unlink(first)
                self._forget(first)
        return n_pages

    def _evict(self, n_pages: int) -> int:
        """Evict from the head."""
        left = n_pages
        while left:
            head = self.ring.newer
            at = bisect_right(self.starts, head.start) - 1
            if head.end - head.start <= left:
                left -= head.end - head.start
                self._unlink(head)
                del self.starts[at], self.runs[at]
            else:
                head.start += left
                self.starts[at] = head.start
                left = 0
        self.resident -= n_pages
        self.evicted += n_pages
        return n_pages

    def _make_newest(self, run: _Run) -> None:
        self._unlink(run)
        tail = self.ring.older
        if tail.end == run.start and tail.mapped == run.mapped:
            tail.end = run.end
            self._forget(run)
        else:
            self._link_last(run)

    def _cut_out(self, run: _Run, start: int, stop: int) -> _Run:
        """Split a run such that ``[start, stop)`` is a run of its own, in its place in the list."""
        if start > run.start:
            run = self._split(run, start)
        if stop < run.end:
            self._split(run, stop)
        return run

    def _split(self, run: _Run, at: int) -> _Run:
        later = _Run(at, run.end, mapped=run.mapped)
        run.end = at
        later.older, later.newer = run, run.newer
        run.newer.older = later
        run.newer = later
        self._index(later)
        return later

    def _append(self, start: int, end: int) -> None:
        """Put mapped pages at the tail, as part of the run that is there where they continue it."""
        tail = self.ring.older
        if tail.end == start and tail.mapped:
            tail.end = end
        else:
            run = _Run(start, end, mapped=True)
            self._link_last(run)
            self._index(run)

    def _link_last(self, run: _Run) -> None:
        ring = self.ring
        tail = ring.older
        run.older, run.newer = tail, ring
        tail.newer = ring.older = run

    def _index(self, run: _Run) -> None:
        at = bisect_right(self.starts, run.start)
        self.starts.insert(at, run.start)
        self.runs.insert(at, run)

    def _forget(self, run: _Run) -> None:
        at = bisect_right(self.starts, run.start) - 1
        del self.starts[at], self.runs[at]

    @staticmethod
    def _unlink(run: _Run) -> None:
        run.older.newer = run.newer
        run.newer.older = run.older


def _first_touches(touches: Sequence[tuple[int, int, int]]) -> list[int]:
    """For each touch, how many of its pages no earlier one has touched."""
    starts: list[int] = []  # disjoint intervals touched so far, sorted; neighbours are merged
    ends: list[int] = []
    new: list[int] = []
    for _, first, end in touches:
        low = bisect_right(ends, first - 1)
        high = bisect_right(starts, end)
        covered = sum(
            max(0, min(end, e) - max(first, s)) for s, e in zip(starts[low:high], ends[low:high], strict=True)
        )
        new.append(end - first - covered)
        if low < high:
            first, end = min(first, starts[low]), max(end, ends[high - 1])
        starts[low:high] = [first]
        ends[low:high] = [end]
    return new
