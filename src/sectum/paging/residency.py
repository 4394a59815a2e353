"""The list of resident pages, kept as runs of consecutive pages.

Touches are often thousands of pages long, so neighbours in the list are nearly always neighbours in the address
space too. A run is moved, unmapped or evicted as a whole. It is split where a reclaim ends within it, so the result
is that of a list of single pages.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from enum import StrEnum
from operator import attrgetter

State = tuple[int, ...]


class ReplacementPolicy(StrEnum):
    """Which page is evicted."""

    FIFO = "fifo"
    LRU = "lru"
    SECOND_CHANCE = "second-chance"


class Run:
    """Consecutive resident pages ``[start, end)``, in this order in the list, all mapped or all unmapped."""

    __slots__ = ("end", "mapped", "newer", "older", "start")

    older: Run
    newer: Run

    def __init__(self, start: int, end: int, *, mapped: bool) -> None:
        self.start = start
        self.end = end
        self.mapped = mapped


class ResidentPages:
    """The pages in the EPC, from the oldest to the newest: a ring of runs, and an index of them by address.

    Args:
        budget: pages that fit.
        policy: which page is evicted.
        batch: pages that one reclaim looks at.
    """

    def __init__(self, budget: int, policy: ReplacementPolicy, batch: int) -> None:
        self.budget = budget
        self.second_chance = policy is ReplacementPolicy.SECOND_CHANCE
        self.lru = policy is ReplacementPolicy.LRU
        # A reclaim starts with a full EPC, so it never sees fewer pages than this.
        self.batch = min(batch, budget)
        self.resident = 0
        # Running totals since the beginning.
        self.loaded = self.evicted = self.minor_faults = 0
        ring = Run(-1, -1, mapped=False)  # the ring's own node: the head is its newer, the tail its older
        ring.newer = ring.older = ring
        self.ring = ring
        self.starts: list[int] = []  # of the runs, ascending
        self.runs: list[Run] = []  # in the same order

    def state(self) -> State:
        """All that later counts depend on, from head to tail; it does not depend on how the list is split into runs."""
        flat: list[int] = []
        end, mapped = -1, False
        for run in self.from_head():
            if flat and run.start == end and run.mapped == mapped:
                flat[-2] = run.end
            else:
                flat += (run.start, run.end, run.mapped)
            end, mapped = run.end, run.mapped
        return tuple(flat)

    def from_head(self) -> Iterator[Run]:
        """Give the runs from the oldest to the newest."""
        run = self.ring.newer
        while run is not self.ring:
            yield run
            run = run.newer

    def touch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Use the pages ``[page, end)`` of each range, in ascending order."""
        starts, runs, ring = self.starts, self.runs, self.ring
        lru, second_chance = self.lru, self.second_chance
        for page, end in ranges:
            while page < end:
                index = bisect_right(starts, page)
                run = runs[index - 1] if index else ring
                if run.end > page:
                    stop = run.end if run.end < end else end
                    if lru:
                        if run is not ring.older or stop != run.end:
                            self._make_newest(self._isolate(run, page, stop))
                    elif second_chance and not run.mapped:
                        self.minor_faults += stop - page
                        self._isolate(run, page, stop).mapped = True
                else:
                    stop = starts[index] if index < len(starts) and starts[index] < end else end
                    stop = self._load(page, stop, end)
                page = stop

    def _load(self, page: int, stop: int, end: int) -> int:
        """Load ``[page, stop)``, where no page is resident, and any later pages of the touch that this evicts.

        Returns:
            The end of what was loaded, ``stop`` or more.
        """
        if self.second_chance and 2 * (stop - page) > self.budget:
            self._stream(page, stop)
            return stop
        first = page
        free = self.budget - self.resident
        while True:
            n = min(free, stop - page)
            if n:
                self._append(page, page + n)
                self.resident += n
                page += n
            if page == stop:
                self.loaded += page - first
                return page
            head = self.ring.newer
            evictable = not (self.second_chance and head.mapped) and head.end - head.start >= self.batch
            if evictable and head.start == stop < end:
                # The oldest pages are those that the touch uses next: every reclaim for a page of this gap widens
                # the gap by as many pages as it frees, and so on through the whole run.
                batches = min((head.end - stop) // self.batch, -(-(end - page) // self.batch))
                free = self._evict(batches * self.batch)
                stop = min(stop + free, end)
            else:
                free = self._reclaim(stop - page)

    def _stream(self, page: int, stop: int) -> None:
        """Load a range that is long compared with the EPC, under second chance.

        Such a range goes through the whole list again and again and looks nothing up. The runs are therefore kept in
        a plain queue meanwhile, and linked and indexed again at the end.
        """
        batch = self.batch
        queue = deque((run.start, run.end, run.mapped) for run in self.from_head())
        free = self.budget - self.resident
        self.loaded += stop - page
        self.resident += stop - page
        while True:
            n = min(free, stop - page)
            if n:
                if queue and queue[-1][2] and queue[-1][1] == page:
                    queue.append((queue.pop()[0], page + n, True))
                else:
                    queue.append((page, page + n, True))
                page += n
            if page == stop:
                break
            scanned = 0
            start, end, mapped = queue.popleft()
            while mapped:
                scanned += end - start
                queue.append((start, end, False))
                start, end, mapped = queue.popleft()
            scanned %= batch
            if not scanned and end - start >= batch:
                free = min((end - start) // batch, -(-(stop - page) // batch)) * batch
                start += free
            else:
                free = 0
                while True:
                    n = min(end - start, batch - scanned)
                    if mapped:
                        queue.append((start, start + n, False))
                    else:
                        free += n
                    scanned += n
                    start += n
                    if scanned == batch:
                        break
                    start, end, mapped = queue.popleft()
            if start < end:
                queue.appendleft((start, end, mapped))
            self.evicted += free
            self.resident -= free
        self._relink(queue)

    def _relink(self, queue: Iterable[tuple[int, int, bool]]) -> None:
        """Replace the list of runs, given from the oldest to the newest as start, end, mapped."""
        ring = self.ring
        ring.newer = ring.older = ring
        runs = []
        for start, end, mapped in queue:
            tail = ring.older
            if tail.end == start and tail.mapped == mapped:
                tail.end = end
            else:
                run = Run(start, end, mapped=mapped)
                self._link_last(run)
                runs.append(run)
        runs.sort(key=attrgetter("start"))
        self.runs[:] = runs  # in place: a running `touch` holds both lists
        self.starts[:] = [run.start for run in runs]

    def _reclaim(self, wanted: int) -> int:
        """Free at least one page of a full EPC; do several reclaims at once where they do not interact.

        Reclaims for later pages of the same range may run before the loads between them: loaded pages go to the
        tail, and these reclaims take only pages that were at the head before.
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
                part = self._isolate(head, head.start, head.start + n)
                part.mapped = False
                if part.newer is not ring:
                    self._make_newest(part)
            else:
                freed += self._evict(n)
            scanned += n
        return freed

    def _pass_over_mapped(self) -> int:
        """Unmap the mapped pages before the first unmapped one, move them to the tail, and count them."""
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
        """Evict that many pages from the head."""
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

    def _make_newest(self, run: Run) -> None:
        self._unlink(run)
        tail = self.ring.older
        if tail.end == run.start and tail.mapped == run.mapped:
            tail.end = run.end
            self._forget(run)
        else:
            self._link_last(run)

    def _isolate(self, run: Run, start: int, stop: int) -> Run:
        """Split a run so that ``[start, stop)`` is a run of its own, at the same place in the list."""
        if start > run.start:
            run = self._split(run, start)
        if stop < run.end:
            self._split(run, stop)
        return run

    def _split(self, run: Run, at: int) -> Run:
        later = Run(at, run.end, mapped=run.mapped)
        run.end = at
        later.older, later.newer = run, run.newer
        run.newer.older = later
        run.newer = later
        self._index(later)
        return later

    def _append(self, start: int, end: int) -> None:
        """Put mapped pages at the tail; extend the last run if they continue it."""
        tail = self.ring.older
        if tail.end == start and tail.mapped:
            tail.end = end
        else:
            run = Run(start, end, mapped=True)
            self._link_last(run)
            self._index(run)

    def _link_last(self, run: Run) -> None:
        ring = self.ring
        tail = ring.older
        run.older, run.newer = tail, ring
        tail.newer = ring.older = run

    def _index(self, run: Run) -> None:
        at = bisect_right(self.starts, run.start)
        self.starts.insert(at, run.start)
        self.runs.insert(at, run)

    def _forget(self, run: Run) -> None:
        at = bisect_right(self.starts, run.start) - 1
        del self.starts[at], self.runs[at]

    @staticmethod
    def _unlink(run: Run) -> None:
        run.older.newer = run.newer
        run.newer.older = run.older
