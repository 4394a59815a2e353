"""Native latency as a sum of learned operator times, and what the learners of a fold share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sectum.lab.learners.lone_operators import LoneOperators
from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork
from sectum.lab.learners.operator_learning import LearnedOperators, learn, observed
from sectum.ort.cpu import Cpu
from sectum.predict.linear_times import LinearTimes
from sectum.predict.operator_model import Overheads

Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class OperatorRows:
    """Operators of several networks, one row each.

    Attributes:
        values: features, float32, shape ``(rows, columns)``.
        groups: name of each row's group.
        roofline: first estimate, normalized.
        network: index of the row's network.
    """

    values: NDArray[np.float32]
    groups: NDArray[np.str_]
    roofline: Floats
    network: NDArray[np.int64]

    @classmethod
    def of(cls, networks: Sequence[KnownNetwork]) -> OperatorRows:
        """Put the operators of networks, at least one, into one table."""
        features = [network.features for network in networks]
        return cls(
            np.concatenate([one.values for one in features]),
            np.array([group for one in features for group in one.kinds], dtype=np.str_),
            np.concatenate([one.roofline for one in features]),
            np.repeat(np.arange(len(features)), [len(one.kinds) for one in features]),
        )


class NativeModel:
    """Native latency as the sum of operators' times.

    Args:
        learned: times of operators, by the kind of CPU: with AVX-512 the runtime runs other kernels, on other shapes,
            than with AVX2.
    """

    def __init__(self, learned: Mapping[Cpu, LearnedOperators]) -> None:
        self.learned = learned

    def of(self, cpu: Cpu) -> LearnedOperators:
        """What was learned on such machines, or on others where there were none."""
        return self.learned.get(cpu) or next(iter(self.learned.values()))

    def normalized_times(self, networks: Sequence[KnownNetwork]) -> list[Floats]:
        """Normalized native times of each network's operators."""
        different = {network.identity: network for network in networks}
        found: dict[Hashable, Floats] = {}
        for cpu in {network.cpu for network in different.values()}:
            some = {which: network for which, network in different.items() if network.cpu == cpu}
            times = self.of(cpu).normalized_times([network.features for network in some.values()])
            found |= dict(zip(some, times, strict=True))
        return [found[network.identity] for network in networks]

    def normalized_latency(self, networks: Sequence[KnownNetwork]) -> Floats:
        """Normalized native latency of each network; shape ``(networks,)``."""
        return np.array([times.sum() for times in self.normalized_times(networks)])


class Shared:
    """What several learners of one fold need, trained once.

    Args:
        lone: operators that are learned from beside the networks.
    """

    def __init__(self, lone: LoneOperators | None = None) -> None:
        self.lone = lone or {}
        self._which: tuple[str, ...] = ()
        self._trained: dict[str, Any] = {}

    def native(self, networks: Sequence[MeasuredNetwork]) -> NativeModel:
        """The native model learned from these networks."""
        return self.once("native", networks, partial(fit, lone=self.lone))

    def once(
        self, what: str, networks: Sequence[MeasuredNetwork], train: Callable[[Sequence[MeasuredNetwork]], T]
    ) -> T:
        """What ``train`` makes of the networks; kept under the name ``what`` until other networks are given."""
        which = tuple(f"{network.machine} {network.key}" for network in networks)
        if which != self._which:
            self._which, self._trained = which, {}
        if what not in self._trained:
            self._trained[what] = train(networks)
        trained: T = self._trained[what]
        return trained


def fit(networks: Sequence[MeasuredNetwork], lone: LoneOperators) -> NativeModel:
    """Learn from the networks whose operators were timed, and from lone operators of the same kinds of CPU."""
    learned = {}
    for cpu in sorted({network.cpu for network in networks}, key=lambda cpu: cpu.nchwc_block):
        seen = list(observed(network for network in networks if network.cpu == cpu))
        if seen:
            learned[cpu] = learn([*seen, *lone.get(cpu, ())])
    return NativeModel(learned or {Cpu.SSE: LearnedOperators(LinearTimes({}), {}, {}, Overheads(0.0, 0.0))})
