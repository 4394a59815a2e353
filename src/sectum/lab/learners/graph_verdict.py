"""Stage 1 of the paper as it is learned: the detector's graph neural network. Importing this loads PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sectum.lab.detector.detector import Detector
from sectum.lab.detector.fitting import Example, FittedDetector, fit
from sectum.lab.learners.learner import LatencyCase
from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork
from sectum.lab.learners.splits import fold_numbers
from sectum.lab.learners.two_stage import Verdicts
from sectum.ort.cpu import Cpu
from sectum.predict.overcommit import FEWEST
from sectum.units import PAGE_BYTES

EPOCHS = 12
"""How often each network is seen in training. The shipped networks take more, as they are trained once only."""
_FOLDS = 5
"""One of so many parts of the networks is kept for calibration."""


class GraphVerdict:
    """A detector for each kind of CPU: with AVX-512 the runtime executes other graphs than with AVX2."""

    def fit(self, networks: Sequence[MeasuredNetwork]) -> FittedGraphVerdict:
        """Train on measured working sets.

        Raises:
            UsageError: too few networks.
        """
        by_cpu: dict[Cpu, list[MeasuredNetwork]] = {}
        for network in networks:
            by_cpu.setdefault(network.cpu, []).append(network)
        largest = max(by_cpu, key=lambda cpu: len(by_cpu[cpu]), default=Cpu.SSE)
        return FittedGraphVerdict(
            {
                cpu: detector_of(its, EPOCHS)
                for cpu, its in sorted(by_cpu.items(), key=lambda item: item[0] != largest)
                if cpu == largest or len(its) >= FEWEST
            }
        )


def detector_of(networks: Sequence[MeasuredNetwork], epochs: int) -> FittedDetector:
    """Train a detector on networks of one kind of CPU; a part of them is kept for its calibration.

    Networks that touch no memory which is paged are left out: their working set has no logarithm.
    """
    torch.set_num_threads(1)  # the graphs are small: more threads wait for each other
    networks = [network for network in networks if network.working_set_bytes > 0]
    numbers = fold_numbers(networks, folds=_FOLDS).tolist()
    training = [network for network, number in zip(networks, numbers, strict=True) if number > 0]
    validation = [network for network, number in zip(networks, numbers, strict=True) if number == 0]
    if len(validation) < FEWEST:
        training = validation = list(networks)
    return fit(_examples(training), _examples(validation), visits=epochs * len(training))


def _examples(networks: Sequence[MeasuredNetwork]) -> list[Example]:
    """What the detector learns from."""
    return [(network.graph_features, float(network.working_set_bytes)) for network in networks]


@dataclass(frozen=True)
class FittedGraphVerdict:
    """Detectors by the kind of CPU; the first one is used for kinds that have none."""

    detectors: Mapping[Cpu, FittedDetector | Detector]

    def judge(self, cases: Sequence[LatencyCase]) -> Verdicts:
        """Judge cases in an enclave."""
        probability, working_set_bytes = np.zeros(len(cases)), np.zeros(len(cases))
        networks: dict[int, KnownNetwork] = {id(case.network): case.network for case in cases}
        for cpu in {network.cpu for network in networks.values()}:
            its = [network for network in networks.values() if network.cpu == cpu]
            place = {id(network): index for index, network in enumerate(its)}
            lines = [line for line, case in enumerate(cases) if id(case.network) in place]
            detector = self.detectors.get(cpu) or next(iter(self.detectors.values()))
            found = detector.working_sets([network.graph_features for network in its])
            rows = [place[id(cases[line].network)] for line in lines]
            epc_bytes = [max(1, cases[line].epc_pages or 0) * PAGE_BYTES for line in lines]
            probability[lines] = found.of(rows).over_commitment(epc_bytes)
            working_set_bytes[lines] = found.n_bytes()[rows]
        return Verdicts(probability, working_set_bytes)
