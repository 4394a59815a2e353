"""Native latency, learned operator by operator and summed; what several learners of one fold share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sectum.measure.reference import References
from sectum.predict import operator_learning
from sectum.predict.features import OperatorFeatures
from sectum.predict.measured import MeasuredNetwork
from sectum.predict.operator_learning import LearnedOperators, learn, observed

Floats = NDArray[np.float64]
T = TypeVar("T")

TREES = 120
PARAMETERS = operator_learning.PARAMETERS | {"learning_rate": 0.12, "num_threads": 1}
"""As the shipped operator models are trained, with fewer trees: an evaluation trains dozens of them."""


class Featured(Protocol):
    """A network as far as native latency depends on it, measured or not."""

    @property
    def features(self) -> OperatorFeatures: ...  # noqa: D102 - see MeasuredNetwork

    @property
    def structure(self) -> str: ...  # noqa: D102

    @property
    def batch(self) -> int: ...  # noqa: D102

    @property
    def threads(self) -> int: ...  # noqa: D102

    @property
    def machine(self) -> str: ...  # noqa: D102


def identity(network: Featured) -> Hashable:
    """What two networks share whose operators are the same on one machine."""
    return network.structure, network.batch, network.threads, network.machine


@dataclass(frozen=True)
class OperatorRows:
    """Operators of several networks, one row each.

    Attributes:
        values: features, float32, shape ``(rows, columns)``.
        groups: name of each row's group.
        roofline: first estimate, in reference units.
        network: index of the row's network.
    """

    values: NDArray[np.float32]
    groups: NDArray[np.str_]
    roofline: Floats
    network: NDArray[np.int64]

    @classmethod
    def of(cls, networks: Sequence[Featured]) -> OperatorRows:
        """Put the operators of networks, at least one, into one table."""
        features = [network.features for network in networks]
        return cls(
            np.concatenate([one.values for one in features]),
            np.array([group for one in features for group in one.groups], dtype=np.str_),
            np.concatenate([one.roofline for one in features]),
            np.repeat(np.arange(len(features)), [len(one.groups) for one in features]),
        )


def reference_ms(references: References) -> float:
    """The unit of everything that is learned: the machine's typical time of the matrix products."""
    return references.products_ms


class NativeModel:
    """Native latency as the sum of operators' times.

    Args:
        learned: times of operators.
    """

    def __init__(self, learned: LearnedOperators) -> None:
        self._learned = learned

    def references(self, networks: Sequence[Featured]) -> Floats:
        """Latency of each network outside enclaves, in reference units; shape ``(networks,)``."""
        different = {identity(network): network for network in networks}
        times = self._learned.references([network.features for network in different.values()])
        sums = {which: float(its.sum()) for which, its in zip(different, times, strict=True)}
        return np.array([sums[identity(network)] for network in networks])


class Shared:
    """What several learners of one fold need, trained once."""

    def __init__(self) -> None:
        self._which: tuple[str, ...] = ()
        self._trained: dict[str, Any] = {}

    def native(self, networks: Sequence[MeasuredNetwork]) -> NativeModel:
        """The native model learned from these networks."""
        return self.once("native", networks, fit)

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


def fit(networks: Sequence[MeasuredNetwork]) -> NativeModel:
    """Learn from the networks whose operators were timed."""
    seen = list(observed(networks))
    return NativeModel(learn(seen, parameters=PARAMETERS, trees=TREES) if seen else LearnedOperators({}, 0.0))
