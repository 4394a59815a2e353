"""What an inference costs in an enclave: native times and page faults, priced by the enclave's profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile, streamed_bytes
from sectum.paging.replacement import PagingCounts
from sectum.predict.operator_model import OperatorModel
from sectum.predict.prediction import Breakdown
from sectum.predict.prepared import Prepared

SOFTEPC = "softepc"


class OutsideTime(NamedTuple):
    """Milliseconds in operators that are not inside the support: at least, as predicted, at most."""

    least: float
    predicted: float
    most: float


@dataclass(frozen=True)
class InferenceCost:
    """One steady-state inference in one enclave.

    Attributes:
        network: that runs.
        counts: its page faults.
        compute_ms: time of each operator's arithmetic, shape ``(operators,)``, as the next two.
        memory_ms: time that slower memory adds to it.
        paging_ms: time of its page faults.
        entry_ms: time to enter and leave the enclave, with the inputs and outputs.
    """

    network: Prepared
    counts: PagingCounts
    compute_ms: NDArray[np.float64]
    memory_ms: NDArray[np.float64]
    paging_ms: NDArray[np.float64]
    entry_ms: float

    @cached_property
    def breakdown_ms(self) -> Breakdown:
        """The inference's time by cause."""
        # Plain sums, in the order of the operators: a prediction is the sum of its layers to the last bit.
        compute, memory, paging = (sum(column.tolist()) for column in (self.compute_ms, self.memory_ms, self.paging_ms))
        return Breakdown(compute, memory, paging + self.entry_ms)

    @property
    def outside_ms(self) -> OutsideTime:
        """The part of the latency, without paging, that lies in operators not like those that were measured.

        Nothing where the native latency is given, not predicted.
        """
        network = self.network
        if network.native_source == "given" or not network.not_inside.any():
            return OutsideTime(0.0, 0.0, 0.0)
        chosen = network.not_inside
        in_enclave_ms = (self.compute_ms + self.memory_ms)[chosen]
        least, most = network.widest_ms[:, chosen] / network.native_ms[chosen] @ in_enclave_ms
        return OutsideTime(float(least), float(in_enclave_ms.sum()), float(most))


def inference_costs(
    operators: OperatorModel, profile: Profile, counted: Sequence[tuple[Prepared, PagingCounts]]
) -> list[InferenceCost]:
    """Price inferences, all in one enclave."""
    costs = []
    for (network, counts), weights in zip(counted, _page_weights(operators, profile, counted), strict=True):
        entry_ms = profile.entry_ms(network.crossing_bytes, network.threads)
        streamed = np.array([streamed_bytes(cost.weight_bytes, cost.flops) for cost in network.features.costs])
        compute_ms, memory_ms, paging_ms = profile.by_operator_ms(network.native_ms, streamed, counts, network.threads)
        costs.append(InferenceCost(network, counts, compute_ms, memory_ms, paging_ms * weights, entry_ms))
    return costs


def all_paging_ms(operators: OperatorModel, profile: Profile, network: Prepared, counts: PagingCounts) -> float:
    """Time of all page faults of an inference."""
    (weights,) = _page_weights(operators, profile, [(network, counts)])
    weighted = replace(
        counts,
        loads=float(weights @ counts.loads_by_operator),
        evictions=float(weights @ counts.evictions_by_operator),
        minor_faults=float(weights @ counts.minor_faults_by_operator),
    )
    return profile.paging_ms(weighted, network.threads)


def _page_weights(
    operators: OperatorModel, profile: Profile, counted: Sequence[tuple[Prepared, PagingCounts]]
) -> list[NDArray[np.float64]]:
    """For each inference the cost of a page that each operator touches, over the mean cost of a page."""
    if profile.name != SOFTEPC:  # on what the cost of a page depends in hardware is not known
        return [np.ones(len(network.features.kinds)) for network, _ in counted]
    inferences = [(network.features, counts) for network, counts in counted]
    corrections = operators.page_corrections(inferences, profile.epc_pages)
    return [
        correction * operators.page_weights(features)
        for (features, _), correction in zip(inferences, corrections, strict=True)
    ]
