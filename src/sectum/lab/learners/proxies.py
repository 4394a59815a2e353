"""Proxies of latency: operations and bytes; the native latency times a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.lab.learners.learner import LatencyCase, LatencyEstimate
from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork
from sectum.lab.learners.native import NativeModel, Shared
from sectum.lab.learners.regression import factor, proportional

Floats = NDArray[np.float64]


class FlopsAndBytes:
    """Linear regression on operations, bytes of activations and bytes of weights, natively and in enclaves apart.

    The size of the EPC is not among its columns: that is what makes it a proxy.
    """

    name = "flops-bytes"

    def fit(self, networks: Sequence[MeasuredNetwork]) -> _FittedLinear:
        """Fit both regressions by least squares of relative errors."""
        amounts = np.array([_amounts(network) for network in networks])
        units = np.array([network.unit_ms for network in networks])
        native = np.array([network.native.latency_ms for network in networks]) / units
        owners = np.array([index for index, network in enumerate(networks) for _ in network.runs], dtype=np.int64)
        enclave = np.array([run.latency_ms for network in networks for run in network.runs]) / units[owners]
        return _FittedLinear(proportional(amounts, native), proportional(amounts[owners], enclave))


@dataclass(frozen=True)
class _FittedLinear:
    native: Floats
    enclave: Floats

    def predict(self, cases: Sequence[LatencyCase]) -> list[LatencyEstimate]:
        return [
            LatencyEstimate(
                float(_amounts(case.network) @ (self.native if case.epc_pages is None else self.enclave))
                * case.network.unit_ms
            )
            for case in cases
        ]


def _amounts(network: KnownNetwork) -> Floats:
    costs = network.features.costs
    return np.array(
        [
            sum(cost.flops for cost in costs),
            sum(cost.input_bytes + cost.output_bytes for cost in costs),
            sum(cost.weight_bytes for cost in costs),
            1.0,
        ]
    )


class NativeTimesConstant:
    """The learned native latency; in an enclave, times the constant that errs least there."""

    name = "native-times-constant"

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def fit(self, networks: Sequence[MeasuredNetwork]) -> _FittedConstant:
        """Learn native latencies, and the constant from the measured ratios."""
        pairs = [(network.native.latency_ms, run.latency_ms) for network in networks for run in network.runs]
        native, enclave = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        return _FittedConstant(self._shared.native(networks), factor(native, enclave))


@dataclass(frozen=True)
class _FittedConstant:
    native: NativeModel
    constant: float

    def predict(self, cases: Sequence[LatencyCase]) -> list[LatencyEstimate]:
        native = self.native.normalized_latency([case.network for case in cases])
        return [
            LatencyEstimate(float(time) * case.network.unit_ms * (1 if case.epc_pages is None else self.constant))
            for case, time in zip(cases, native, strict=True)
        ]
