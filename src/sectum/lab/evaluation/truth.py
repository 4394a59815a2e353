"""The table that predictions are judged against: one line for each network, natively and under each EPC size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.lab.dataset.dataset import BOUNDARY
from sectum.lab.learners.measured import MeasuredNetwork, MeasuredRun
from sectum.lab.learners.splits import relatives

REGIMES = ("native", "fits", "pages")
"""Outside enclaves; in an enclave that holds the working set; in one that does not."""


@dataclass(frozen=True)
class Truth:
    """What was measured; all arrays have shape ``(cases,)``.

    Attributes:
        network: index of the case's network among those given.
        run: index among the network's runs in the enclave; -1 natively.
        measured_ms: latency.
        over_committed: whether it pages.
        epc_ratio: working set / EPC; 0 natively.
        regime: index in `REGIMES`.
        family: name.
        group: of near relatives; see `relatives`.
    """

    network: NDArray[np.int64]
    run: NDArray[np.int64]
    measured_ms: NDArray[np.float64]
    over_committed: NDArray[np.bool_]
    epc_ratio: NDArray[np.float64]
    regime: NDArray[np.int64]
    family: NDArray[np.str_]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.network)

    @property
    def in_enclave(self) -> NDArray[np.bool_]:
        """Cases that are not native: the rows of the dataset."""
        return self.run >= 0

    @property
    def boundary(self) -> NDArray[np.bool_]:
        """Cases whose working set and EPC are of about one size."""
        return (self.epc_ratio >= BOUNDARY[0]) & (self.epc_ratio <= BOUNDARY[1])


def truth(networks: Sequence[MeasuredNetwork]) -> Truth:
    """All cases of the networks in their order, each network's native one first; repeats are left out."""
    groups = relatives(networks)
    lines: list[tuple[int, int, MeasuredRun]] = []
    for index, network in enumerate(networks):
        if not network.is_repeat:
            lines += [(index, number - 1, run) for number, run in enumerate((network.native, *network.runs))]
    owners = np.array([index for index, _, _ in lines], dtype=np.int64)
    runs = [run for _, _, run in lines]
    over_committed = np.array([run.over_committed and run.epc_bytes is not None for run in runs], dtype=bool)
    number = np.array([number for _, number, _ in lines], dtype=np.int64)
    return Truth(
        network=owners,
        run=number,
        measured_ms=np.array([run.latency_ms for run in runs], dtype=np.float64),
        over_committed=over_committed,
        epc_ratio=np.array([networks[i].epc_ratio(run) for i, _, run in lines], dtype=np.float64),
        regime=np.where(number < 0, 0, np.where(over_committed, 2, 1)),
        family=np.array([networks[i].family for i in owners.tolist()], dtype=np.str_),
        group=groups[owners],
    )


def run_of(networks: Sequence[MeasuredNetwork], network: int, run: int) -> MeasuredRun:
    """The measurement that a line of `Truth` stands for."""
    return networks[network].native if run < 0 else networks[network].runs[run]
