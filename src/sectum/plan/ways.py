"""Ways to need less memory for activations: other orders of the operators, and divisions by rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from sectum.ort.optimized import OptimizedGraph
from sectum.plan.divisions import DivisionSearch
from sectum.plan.order import in_order, least_peak_order
from sectum.plan.rows import Divider, Division
from sectum.plan.strip_costs import StripCosts

_SHARES_OF_EPC = (0.75, 0.5, 0.35, 0.25, 0.15)
"""What activations may take of the EPC, as is tried."""
_SMALL_SHARE = 0.15
_COARSE = 8
"""So many times what starting a stage costs, in a search that is to find fewer and larger strips."""


@dataclass(frozen=True)
class Way:
    """A way to run a network.

    Attributes:
        graph: what the runtime executes, in the order of this way.
        order: positions of the operators in the runtime's order; None where it is this order.
        divisions: by rows.
        activation_bytes: estimated, alive at once.
    """

    graph: OptimizedGraph
    order: tuple[int, ...] | None = None
    divisions: tuple[Division, ...] = field(default=())
    activation_bytes: int = 0

    def in_order(self, values: Sequence[float]) -> list[float]:
        """Values of the operators in the runtime's order, put into the order of this way."""
        return list(values) if self.order is None else [values[place] for place in self.order]


def other_ways(
    graph: OptimizedGraph,
    compute_ms: Sequence[float],
    epc_bytes: int,
    stage_ms: float,
    threads: int,
    costs: StripCosts | None = None,
    *,
    coarse: bool = False,
) -> list[Way]:
    """All ways beside the runtime's own that are worth a try.

    Args:
        graph: what the runtime executes.
        compute_ms: time of each operator in the enclave, without paging.
        epc_bytes: of the enclave.
        stage_ms: to start a stage.
        threads: that compute.
        costs: of strips, of other networks as well; None to begin with none.
        coarse: whether to search for fewer and larger strips, too. What activations take is estimated, so the cheapest
            strips by that estimate are not always those of the best plan.
    """
    costs = costs or StripCosts()
    peak_bytes = graph.lifetimes.peak_bytes
    if peak_bytes <= _SMALL_SHARE * epc_bytes:
        return []  # weights decide
    orders = [Way(graph, activation_bytes=peak_bytes)]
    order = least_peak_order(graph)
    if order != sorted(order):
        other = in_order(graph, order)
        if other.lifetimes.peak_bytes < peak_bytes:
            orders.append(Way(other, tuple(order), activation_bytes=other.lifetimes.peak_bytes))
    found = orders[1:]
    for way in orders:
        divider, own_ms = Divider(way.graph), way.in_order(compute_ms)
        searches = [
            DivisionSearch(divider, own_ms, times * stage_ms, threads, costs)
            for times in ((1, _COARSE) if coarse else (1,))
        ]
        tried: set[tuple[tuple[int, int, int], ...]] = {()}
        for search, share in product(searches, _SHARES_OF_EPC):
            target_bytes = int(share * epc_bytes)
            if target_bytes >= way.activation_bytes:
                continue
            chosen = search.within(target_bytes)
            key = tuple((one.first, len(one.operators), one.rows) for one in chosen)
            if key not in tried:
                tried.add(key)
                found.append(Way(way.graph, way.order, chosen, search.activation_bytes(chosen)))
    return found
