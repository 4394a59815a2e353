"""The page-replacement model: which pages are loaded and evicted when a sequence of touches repeats.

A caller gives the touches of one *round*: ranges of pages, in order, each with an integer label (`Touch.operator`).
The model counts loads, evictions and minor faults by label. It knows nothing else about what touches the pages.

The rule is that of the pager, page for page, for one thread. There is one list of resident pages, oldest at the
head, and a budget of ``epc_pages``. When a page is needed and the budget is used up, the pager reclaims until a page
is free. A loaded page goes to the tail, mapped. One reclaim looks at ``batch`` pages:

- ``second-chance`` takes that many pages from the head. Those that are mapped are unmapped and go to the tail in
  their order; the others are evicted. A touch of an unmapped resident page is a *minor fault*: the page is mapped
  again and does not move. The Linux SGX driver treats the accessed bit in this way.
- ``fifo`` evicts that many from the head.
- ``lru`` evicts that many from the head, and every touch moves its page to the tail.

Touches are often thousands of pages long, so the list is kept as runs of consecutive pages. A round costs time in
the number of runs, not of pages, and the counts are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.paging.residency import ReplacementPolicy, ResidentPages, State

if TYPE_CHECKING:
    from sectum.paging.compiled_replacement import CompiledPages, CompiledReplacement

__all__ = [
    "MAX_ROUNDS",
    "RECLAIM_PAGES",
    "TOLERANCE",
    "PagingCounts",
    "ReplacementPolicy",
    "RoundCounts",
    "Touch",
    "Touches",
    "all_fit",
    "simulate",
    "steady_state",
    "working_set_pages",
]

RECLAIM_PAGES = 16  # SGX_NR_TO_SCAN in Linux, arch/x86/kernel/cpu/sgx/main.c
MAX_ROUNDS = 32
TOLERANCE = 0.005
"""Two rounds are alike when their faults differ by less than this share of them."""

_FEWEST_ALIKE = 3
_LONGEST_PERIOD = 4
_MINOR_FAULT_WEIGHT = 0.1  # a minor fault costs about a tenth of a load


class Touch(NamedTuple):
    """A use of ``n_pages`` consecutive pages, in ascending order."""

    operator: int
    """A label that the caller gives, 0 or more; counts are arrays that are indexed by it."""
    first_page: int
    n_pages: int


Touches = NDArray[np.int64]
"""Touches as an array, shape ``(touches, 3)``; the columns are the fields of `Touch`."""


@dataclass(frozen=True, slots=True)
class RoundCounts:
    """Counts of one round. Arrays are indexed by operator, ``int64``, shape ``(operators,)``."""

    loads: int
    """Pages that became resident. In the first round these are mostly zero fills of new pages."""
    evictions: int
    minor_faults: int
    loads_by_operator: NDArray[np.int64]
    evictions_by_operator: NDArray[np.int64]
    minor_faults_by_operator: NDArray[np.int64]
    resident_pages: int
    """Pages in the EPC at the end of the round."""


@dataclass(frozen=True, slots=True)
class PagingCounts:
    """Page faults of one round in the steady state: means over its period.

    Arrays are indexed by operator, ``float64``, shape ``(operators,)``.
    """

    loads: float
    evictions: float
    minor_faults: float
    loads_by_operator: NDArray[np.float64]
    evictions_by_operator: NDArray[np.float64]
    minor_faults_by_operator: NDArray[np.float64]
    resident_pages: int
    """Pages in the EPC at the end of the last simulated round."""
    settled: bool
    """Whether the counts repeat. If not, these are means over the later half of the rounds."""
    rounds: int
    """Simulated rounds, the first, cold one included."""
    period: int
    """Rounds that the means were taken over."""

    @property
    def over_committed(self) -> bool:
        """Whether every round loads pages."""
        return self.loads > 0


def steady_state(
    touches: Sequence[Touch] | Touches,
    epc_pages: int | None,
    policy: ReplacementPolicy = ReplacementPolicy.SECOND_CHANCE,
    *,
    batch: int = RECLAIM_PAGES,
    max_rounds: int = MAX_ROUNDS,
    operators: int | None = None,
    compiled: CompiledReplacement | None = None,
) -> PagingCounts:
    """Count the page faults of one round in the steady state.

    Rounds are repeated, beginning with an empty EPC. The steady state is reached once a round leaves the EPC in
    the same state as an earlier one did: the rounds between the two repeat forever, and the means are taken over
    them. With second chance, the phase of the reclaims can wander for hundreds of rounds while the counts hardly
    change. The steady state is therefore also reached once the faults of the latest rounds repeat, with a period
    of 1 to 4, within `TOLERANCE` or one batch (minor faults weigh a tenth); the means are then taken over those.

    Args:
        touches: the touches of one round, in order.
        epc_pages: pages that fit into the EPC at once; None: all.
        policy: which page is evicted.
        batch: pages that one reclaim looks at.
        max_rounds: give up after this many rounds, and take the means over the later half of them.
        operators: length of the arrays by operator; by default one more than the largest operator touched.
        compiled: the compiled rule, used for the policies that it knows; the counts are the same.

    Raises:
        UsageError: an argument is out of its range.
    """
    if max_rounds < 2:
        raise UsageError(f"max_rounds is {max_rounds}; finding a steady state takes 2 or more rounds")
    simulation = _Simulation(touches, epc_pages, policy, batch, operators, compiled)
    if simulation.pages <= simulation.budget:
        return all_fit(simulation.pages, simulation.operators)
    seen: dict[State | bytes, int] = {}
    history: list[RoundCounts] = []
    while len(history) < max_rounds:
        history.append(simulation.run_round())  # no mean includes the first, cold round
        state = simulation.epc.state()
        if state in seen:
            return _mean(history, len(history) - 1 - seen[state], settled=True)
        seen[state] = len(history) - 1
        if window := _repeating(history, batch):
            return _mean(history, window, settled=True)
    return _mean(history, max_rounds // 2, settled=False)


def simulate(
    touches: Sequence[Touch] | Touches,
    epc_pages: int | None,
    policy: ReplacementPolicy = ReplacementPolicy.SECOND_CHANCE,
    *,
    rounds: int,
    batch: int = RECLAIM_PAGES,
    operators: int | None = None,
    compiled: CompiledReplacement | None = None,
) -> tuple[RoundCounts, ...]:
    """Count the page faults of each of the first ``rounds`` rounds, beginning with an empty EPC.

    Args and errors are those of `steady_state`.
    """
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}; simulate 1 or more")
    simulation = _Simulation(touches, epc_pages, policy, batch, operators, compiled)
    return tuple(simulation.run_round() for _ in range(rounds))


def working_set_pages(touches: Sequence[Touch] | Touches) -> int:
    """Count the distinct pages of the touches.

    An EPC of that size or larger loads nothing in the steady state, under every policy, and a smaller one loads
    pages in every round: only a load evicts, so a round without loads would leave the whole working set resident.
    """
    _, first, n_pages = _as_array(touches).T
    order = first.argsort()
    first = first[order]
    covered_until = np.maximum.accumulate(first + n_pages[order])
    first[1:] = np.maximum(first[1:], covered_until[:-1])
    return int((covered_until - first).sum())


def _as_array(touches: Sequence[Touch] | Touches) -> Touches:
    return np.asarray(touches, dtype=np.int64).reshape(-1, 3)


def all_fit(pages: int, operators: int) -> PagingCounts:
    """Give the page faults of rounds that touch ``pages`` distinct pages, all of which fit: none."""
    none = np.zeros(operators)
    return PagingCounts(0.0, 0.0, 0.0, none, none.copy(), none.copy(), pages, settled=True, rounds=2, period=1)


def _repeating(history: list[RoundCounts], batch: int) -> int:
    """Count the latest rounds that repeat with a short period; 0 if they do not."""
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


class _Simulation:
    """An EPC and the touches that are repeated in it."""

    def __init__(
        self,
        touches: Sequence[Touch] | Touches,
        epc_pages: int | None,
        policy: ReplacementPolicy,
        batch: int,
        operators: int | None,
        compiled: CompiledReplacement | None = None,
    ) -> None:
        touches = _as_array(touches)
        if touches.min(initial=0) < 0:
            touch = touches[(touches < 0).any(axis=1)][0].tolist()
            raise UsageError(f"{Touch(*touch)} has a negative number; operators and pages count from 0")
        largest = int(touches[:, 0].max(initial=-1))
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
        """The EPC, empty at first."""
        if self._compiled is None:
            return ResidentPages(self.budget, self._policy, self._batch)
        return self._compiled.pages(self._touches, self.operators, self.budget, self._policy, self._batch)

    @cached_property
    def _ranges(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """First page and end of each touch; consecutive touches of one operator are grouped."""
        ranges: list[tuple[int, list[tuple[int, int]]]] = []
        for operator, first_page, n_pages in self._touches.tolist():
            if not ranges or ranges[-1][0] != operator:
                ranges.append((operator, []))
            ranges[-1][1].append((first_page, first_page + n_pages))
        return ranges

    def run_round(self) -> RoundCounts:
        """Simulate one round."""
        epc = self.epc
        counts = self._run_in_python(epc) if isinstance(epc, ResidentPages) else epc.run_round()
        loads, evictions, minor_faults = counts
        return RoundCounts(
            loads=int(loads.sum()),
            evictions=int(evictions.sum()),
            minor_faults=int(minor_faults.sum()),
            loads_by_operator=loads,
            evictions_by_operator=evictions,
            minor_faults_by_operator=minor_faults,
            resident_pages=epc.resident,
        )

    def _run_in_python(self, epc: ResidentPages) -> NDArray[np.int64]:
        """Simulate one round: loads, evictions and minor faults; shape ``(3, operators)``."""
        loads = [0] * self.operators
        evictions = [0] * self.operators
        minor_faults = [0] * self.operators
        for operator, ranges in self._ranges:
            loaded, evicted, remapped = epc.loaded, epc.evicted, epc.minor_faults
            epc.touch(ranges)
            loads[operator] += epc.loaded - loaded
            evictions[operator] += epc.evicted - evicted
            minor_faults[operator] += epc.minor_faults - remapped
        return np.array([loads, evictions, minor_faults], dtype=np.int64)
