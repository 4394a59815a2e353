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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.paging.residency import Policy, ResidentPages, State

if TYPE_CHECKING:
    from sectum.paging.compiled_replacement import CompiledPages, CompiledReplacement

__all__ = [
    "MAX_ROUNDS",
    "RECLAIM_PAGES",
    "TOLERANCE",
    "PagingCounts",
    "Policy",
    "RoundCounts",
    "Touch",
    "all_fit",
    "simulate",
    "smallest_epc",
    "steady_state",
    "working_set_pages",
]

RECLAIM_PAGES = 16  # SGX_NR_TO_SCAN in Linux, arch/x86/kernel/cpu/sgx/main.c
MAX_ROUNDS = 32
TOLERANCE = 0.005
"""Two inferences are alike when their faults differ by less than this share of them."""

_FEWEST_ALIKE = 3
_LONGEST_PERIOD = 4
_MINOR_FAULT_WEIGHT = 0.1  # a minor fault costs about a tenth of a load


class Touch(NamedTuple):
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
    compiled: CompiledReplacement | None = None,
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
        compiled: the compiled rule, if it is to be used for the policies that it knows; the counts are the same.

    Raises:
        UsageError: an argument is out of its range.
    """
    if max_rounds < 2:
        raise UsageError(f"max_rounds is {max_rounds}; a steady state takes 2 or more rounds to be seen")
    enclave = _Enclave(touches, epc_pages, policy, batch, operators, compiled)
    if enclave.pages <= enclave.budget:
        return all_fit(enclave.pages, enclave.operators)
    seen: dict[State | bytes, int] = {}
    history: list[RoundCounts] = []
    while len(history) < max_rounds:
        history.append(enclave.run_inference())  # what the first one loads is in no mean
        state = enclave.epc.state()
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
    compiled: CompiledReplacement | None = None,
) -> tuple[RoundCounts, ...]:
    """Count what each of the first ``rounds`` inferences does, beginning with an empty EPC.

    Args and errors are those of `steady_state`.
    """
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}; simulate 1 or more")
    enclave = _Enclave(touches, epc_pages, policy, batch, operators, compiled)
    first_touches = _first_touches(touches)
    return tuple(enclave.run_inference(None if index else first_touches) for index in range(rounds))


def working_set_pages(touches: Iterable[Touch]) -> int:
    """How many different pages an inference touches."""
    covered_until = total = 0
    for first, end in sorted([(first, first + n_pages) for _, first, n_pages in touches]):
        if first < covered_until:
            first = covered_until
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


def all_fit(pages: int, operators: int) -> PagingCounts:
    """Page faults of an inference that touches so many different pages where all of them fit.

    The second inference finds all of them, and leaves them as the first one did.
    """
    none = np.zeros(operators)
    return PagingCounts(0.0, 0.0, 0.0, none, none.copy(), none.copy(), pages, settled=True, rounds=2, period=1)


def _repeating(history: list[RoundCounts], batch: int) -> int:
    """How many of the latest inferences are alike, up to a short period; 0 if they are not."""
    latest = [counts.loads + _MINOR_FAULT_WEIGHT * counts.minor_faults for counts in history[1:]]
    for period in range(1, _LONGEST_PERIOD + 1):
        window = max(_FEWEST_ALIKE, 2 * period)
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
        return np.asarray(np.mean([getattr(counts, name) for counts in last], axis=0), dtype=np.float64)

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


class _Enclave:
    """An EPC and the inference that is repeated in it."""

    def __init__(
        self,
        touches: Sequence[Touch],
        epc_pages: int | None,
        policy: Policy,
        batch: int,
        operators: int | None,
        compiled: CompiledReplacement | None = None,
    ) -> None:
        largest = -1
        for touch in touches:
            operator, first_page, n_pages = touch
            if operator < 0 or first_page < 0 or n_pages < 0:
                raise UsageError(f"{touch} has a negative number; operators and pages count from 0")
            if operator > largest:
                largest = operator
        self.operators = largest + 1 if operators is None else operators
        if self.operators <= largest:
            raise UsageError(f"operators is {operators}, but operator {largest} is touched")
        if epc_pages is not None and epc_pages < 1:
            raise UsageError(f"an EPC of {epc_pages} pages holds nothing; give 1 page or more")
        if batch < 1:
            raise UsageError(f"batch is {batch}; a reclaim looks at 1 page or more")
        self.pages = working_set_pages(touches)
        self.budget = max(1, self.pages) if epc_pages is None else epc_pages
        self._touches, self._policy, self._batch = touches, policy, batch
        self._compiled = compiled if compiled is not None and policy in compiled.POLICIES else None

    @cached_property
    def epc(self) -> ResidentPages | CompiledPages:
        """The EPC, empty when it is first asked for."""
        if self._compiled is None:
            return ResidentPages(self.budget, self._policy, self._batch)
        return self._compiled.pages(self._touches, self.operators, self.budget, self._policy, self._batch)

    @cached_property
    def _ranges(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """First page and end of each touch, those that follow each other of one operator together."""
        ranges: list[tuple[int, list[tuple[int, int]]]] = []
        for operator, first_page, n_pages in self._touches:
            if not ranges or ranges[-1][0] != operator:
                ranges.append((operator, []))
            ranges[-1][1].append((first_page, first_page + n_pages))
        return ranges

    def run_inference(self, first_touches: Sequence[tuple[int, int]] | None = None) -> RoundCounts:
        """Simulate one inference.

        Args:
            first_touches: for the first one, what `_first_touches` gives; without it, zero fills count as loads.
        """
        if isinstance(self.epc, ResidentPages):
            counts = self._arrivals_and_departures(self.epc)
        else:
            counts = self.epc.run_inference()
        loads, evictions, minor_faults = counts
        zero_fills = 0
        for operator, n_pages in first_touches or ():
            # A page's first touch always brings it in, so these are known without simulating.
            loads[operator] -= n_pages
            zero_fills += n_pages
        return RoundCounts(
            zero_fills=zero_fills,
            loads=int(loads.sum()),
            evictions=int(evictions.sum()),
            minor_faults=int(minor_faults.sum()),
            loads_by_operator=loads,
            evictions_by_operator=evictions,
            minor_faults_by_operator=minor_faults,
            resident_pages=self.epc.resident,
        )

    def _arrivals_and_departures(self, epc: ResidentPages) -> NDArray[np.int64]:
        """Of one inference, arrivals, evictions and minor faults; shape ``(3, operators)``."""
        arrivals = [0] * self.operators
        evictions = [0] * self.operators
        minor_faults = [0] * self.operators
        for operator, ranges in self._ranges:
            arrived, evicted, remapped = epc.arrived, epc.evicted, epc.minor_faults
            epc.touch(ranges)
            arrivals[operator] += epc.arrived - arrived
            evictions[operator] += epc.evicted - evicted
            minor_faults[operator] += epc.minor_faults - remapped
        return np.array([arrivals, evictions, minor_faults], dtype=np.int64)


def _first_touches(touches: Sequence[Touch]) -> list[tuple[int, int]]:
    """For each touch, its operator and how many of its pages no earlier one has touched."""
    starts: list[int] = []  # disjoint intervals touched so far, sorted; neighbours are merged
    ends: list[int] = []
    new: list[tuple[int, int]] = []
    for touch in touches:
        if not touch.n_pages:
            continue
        first, end = touch.first_page, touch.first_page + touch.n_pages
        low = bisect_right(ends, first - 1)
        high = bisect_right(starts, end)
        covered = sum(
            max(0, min(end, e) - max(first, s)) for s, e in zip(starts[low:high], ends[low:high], strict=True)
        )
        new.append((touch.operator, end - first - covered))
        if low < high:
            first, end = min(first, starts[low]), max(end, ends[high - 1])
        starts[low:high] = [first]
        ends[low:high] = [end]
    return new
